"""How many images a second come out of the input pipeline: decoding alone, and PyTorch's loader by its workers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rigwise.bench.framework import torch_or_none, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, Context, Raw

#: A picture of ImageNet, and what networks see of it. Source: Russakovsky et al., "ImageNet Large Scale Visual
#: Recognition Challenge", 2015 (mean resolution); He et al., "Deep Residual Learning", 2016 (crop).
WIDTH, HEIGHT, CROP = 469, 387, 224
_COUNT, _BATCH = 64, 16
#: With less time for a figure the numbers of workers between are left out.
_SWEEP_S = 1.0


def run(context: Context) -> Iterator[Raw]:
    """Decode on one core; then whole loaders by the number of their workers."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        yield Raw(name="loader", unit=ITEMS, skipped="pip install pillow, which decodes the pictures")
        return
    pictures = Pictures(context.seed)
    if is_wanted(context, "loader.decode"):
        timing = measure(lambda: pictures[0], context.each_s)
        shown = {"pixels": WIDTH * HEIGHT, "bytes": len(pictures.encoded[0]), "threads": 1}
        yield Raw(name="loader.decode", unit=ITEMS, timing=timing, parameters=shown, note="JPEG, cut to 224 x 224")
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="loader.workers", unit=ITEMS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    for workers in counts(context):
        name = f"loader.workers{workers}" if workers else "loader.no-workers"
        if is_wanted(context, name):
            try:
                yield _loaded(torch, context, pictures, name, workers)
            except (RuntimeError, OSError) as error:
                yield Raw(name=name, unit=ITEMS, skipped=why_not(error))


def counts(context: Context) -> list[int]:
    """None and one for each thread; with a second or more for a figure also 1, 2, 4 ... between them.

    >>> counts(Context(threads=6, each_s=3.0)), counts(Context(threads=6, each_s=0.4))
    ([0, 1, 2, 4, 6], [0, 6])
    """
    between = [2**power for power in range(12) if 2**power < context.threads] if context.each_s >= _SWEEP_S else []
    return sorted({0, *between, context.threads})


def _loaded(torch: Any, context: Context, pictures: Pictures, name: str, workers: int) -> Raw:
    """Passes over the pictures, the start of the workers apart."""
    loader = torch.utils.data.DataLoader(
        pictures, batch_size=_BATCH, num_workers=workers, persistent_workers=workers > 0
    )

    def whole() -> None:
        for _ in loader:
            pass

    timing = measure(whole, 2 * context.each_s)
    shown = {"workers": workers, "batch": _BATCH, "pictures": _COUNT}
    return Raw(name=name, unit=ITEMS, amount=float(_COUNT), timing=timing, parameters=shown)


class Pictures:
    """JPEG pictures in memory; taking one decodes it and cuts out its middle.

    Args:
        seed: Of what they show: smooth shapes with some noise, as photographs have both.
    """

    def __init__(self, seed: int) -> None:
        import numpy as np
        from PIL import Image

        random = np.random.default_rng(seed)
        self.encoded: list[bytes] = []
        across, down = np.linspace(0, 9, WIDTH), np.linspace(0, 7, HEIGHT)
        for _ in range(4):
            phase = random.uniform(0, 6, 3)
            smooth = np.sin(across[None, :, None] + phase) * np.cos(down[:, None, None] + phase)
            noisy = 127 + 90 * smooth + random.normal(0, 12, (HEIGHT, WIDTH, 3))
            held = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(held, "JPEG", quality=90)
            self.encoded.append(held.getvalue())

    def __len__(self) -> int:
        return _COUNT

    def __getitem__(self, place: int) -> Any:
        import numpy as np
        from PIL import Image

        if not 0 <= place < _COUNT:
            raise IndexError(place)
        with Image.open(io.BytesIO(self.encoded[place % len(self.encoded)])) as picture:
            left, top = (WIDTH - CROP) // 2, (HEIGHT - CROP) // 2
            return np.asarray(picture.convert("RGB").crop((left, top, left + CROP, top + CROP)))
