"""Make JPEGs of photograph size and pack them into tar shards: ``python make_shards.py [FOLDER]``."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SHARDS, IMAGES_IN_A_SHARD = 4, 64
WIDTH, HEIGHT = 500, 375


def picture(number: int) -> bytes:
    """A JPEG of blurred noise, about as large as a photograph of this size."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (HEIGHT // 12, WIDTH // 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(smooth + random.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def make(folder: Path, shards: int = SHARDS, images: int = IMAGES_IN_A_SHARD) -> None:
    """Write the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:04}.tar", "w") as archive:
            for index in range(images):
                content = picture(shard * images + index)
                entry = tarfile.TarInfo(f"{index:06}.jpg")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shards"))
