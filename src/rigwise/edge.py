"""Where outside text becomes our dataclasses, and where our text becomes files.

The only module that imports Pydantic. Every message names the file and the key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rigwise.errors import InvalidInputError, near_matches

T = TypeVar("T")

#: No configuration, job or case file of a person is larger.
TEXT_LIMIT_BYTES = 64 * 2**20


def read_bytes(path: str | os.PathLike[str], *, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        InvalidInputError: Missing, a folder, unreadable, empty or larger than ``limit_bytes``.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InvalidInputError(f"{file} is a folder, not a file")
        size = file.stat().st_size
        if size > limit_bytes:
            raise InvalidInputError(f"{file} has {size:,} bytes", hint=f"at most {limit_bytes:,} are read")
        with file.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except FileNotFoundError:
        raise InvalidInputError(f"there is no file {file}") from None
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not content:
        raise InvalidInputError(f"{file} is empty")
    if len(content) > limit_bytes:
        raise InvalidInputError(f"{file} has over {limit_bytes:,} bytes", hint="that is more than is read")
    return content


def read_text(path: str | os.PathLike[str], *, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """The content of a UTF-8 text file; same errors as ``read_bytes``."""
    try:
        return read_bytes(path, limit_bytes=limit_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not text in UTF-8") from None


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands twice")
    return keys


def parse_json(text: str | bytes, where: str) -> Any:
    """JSON with unique keys and finite numbers.

    Raises:
        InvalidInputError: It is not; the message names ``where`` and the position.
    """
    try:
        return json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{where} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where} is not usable JSON: {error}") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML as plain objects.

    Raises:
        InvalidInputError: It is not TOML; the message names ``where``.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where} is not TOML: {error}") from None


def _forbid_unknown_keys(kind: Any, seen: set[Any]) -> None:
    """Tell Pydantic, on every dataclass reachable from ``kind``, to refuse keys it does not know."""
    for argument in typing.get_args(kind):
        _forbid_unknown_keys(argument, seen)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)) or kind in seen:
        return
    seen.add(kind)
    kind.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # type: ignore[attr-defined]
    for hint in typing.get_type_hints(kind).values():
        _forbid_unknown_keys(hint, seen)


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    _forbid_unknown_keys(kind, set())
    return TypeAdapter(kind)


def parse(data: Any, kind: type[T], where: str) -> T:
    """``data`` as the dataclass ``kind``; unknown keys, wrong types, NaN and infinity are errors.

    Raises:
        InvalidInputError: The first fault, with ``where``, the key, what was found and expected.
    """
    from pydantic import ValidationError

    try:
        return typing.cast(T, _adapter(typing.cast(Any, kind)).validate_python(data))
    except ValidationError as error:
        raise InvalidInputError(_first_fault(error.errors(), kind, where)) from None


#: Where a value may have several types, Pydantic puts the type that it tried into the place of a fault.
_TRIED_TYPES = frozenset({"str", "int", "float", "bool"})


def _first_fault(faults: list[Any], kind: Any, where: str) -> str:
    tables: set[Any] = set()
    _forbid_unknown_keys(kind, tables)
    tried = _TRIED_TYPES | {table.__name__ for table in tables}

    def keys(fault: Any) -> tuple[str, ...]:
        return tuple(str(part) for part in fault["loc"] if part not in tried and not str(part).startswith("tuple["))

    first = next((f for f in faults if f["type"] == "finite_number"), faults[0])
    # of the types tried for one value, the one that fits it best finds its fault deepest inside
    inside = [f for f in faults if keys(f)[: len(keys(first))] == keys(first)]
    fault = first if first["type"] == "finite_number" else max(inside, key=lambda f: len(keys(f)))
    place, others = list(keys(fault)), {keys(f) for f in faults if f is fault or f not in inside}
    key = ".".join(place) or "the document"
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        close = near_matches(place[-1], _names_at(kind, place[:-1]))
        return f"{where}: unknown key {key!r}" + (f", {close}" if close else "") + more
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where}: {key} is missing{more}"
    return f"{where}: {key} is {str(fault['input'])[:60]!r}: {_wanted(fault, place)}{more}"


def _wanted(fault: Any, place: list[str]) -> str:
    """What should stand there, in the words of who writes JSON and TOML."""
    if fault["type"] in ("dataclass_type", "dataclass_exact_type", "dict_type"):
        return "it should be a table of keys and values"
    if fault["type"] == "tuple_type":
        is_table = isinstance(fault["input"], dict) and place
        return "it should be a list" + (f", [[{place[-1]}]] in TOML" if is_table else "")
    return str(fault["msg"]).lower()


def _names_at(kind: Any, place: list[str]) -> list[str]:
    """Keys of the dataclass that stands at ``place`` inside ``kind``, none if no dataclass does."""
    for part in place:
        if part.isdigit():
            continue
        hint = typing.get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
        candidates = (hint, *typing.get_args(hint))
        kind = next((c for c in candidates if isinstance(c, type) and dataclasses.is_dataclass(c)), None)
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def as_plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as dicts and lists, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict | types.MappingProxyType):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(v) for v in value]
    return value


def check_writable(path: str | os.PathLike[str], flag: str) -> None:
    """Refuse a place where ``write_atomically`` could not write, before long work; a file is tried and taken away.

    Args:
        path: The file that will be written.
        flag: The flag that named it, for the message.

    Raises:
        InvalidInputError: It is a folder, its folder is not there, or nothing can be written there.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InvalidInputError(f"{flag} {file} is a folder", hint="name a file in it")
        if not file.absolute().parent.is_dir():
            raise InvalidInputError(f"{flag} {file}: there is no folder {file.parent}")
        if file.exists() and not file.is_file():
            return
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:40]}.")
        os.close(handle)
        os.unlink(temporary)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{flag} {file} cannot be written: {reason}") from None


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file whole or not at all: into a neighbour first, then renamed over the target.

    A device or a pipe (``/dev/null``, ``/dev/stdout``) is written to, and never replaced by a file.

    Raises:
        InvalidInputError: The place cannot be written to.
    """
    file = Path(path)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = None
    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            file.write_bytes(data)
            return
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:40]}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        with contextlib.suppress(OSError):
            os.chmod(temporary, file.stat().st_mode & 0o777 if file.exists() else 0o644)
        os.replace(temporary, file)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
