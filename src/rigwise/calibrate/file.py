"""A user's calibration as a file: written whole or not at all, and read again by ``estimate.calibration``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rigwise import __version__
from rigwise.edge import as_plain, write_atomically
from rigwise.errors import InvalidInputError
from rigwise.estimate.calibration import SCHEMA, packaged
from rigwise.estimate.learned import Learned


def calibration_text(learned: Learned, fitted_on: Mapping[str, Any]) -> str:
    """The file's content; numbers and strings of TOML are those of JSON."""
    base = packaged()
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "base": base.name,
        "base_digest": base.digest,
        "rigwise": __version__,
        "date": learned.date,
        "software": list(learned.software),
        "dispersion": learned.dispersion,
    }
    lines = ["# Written by rigwise calibrate. Scales are ln(measured / predicted time) by group of operators."]
    lines += [f"{key} = {_value(value)}" for key, value in head.items()]
    lines += ["", "[fitted_on]", *(f"{key} = {_value(value)}" for key, value in fitted_on.items())]
    lines += _tables("scales", [as_plain(one) for one in learned.scales])
    lines += _tables("evidence", [as_plain(one) for one in learned.evidence])
    return "\n".join(lines) + "\n"


def _tables(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in row.items())]
    return lines


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(key))}={_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _key(name: str) -> str:
    """Bare where TOML allows it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def write_calibration(path: Path, learned: Learned, fitted_on: Mapping[str, Any]) -> None:
    """Write the file, in a folder that is made if it is missing.

    Raises:
        InvalidInputError: The place cannot be written to; what stood there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{path.parent} cannot be made: {error.strerror or error}") from None
    write_atomically(path, calibration_text(learned, fitted_on))
