"""Fail if a pip resolution (``pip install --dry-run --report FILE``) would bring a CUDA build."""

import json
import re
import sys

#: Packages that only a CUDA build of a framework asks for. nvidia-ml-py reads sensors and needs no CUDA.
CUDA_ONLY = re.compile(r"^(nvidia-(?!ml-py)|cuda-|cupy|triton|pytorch-triton|jax-cuda|tensorrt)")


def main(path: str) -> int:
    """Print what would be installed; 1 if any of it is a CUDA package or another torch."""
    with open(path, encoding="utf-8") as stream:
        chosen = {row["metadata"]["name"].lower(): row["metadata"]["version"] for row in json.load(stream)["install"]}
    unwanted = sorted(name for name in chosen if CUDA_ONLY.match(name) or name == "torch")
    print(f"[all] adds {len(chosen)} packages")
    if unwanted:
        print("and would bring: " + ", ".join(f"{name} {chosen[name]}" for name in unwanted))
    return 1 if unwanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
