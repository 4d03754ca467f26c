"""Captures kept on disk, so that the same configuration is captured once.

An entry is named by a hash of all that can change it: the configuration, the versions of
rigwise, PyTorch and transformers, and the code that captures. For a factory a list of the
files it was made from stands beside the entry, each with its hash. So no entry is ever out
of date, and the cache can be deleted at any time. An entry that cannot be read is captured
again, and a place that cannot be written to costs only time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import Any

from rigwise.edge import write_atomically
from rigwise.errors import InvalidInputError
from rigwise.graph.graph import Model
from rigwise.graph.rwg import read_model, write_model

_FRESH: ContextVar[bool] = ContextVar("capture again whatever is kept", default=False)


@contextlib.contextmanager
def captured_afresh() -> Iterator[None]:
    """Inside, nothing that is kept is read; what is captured is kept as ever."""
    before = _FRESH.set(True)
    try:
        yield
    finally:
        _FRESH.reset(before)


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
    import hashlib  # as importlib.metadata below: slow to import, and not needed for the zoo

    versions = {package: _installed(package) for package in ("rigwise", *packages)}
    text = json.dumps({"content": content, "versions": versions}, sort_keys=True)
    return hashlib.sha256(text.encode() + _capture_code()).hexdigest()


def _capture_code() -> bytes:
    """The modules that capture, so that a change to one of them between two releases counts too."""
    folder = Path(str(files("rigwise.graph.capture")))
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py")))


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


#: Variables that say who sits where, not how a model is built.
_IDLE_VARIABLES = re.compile(
    r"OLDPWD|PWD|SHLVL|_|TERM.*|COLUMNS|LINES|SSH_.*|XDG_.*|DISPLAY|WINDOWID|PYTEST_.*|NO_COLOR"
)

#: Libraries that a factory's model may come from.
_FACTORY_LIBRARIES = ("torch", "transformers", "diffusers", "torch-geometric", "lightning", "jax", "flax", "keras")

#: A factory that reads more than this is captured anew each time.
_SOURCES_LIMIT_BYTES = 64 * 2**20


def factory_key(spec: str) -> str:
    """The name of the entry for a factory: its name, where it is looked for, and all that the process is told."""
    told = {name: value for name, value in os.environ.items() if not _IDLE_VARIABLES.fullmatch(name)}
    content = {"spec": spec, "folder": os.getcwd(), "path": sys.path, "python": sys.executable, "environment": told}
    return capture_key(content, packages=_FACTORY_LIBRARIES)


def cached_with_sources(key: str, capture: Callable[[], tuple[Model, Sequence[str]]]) -> Model:
    """The entry ``key`` as long as none of the files it came from has changed.

    What no file says (the time, the network, a random number) is not seen; deleting the cache folder helps.
    """
    folder = cache_folder()
    if folder is None:
        return capture()[0]
    entry, sources = (folder / "captures" / f"{key}{suffix}" for suffix in (".rwg", ".json"))
    if not _FRESH.get() and _unchanged(sources):
        with contextlib.suppress(InvalidInputError):
            return read_model(entry)
    model, paths = capture()
    with contextlib.suppress(InvalidInputError, OSError):
        sources.unlink(missing_ok=True)
        digests = {path: digest(path) for path in paths}
        if None not in digests.values() and sum(map(os.path.getsize, paths)) <= _SOURCES_LIMIT_BYTES:
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_model(entry, model)
            write_atomically(sources, json.dumps(digests).encode())
    return model


def _unchanged(sources: Path) -> bool:
    """Whether every file of a list still has the content it had."""
    try:
        digests = json.loads(sources.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(digests, dict) and all(digest(path) == known for path, known in digests.items())


def digest(path: str | os.PathLike[str]) -> str | None:
    """SHA-256 of a file's content, None if it cannot be read."""
    import hashlib

    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def cached_capture(key: str, capture: Callable[[], Model]) -> Model:
    """The entry ``key``, or what ``capture`` returns, kept for the next time."""
    folder = cache_folder()
    if folder is None:
        return capture()
    entry = folder / "captures" / f"{key}.rwg"
    if not _FRESH.get() and entry.is_file():
        with contextlib.suppress(InvalidInputError):
            return read_model(entry)
    model = capture()
    with contextlib.suppress(InvalidInputError, OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_model(entry, model)
    return model
