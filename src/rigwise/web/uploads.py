"""Uploaded models: files of a private folder, each under an id that cannot be guessed; gone when the server ends.

The id is the capability: whoever has it may ask about the model, and there is no list of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rigwise.errors import InvalidInputError
from rigwise.web.reading import SUFFIXES

_NAME_LENGTH = 80
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A model that was read.

    Attributes:
        path: Of its graph.
        name: Of the file, as it was uploaded.
    """

    path: Path
    name: str


class Uploads:
    """The folder, and what of it belongs to which id."""

    def __init__(self, most: int) -> None:
        self._folder: Path | None = None
        self._known: OrderedDict[str, Upload] = OrderedDict()
        self._most = most

    @property
    def folder(self) -> Path:
        """The folder, which this user alone can read; made when it is first needed."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rigwise-serve-"))
        return self._folder

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._known

    def __getitem__(self, identifier: str) -> Upload:
        """The upload of an id.

        Raises:
            KeyError: There is none, or no longer.
        """
        return self._known[identifier]

    def received(self, stream: BinaryIO, name: str) -> Path:
        """A file as it came, in a folder of its own, named by its content.

        Raises:
            InvalidInputError: It is empty, or its name ends in nothing that is read.
        """
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise InvalidInputError(
                f"{name} is no model file that is read here", hint="upload an .onnx or .rwg file, or a config.json"
            )
        place = Path(tempfile.mkdtemp(dir=self.folder))
        digest = hashlib.sha256()
        with (place / "part").open("wb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            size = file.tell()
        if not size:
            self.forget(place)
            raise InvalidInputError(f"{name} is empty")
        return (place / "part").rename(place / f"{digest.hexdigest()}{suffix}")

    def keep(self, graph: Path, name: str) -> str:
        """A new id for a graph that was read; the oldest upload makes room."""
        identifier = f"upload-{secrets.token_urlsafe(16)}"
        self._known[identifier] = Upload(path=graph, name=name)
        while len(self._known) > self._most:
            _, oldest = self._known.popitem(last=False)
            self.forget(oldest.path.parent)
        return identifier

    def forget(self, place: Path) -> None:
        """Remove the folder of one upload."""
        shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        self._known.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def plain_name(given: str) -> str:
    """What a browser calls a file, without folders and without letters that do not print.

    >>> plain_name("../../etc/my net.onnx"), plain_name("")
    ('my net.onnx', 'model')
    """
    base = re.split(r"[/\\\\]", given)[-1]
    base = "".join(letter for letter in base if letter.isprintable()).strip(". ")
    stem, dot, suffix = base.rpartition(".")
    return f"{stem[:_NAME_LENGTH]}{dot}{suffix[:8]}" if stem else base[:_NAME_LENGTH] or "model"


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)
