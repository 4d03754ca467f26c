"""What a file that PyTorch wrote holds, found without PyTorch and without running anything of it.

    torch.export.save   a zip with the program as JSON; that JSON alone is read, never the weights
    torch.jit.save      a zip with code, in TorchScript
    torch.save          a zip, or before PyTorch 1.6 a bare stream, of pickled Python objects: never read

Source: what ``torch.export.save`` of PyTorch 2.5 to 2.13 writes.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError, UnsupportedError

#: A program of 60,000 operators takes 120 MB.
_PROGRAM_LIMIT_BYTES = 256 * 2**20
_MAX_ENTRIES = 200_000
_CHUNK_BYTES = 2**20

_PROGRAM = re.compile(r"(?:[^/]+/)?models/(?P<name>[^/]+)\.json|serialized_exported_program\.json")
_WEIGHTS = re.compile(r"(?:[^/]+/)?data/weights/[^/]+_weights_config\.json")

_GIVE = "give the function that builds the model as package.module:factory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFile:
    """An exported program as its file holds it: JSON text.

    Attributes:
        program: The graph, its signature and what its sizes may be.
        weights: Where the weights lie, from which follows which of them are one; empty if not told.
    """

    program: bytes
    weights: bytes = b""

    @property
    def digest(self) -> str:
        """What tells this program from others, whatever its weights are."""
        return hashlib.sha256(self.program + b"\0" + self.weights).hexdigest()

    def parsed(self, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Program and weights as plain objects.

        Raises:
            InvalidInputError: They are no JSON objects.
        """
        return _object(self.program, where), _object(self.weights or b"{}", where)


def read_program(path: Path) -> ProgramFile:
    """The exported program in a file of PyTorch.

    Raises:
        InvalidInputError: The file is missing, cut short or not PyTorch's.
        UnsupportedError: It holds something else than an exported program, or several.
    """
    try:
        with _BoundedFile(path) as stream:
            head = stream.read(4)
            if head[:2] != b"PK":
                raise _no_archive(path, head)
            with zipfile.ZipFile(stream) as archive:
                return _program(archive, path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"{path} is cut short or damaged: {' '.join(str(error).split())[:200]}") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from None


class _BoundedFile(FileIO):
    """A file of which no more is read at once than a program may be long, whatever its directory claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As ``FileIO``."""
        if size is not None and size > _PROGRAM_LIMIT_BYTES:
            raise ValueError(f"its directory claims {size:,} bytes")
        return super().read(size) or b""


def _no_archive(path: Path, head: bytes) -> InvalidInputError | UnsupportedError:
    if not head:
        return InvalidInputError(f"{path} is empty")
    if head[0] == 0x80:  # the first byte of every pickle since protocol 2
        return UnsupportedError(
            f"{path} holds pickled Python objects, which could run any code and are not read", hint=_GIVE
        )
    return InvalidInputError(f"{path} is no file that PyTorch wrote", hint="torch.export.save writes what is read here")


def _program(archive: zipfile.ZipFile, path: Path) -> ProgramFile:
    names = archive.namelist()
    if len(names) > _MAX_ENTRIES:
        raise InvalidInputError(f"{path} has {len(names):,} entries", hint=f"at most {_MAX_ENTRIES:,} are read")
    programs = [name for name in names if _PROGRAM.fullmatch(name)]
    if not programs:
        raise _other_content(path, {name.partition("/")[2] for name in names})
    if len(programs) > 1:
        held = ", ".join(sorted(name.rpartition("/")[2].removesuffix(".json") for name in programs)[:4])
        raise UnsupportedError(f"{path} holds {len(programs)} programs ({held})", hint="save one to a file")
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    return ProgramFile(
        program=_content(archive, programs[0], path),
        weights=_content(archive, weights[0], path) if len(weights) == 1 else b"",
    )


def _other_content(path: Path, inner: set[str]) -> InvalidInputError | UnsupportedError:
    """What an archive without an exported program is."""
    if any(name.startswith("data/aotinductor/") for name in inner):
        return UnsupportedError(f"{path} holds compiled code, which is not run", hint="save it with torch.export.save")
    if any(name.startswith("code/") for name in inner):
        return UnsupportedError(
            f"{path} is TorchScript: it holds code to run, and does not say what its inputs look like",
            hint=f"save the model with torch.export.save, or {_GIVE}",
        )
    if "data.pkl" in inner:
        return UnsupportedError(
            f"{path} is what torch.save wrote: weights or a whole module, pickled, which could run code: not read",
            hint=f"save the model with torch.export.save, or {_GIVE}",
        )
    return InvalidInputError(f"{path} is a zip archive, but none that PyTorch wrote")


def _content(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """One entry; what is unpacked is counted, since what the archive says of it may be false."""
    chunks: list[bytes] = []
    left = _PROGRAM_LIMIT_BYTES
    with archive.open(name) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                limit = _PROGRAM_LIMIT_BYTES // 2**20
                raise InvalidInputError(f"{path}: {name} unpacks to over {limit} MiB", hint="that is more than is read")
    return b"".join(chunks)


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where}: its program is not usable JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise InvalidInputError(f"{where}: its program is no JSON object")
    return found
