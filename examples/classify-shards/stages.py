"""The functions of app.toml: read tar shards, decode JPEGs, resize, classify, count."""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SHARDS = Path(os.environ.get("SHARDS", Path(__file__).with_name("shards")))
SIDE = 128
CLASSES = 10
counts: Counter[int] = Counter()


def read() -> Iterator[bytes]:
    """JPEGs of all shards, over and over."""
    shards = sorted(SHARDS.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"no shards in {SHARDS}: run python make_shards.py")
    while True:
        for shard in shards:
            with tarfile.open(shard) as archive:
                for entry in archive:
                    file = archive.extractfile(entry)
                    assert file is not None
                    yield file.read()


def decode(jpeg: bytes) -> Image.Image:
    """Pixels; Pillow lets other threads run meanwhile."""
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def resize(image: Image.Image) -> np.ndarray:
    """A square of ``SIDE`` pixels, channels first, mean 0 and deviation 1."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return ((pixels - pixels.mean()) / (pixels.std() + 1e-6)).transpose(2, 0, 1)


def network() -> torch.nn.Module:
    """A small convolutional network."""
    layers: list[torch.nn.Module] = []
    for wide, wider in ((3, 16), (16, 32), (32, 64), (64, 128)):
        layers += [torch.nn.Conv2d(wide, wider, 3, stride=2, padding=1), torch.nn.BatchNorm2d(wider), torch.nn.ReLU()]
    return torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(128, CLASSES)
    )


def captured() -> tuple[torch.nn.Module, torch.Tensor]:
    """The network with an example input: its cost on a device that is not here comes from its graph."""
    return network(), torch.zeros(2, 3, SIDE, SIDE)


class Classify:
    """Classes of a batch of images; the network is made once for each worker."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.network = network().eval()

    def __call__(self, images: list[np.ndarray]) -> list[int]:
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(np.stack(images)))
        return scores.argmax(dim=1).tolist()


def count(label: int) -> None:
    """How often each class came."""
    counts[label] += 1
