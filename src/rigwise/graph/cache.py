"""Captures kept on disk, so that the same configuration is captured once.

An entry is named by a hash of all that can change it: the configuration, the versions of
rigwise, PyTorch and transformers, and the code that captures. So no entry is ever out of
date, and the cache can be deleted at any time. An entry that cannot be read is captured
again, and a place that cannot be written to costs only time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.graph.graph import Model
from rigwise.graph.rwg import read_model, write_model


def cache_folder() -> Path | None:
    """Where captures are kept: ``RIGWISE_CACHE``, else the platform's place for caches.

    None where there is no such place, as for a user without a home.
    """
    if chosen := os.environ.get("RIGWISE_CACHE"):
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "rigwise" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "rigwise"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "rigwise"


def capture_key(content: Mapping[str, Any], packages: Sequence[str] = ("torch", "transformers")) -> str:
    """The name of the entry for what is captured, under the installed versions of what captures it.

    Args:
        content: A configuration, or whatever else tells one model from another (a file as its digest).
        packages: What the graph depends on beside rigwise.
    """
    versions = {package: _installed(package) for package in ("rigwise", *packages)}
    text = json.dumps({"content": content, "versions": versions}, sort_keys=True)
    return hashlib.sha256(text.encode() + _capture_code()).hexdigest()


def _capture_code() -> bytes:
    """The modules that capture, so that a change to one of them between two releases counts too."""
    modules = (file for file in files("rigwise.graph.capture").iterdir() if file.name.endswith(".py"))
    return b"".join(file.read_bytes() for file in sorted(modules, key=lambda file: file.name))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def cached_capture(key: str, capture: Callable[[], Model]) -> Model:
    """The entry ``key``, or what ``capture`` returns, kept for the next time."""
    folder = cache_folder()
    if folder is None:
        return capture()
    entry = folder / "captures" / f"{key}.rwg"
    if entry.is_file():
        with contextlib.suppress(InvalidInputError):
            return read_model(entry)
    model = capture()
    with contextlib.suppress(InvalidInputError, OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_model(entry, model)
    return model
