"""Checks for plain values out of a file that nobody vouches for.

Each check returns the value it was given, or raises one line that names the file,
the key, what was found and what was expected.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import Any, TypeVar

from rigwise.errors import InvalidInputError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Untrusted:
    """The checks for one file, which every message names."""

    where: str

    def fault(self, key: str, found: Any, expected: str) -> InvalidInputError:
        """The error to raise for one value.

        >>> str(Untrusted("net.rwg").fault("ops[3]", -1, "a row"))
        'net.rwg: ops[3] is -1, expected a row'
        """
        return InvalidInputError(f"{self.where}: {key} is {reprlib.repr(found)}, expected {expected}")

    def text(self, value: Any, key: str, *, limit: int = 300) -> str:
        """A printable string, so that no file can send control codes to a terminal."""
        if not isinstance(value, str) or len(value) > limit or not value.isprintable():
            raise self.fault(key, value, f"printable text of at most {limit} characters")
        return value

    def whole(self, value: Any, key: str, *, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        if type(value) is not int or not low <= value <= high:
            raise self.fault(key, value, f"a whole number from {low:,} to {high:,}")
        return value

    def amount(self, value: Any, key: str) -> float:
        """A finite number of at least 0."""
        if type(value) not in (int, float) or not 0 <= value <= 1e18:
            raise self.fault(key, value, "a number from 0 to 1e18")
        return float(value)

    def flag(self, value: Any, key: str) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            raise self.fault(key, value, "true or false")
        return value

    def rows(self, value: Any, key: str, *, limit: int) -> list[Any]:
        """A list of at most ``limit`` entries."""
        if not isinstance(value, list):
            raise self.fault(key, value, "a list")
        if len(value) > limit:
            raise InvalidInputError(f"{self.where}: {key} has {len(value):,} entries, at most {limit:,} are read")
        return value

    def row(self, value: Any, key: str, names: str) -> list[Any]:
        """A list with one entry for each of the comma-separated ``names``."""
        if not isinstance(value, list) or len(value) != names.count(",") + 1:
            raise self.fault(key, value, f"a row of {names}")
        return value

    def table(self, value: Any, key: str, *, limit: int) -> dict[str, Any]:
        """An object of at most ``limit`` keys, each printable."""
        if not isinstance(value, dict):
            raise self.fault(key, value, "an object")
        if len(value) > limit:
            raise InvalidInputError(f"{self.where}: {key} has {len(value):,} keys, at most {limit:,} are read")
        for name in value:
            self.text(name, f"a key of {key}")
        return value

    def record(self, value: Any, key: str, names: tuple[str, ...]) -> dict[str, Any]:
        """An object with exactly the keys ``names``."""
        record = self.table(value, key, limit=1000)
        for name in record:
            if name not in names:
                raise InvalidInputError(f"{self.where}: unknown key {name!r} in {key}")
        for name in names:
            if name not in record:
                raise InvalidInputError(f"{self.where}: {key} lacks the key {name!r}")
        return record

    def pick(self, table: list[T], index: Any, key: str) -> T:
        """The entry of ``table`` at ``index``."""
        if type(index) is not int or not 0 <= index < len(table):
            raise self.fault(key, index, f"an index below {len(table):,}")
        return table[index]

    def attr(self, value: Any, key: str) -> int | float | str | bool | tuple[int, ...]:
        """A value that an operator attribute may have."""
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value, key)
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, list):
            entries = self.rows(value, key, limit=1000)
            return tuple(self.whole(v, f"{key}[{i}]", low=-(10**15), high=10**15) for i, v in enumerate(entries))
        return self.whole(value, key, low=-(10**15), high=10**15)
