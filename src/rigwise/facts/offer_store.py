"""Offers that a user imported: one file for each import, beside the catalogue in the package.

A file holds a table by columns. A column is the list of its distinct values, each once, and for
every row the index of its value, as packed little-endian integers: prices, regions and sizes repeat
so often that a hundred thousand rows are a few megabytes and are read in a fraction of a second.
The first line is the schema and the SHA-256 of what follows, which is JSON.

Files are written whole or not at all, so that an import that fails leaves the one before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from rigwise.edge import as_plain, write_atomically
from rigwise.errors import InvalidInputError, UnknownNameError, near_matches
from rigwise.facts.offer import Offer

SCHEMA = "rigwise.offers.store/1"
VARIABLE = "RIGWISE_OFFERS"
NONE = "none"
SUFFIX = ".offers"
#: A catalogue of a million offers is a tenth of this.
LIMIT_BYTES = 512 * 2**20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}")
#: Type codes of ``array`` by how many values an index tells apart.
_CODES = (("B", 2**8), ("H", 2**16), ("I", 2**32))
#: Columns of the file: the fields of an offer but for what is computed.
_COLUMNS = tuple(f.name for f in fields(Offer) if f.name != "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Where imported rows came from.

    Attributes:
        name: Its name, ``skypilot.aws``; an import of the same name replaces it.
        kind: ``skypilot``, ``gpuhunt`` or ``csv``.
        origin: The file that was read, or the address it was downloaded from.
        sha256: Of that file.
        as_of: Date of the prices that carry none of their own.
        dated_by: ``given`` by the user, the ``file`` time, or the ``download``; ``rows`` where each has its own.
        imported_on: The day of the import.
        read: Rows that the file holds.
        kept: Offers that they became.
        excluded: How many rows were left out or merged, by reason.
    """

    name: str
    kind: str
    origin: str
    sha256: str
    as_of: str
    dated_by: str
    imported_on: str
    read: int
    kept: int
    excluded: Mapping[str, int] = field(default_factory=dict)


def store_folder() -> Path | None:
    """Where imports are kept: ``RIGWISE_OFFERS``, else the platform's place for data; None for ``none``."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return None if chosen == NONE else Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return folder / "rigwise" / "offers"


def writable_folder() -> Path:
    """The folder of imports, made if need be.

    Raises:
        InvalidInputError: There is none, or it cannot be made.
    """
    folder = store_folder()
    if folder is None:
        raise InvalidInputError(f"there is no place for imported offers: {VARIABLE} is {NONE!r} or nobody has a home")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"the folder {folder} cannot be made: {error.strerror or error}") from None
    return folder


def import_files() -> tuple[Path, ...]:
    """The files of all imports, by name."""
    folder = store_folder()
    try:
        return tuple(sorted(folder.glob(f"*{SUFFIX}"))) if folder else ()
    except OSError:
        return ()


def write_import(about: Import, offers: Sequence[Offer]) -> Path:
    """Keep the rows of one import in place of those of the same name.

    Raises:
        InvalidInputError: The name is none, or the place cannot be written to.
    """
    if not _NAME.fullmatch(about.name):
        raise InvalidInputError(f"{about.name!r} is no name for an import", hint="letters, digits, dots and dashes")
    path = writable_folder() / f"{about.name}{SUFFIX}"
    write_atomically(path, dump(about, offers))
    return path


def forget(name: str) -> Import | None:
    """Remove one import; what it was, None where its file could not be read.

    Raises:
        UnknownNameError: There is none of this name.
    """
    names = {path.name.removesuffix(SUFFIX): path for path in import_files()}
    if name not in names:
        close = near_matches(name, names) or "rigwise offers imports lists them"
        raise UnknownNameError(f"no import is called {name!r}", hint=close)
    about = find(name)
    try:
        names[name].unlink()
    except OSError as error:
        raise InvalidInputError(f"{names[name]} cannot be removed: {error.strerror or error}") from None
    return about


def find(name: str) -> Import | None:
    """What the import of this name was, None where there is none or its file is damaged."""
    folder = store_folder()
    path = folder / f"{name}{SUFFIX}" if folder else None
    try:
        return _read(path)[0] if path and path.is_file() else None
    except InvalidInputError:
        return None


def imports() -> tuple[Import, ...]:
    """What every import was; same errors as ``imported_offers``."""
    return tuple(about for about, _ in map(_read, import_files()))


def imported_offers() -> tuple[Offer, ...]:
    """The rows of all imports; a file is read again only when it has changed.

    Raises:
        InvalidInputError: A file is damaged; the message says which and how to go on.
    """
    return tuple(offer for path in import_files() for offer in _read(path)[1])


def _read(path: Path) -> tuple[Import, tuple[Offer, ...]]:
    try:
        stamp = path.stat()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from None
    return _read_at(str(path), stamp.st_mtime_ns ^ stamp.st_size)


@lru_cache(maxsize=256)
def _read_at(path: str, stamp: int) -> tuple[Import, tuple[Offer, ...]]:
    """A file as it was when last changed."""
    del stamp
    file = Path(path)
    name = file.name.removesuffix(SUFFIX)
    again = f"import it again, or rigwise offers forget {name}"
    try:
        if file.stat().st_size > LIMIT_BYTES:
            raise InvalidInputError(f"{file} is larger than any import", hint=again)
        return load(file.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror or error}", hint=again) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        raise InvalidInputError(f"{file} is damaged", hint=again) from None


def dump(about: Import, offers: Sequence[Offer]) -> bytes:
    """The content of a file.

    Raises:
        ValueError: A number is not finite; such rows are excluded before.
    """
    columns = {name: _packed([getattr(offer, name) for offer in offers]) for name in _COLUMNS}
    document = {"about": as_plain(about), "rows": len(offers), "columns": columns}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    return _head_of(body) + body


def _head_of(body: bytes) -> bytes:
    return f"{SCHEMA} {hashlib.sha256(body).hexdigest()}\n".encode("ascii")


def _packed(cells: Sequence[Any]) -> dict[str, Any]:
    """Distinct values in order of appearance, and the index of each row's; no index where there is one value."""
    places: dict[tuple[type, Any], int] = {}
    at = [places.setdefault((type(cell), cell), len(places)) for cell in cells]
    packed: dict[str, Any] = {"values": [value for _, value in places]}
    if len(places) > 1:
        code = next(code for code, most in _CODES if len(places) <= most)
        packed |= {"code": code, "at": base64.b64encode(_little_endian(array(code, at)).tobytes()).decode("ascii")}
    return packed


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def load(content: bytes) -> tuple[Import, tuple[Offer, ...]]:
    """The inverse of ``dump``; what a damaged file raises is the caller's to translate.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: It is no such file.
    """
    head, _, body = content.partition(b"\n")
    if head + b"\n" != _head_of(body):
        raise ValueError(head[:80])
    document = json.loads(body)
    rows = int(document["rows"])
    columns = {name: _unpacked(document["columns"].get(name), rows, name) for name in _COLUMNS}
    offers = [object.__new__(Offer) for _ in range(rows)]
    for name, cells in {**columns, "flags": [()] * rows}.items():
        # Filling a column at a time is five times quicker than calling the constructor for each row.
        deque(map(getattr(Offer, name).__set__, offers, cells), maxlen=0)
    return Import(**document["about"]), tuple(offers)


def _unpacked(packed: Any, rows: int, name: str) -> Iterable[Any]:
    """A column's cell for every row; a column that the file lacks holds the field's default."""
    if packed is None:
        default = next(f.default for f in fields(Offer) if f.name == name)
        if not isinstance(default, str | float | int | None):
            raise ValueError(name)
        return [default] * rows
    values = packed["values"]
    if any(type(value) not in _TYPES[name] for value in values):
        raise ValueError(name)
    if "at" not in packed:
        return values[:1] * rows if values or not rows else _none_missing(name)
    code = packed["code"]
    at = array(code if code in dict(_CODES) else "?")
    at.frombytes(base64.b64decode(packed["at"], validate=True))
    if len(_little_endian(at)) != rows or max(at, default=0) >= len(values):
        raise ValueError(name)
    return [values[index] for index in at]


def _none_missing(name: str) -> Iterable[Any]:
    raise ValueError(name)


#: What a column may hold: text, or a number that may be absent.
_TYPES: Mapping[str, tuple[type, ...]] = {
    f.name: (str,) if f.type == "str" else (int, float, type(None)) for f in fields(Offer) if f.name in _COLUMNS
}
