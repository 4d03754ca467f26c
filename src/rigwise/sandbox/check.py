"""Does this environment work: the framework imports, sees its GPUs, computes the same on each, and processes can talk.

python check.py --devices 2            what one process sees
torchrun --nproc-per-node=2 check.py   the same in each process, and an all-reduce between them

Copied beside the files that set an environment up, so it needs nothing but the framework. Exit code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

#: Of matrices of this size, against the same product in fp64 on the CPU.
SIZE = 256
#: Relative error of a product of that size that no correct device exceeds; tf32 keeps 10 bits of a mantissa. For the
#: frameworks that choose the format by themselves; of PyTorch each format has its own, ``tolerance_frac``.
TOLERANCE = 2e-2
#: Unit roundoff of each format: 2 to the minus its significant bits. Source: IEEE 754 for 64, 32 and 16 bits; NVIDIA,
#: "A100 Tensor Core GPU Architecture", for tf32 (11 bits) and bfloat16 (8 bits).
ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def check_torch(devices: int | None) -> list[str]:
    """Faults of PyTorch here; ``devices`` is how many GPUs have to be seen, None for any number."""
    torch = import_module("torch")
    seen = torch.cuda.device_count()
    say(f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, {seen} GPUs")
    faults = [f"{seen} GPUs are seen, {devices} are expected"] if devices is not None and seen != devices else []
    places = [f"cuda:{number}" for number in range(seen)] or ["cpu"]
    for place in places:
        faults += [f"{place}: {fault}" for fault in _product_of_torch(torch, place)]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        faults += _all_reduce(torch, seen)
    return faults


def _product_of_torch(torch: Any, place: str) -> list[str]:
    """Faults of a matrix product on one device, by number format."""
    faults = []
    for name, status, text in products_of_torch(torch, place):
        if status == "problem":
            faults.append(f"{name}: {text}")
        elif status == "ok":
            say(f"{place} {name}: matrix product {text}")
    return faults


def tolerance_frac(name: str, spread: float) -> float:
    """Error of a product in a format, over its largest entry, that correct rounding cannot exceed.

    Both factors are rounded to the format, their products added up in fp32 or better, and the sum is rounded again.
    ``spread`` is the largest entry of the product of the absolute values over the largest entry of the product itself.
    Source: Higham, "Accuracy and Stability of Numerical Algorithms", section 3.5 (stated from memory).

    >>> tolerance_frac("float16", 2.0) == 5 * 2.0**-11 + 2 * 256 * 2.0**-24
    True
    """
    rounding = ROUNDING[name]
    added = SIZE * min(rounding, ROUNDING["float32"])
    return (2 * rounding + added) * spread + rounding


def products_of_torch(torch: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """Format, ``ok``, ``problem`` or ``unknown``, and what was seen, of a matrix product on one device."""
    torch.manual_seed(0)
    left, right = torch.randn(SIZE, SIZE, dtype=torch.float64), torch.randn(SIZE, SIZE, dtype=torch.float64)
    expected = left @ right
    spread = float((left.abs() @ right.abs()).max() / expected.abs().max())
    for name in ROUNDING:
        if why := _cannot(torch, place, name):
            yield name, "unknown", why
            continue
        kind = getattr(torch, name, torch.float32)  # tf32 is a way to compute with fp32
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        try:
            found = (left.to(place, kind) @ right.to(place, kind)).to("cpu", torch.float64)
        except (RuntimeError, TypeError) as error:
            yield name, "problem", str(error).splitlines()[0]
            continue
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
        off, allowed = float((found - expected).abs().max() / expected.abs().max()), tolerance_frac(name, spread)
        fits = off <= allowed  # which no NaN is
        text = f"{'agrees with fp64 to' if fits else 'is off by'} {off:.1e} (limit {allowed:.1e})"
        yield name, "ok" if fits else "problem", text


def _cannot(torch: Any, place: str, name: str) -> str:
    """Why a device does not compute in a format; empty if it does."""
    if name == "tf32":
        if not place.startswith("cuda") or torch.version.hip:
            return "only NVIDIA GPUs have it"
        if torch.cuda.get_device_capability(place) < (8, 0):
            return "this GPU is older than it"
    return "Metal has no such format" if name == "float64" and place.startswith("mps") else ""


def _all_reduce(torch: Any, seen: int) -> list[str]:
    """Faults of a sum over all processes of this job."""
    collective = import_module("torch.distributed")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}" if seen else "cpu"
    backend = "nccl" if seen else "gloo"
    if seen:
        torch.cuda.set_device(place)
    collective.init_process_group(backend)
    total = torch.full((1,), float(rank + 1), device=place)
    collective.all_reduce(total)
    collective.destroy_process_group()
    expected = size * (size + 1) / 2
    say(f"process {rank} of {size}: all-reduce over {backend} gives {total.item():g}")
    return [] if total.item() == expected else [f"all-reduce gives {total.item():g}, not {expected:g}"]


def check_jax(devices: int | None) -> list[str]:
    """Faults of JAX here."""
    jax, numpy = import_module("jax"), import_module("numpy")
    found = [device for device in jax.devices() if device.platform != "cpu"]
    say(f"jax {jax.__version__}, {len(found)} GPUs")
    faults = [f"{len(found)} GPUs are seen, {devices} are expected"] if devices not in (None, len(found)) else []
    matrix = numpy.random.default_rng(0).standard_normal((SIZE, SIZE))
    expected = matrix @ matrix
    for device in found or jax.devices():
        here = jax.device_put(matrix.astype("float32"), device)
        off = float(abs(numpy.asarray(here @ here, dtype="float64") - expected).max() / abs(expected).max())
        say(f"{device}: matrix product agrees with fp64 to {off:.1e}")
        faults += [f"{device}: a matrix product is off by {off:.1e}"] if not off < TOLERANCE else []
    return faults


def check_tensorflow(devices: int | None) -> list[str]:
    """Faults of TensorFlow here."""
    tensorflow, numpy = import_module("tensorflow"), import_module("numpy")
    found = tensorflow.config.list_physical_devices("GPU")
    say(f"tensorflow {tensorflow.__version__}, {len(found)} GPUs")
    faults = [f"{len(found)} GPUs are seen, {devices} are expected"] if devices not in (None, len(found)) else []
    matrix = numpy.random.default_rng(0).standard_normal((SIZE, SIZE))
    expected = matrix @ matrix
    for name in [f"/GPU:{number}" for number in range(len(found))] or ["/CPU:0"]:
        with tensorflow.device(name):
            product = tensorflow.linalg.matmul(matrix.astype("float32"), matrix.astype("float32")).numpy()
        off = float(abs(product - expected).max() / abs(expected).max())
        say(f"{name}: matrix product agrees with fp64 to {off:.1e}")
        faults += [f"{name}: a matrix product is off by {off:.1e}"] if not off < TOLERANCE else []
    return faults


CHECKS: dict[str, Callable[[int | None], list[str]]] = {
    "torch": check_torch,
    "jax": check_jax,
    "tensorflow": check_tensorflow,
}


def say(text: str) -> None:
    """One line, at once, so that the lines of several processes stay in order."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Check one framework; 0 if it works."""
    parser = argparse.ArgumentParser(description="Does this environment work?")
    parser.add_argument("--framework", choices=sorted(CHECKS), default="torch")
    parser.add_argument("--devices", type=int, help="GPUs that have to be seen; any number without it")
    given = parser.parse_args(arguments)
    try:
        faults = CHECKS[given.framework](given.devices)
    except ImportError as error:
        faults = [f"{given.framework} does not import: {error}"]
    for fault in faults:
        sys.stderr.write(f"check: {fault}\n")
    say("not in order" if faults else "in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
