"""Join the sections under ``tools/calibration/`` into the calibration file that comes with the package.

A section is written by hand where its constants are priors, and by its script under ``tools/fit/`` where they
are fitted; each says in ``source`` which. ``about.toml`` names the file and what it was fitted on.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = HERE.parent / "src/rigwise/estimate/calibration"
SECTIONS = (
    "gemm", "conv", "cpu", "attention", "memory", "launch", "power", "collective", "memory_terms", "interval",
    "correlation", "learning",
)  # fmt: skip
HEADER = """# Written by tools/write_calibration.py. Do not edit by hand.
# Efficiencies are fractions of a physical limit; each table says where it comes from.

schema = 1
"""


def content() -> str:
    """The whole file."""
    parts = [HEADER + _read("about"), *(_read(name) for name in SECTIONS)]
    return "\n".join(parts)


def _read(name: str) -> str:
    return (HERE / "calibration" / f"{name}.toml").read_text(encoding="utf-8")


def main() -> None:
    text = content()
    name = tomllib.loads(text)["name"]
    (TARGETS / f"{name}.toml").write_text(text, encoding="utf-8")
    print(f"wrote {name}.toml, {len(text) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
