"""What the predictions are judged on elsewhere, so that nothing here may be fitted on it."""

from __future__ import annotations

import hashlib
import re

from measured.row import Row

#: Left out in whatever table they stand.
_DEVICES = ("RTX 5090", "RTX PRO 6000", "i7-12700H")
#: Left out of one table.
_DEVICES_OF = {"cnn-benchmarks": ("GTX 1080", "GTX 1080 Ti"), "llm-foundry": ("H100",)}


def family_of(model: str) -> str:
    """The name of a timm network up to its first underscore or digit."""
    return re.split(r"[_\d]", model, maxsplit=1)[0]


def is_held_out(row: Row) -> bool:
    """Whether a row belongs to the part that is only for judging."""
    device = row["device"]
    if any(name in device for name in _DEVICES) or device in _DEVICES_OF.get(row["source"], ()):
        return True
    if re.search(r"PyTorch 2\.9\b", row["framework"]):
        return True
    digest = hashlib.md5(family_of(row["model"]).encode(), usedforsecurity=False).hexdigest()
    return row["source"] == "timm" and int(digest, 16) % 5 == 0
