"""Quantities of an application file: text with a unit, or a bare number, and where it stands in the file."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from rigwise.application.types import MAX_S
from rigwise.errors import InvalidInputError
from rigwise.units import parse_bytes, parse_count, parse_seconds, parse_usd

Quantity = str | float

_LARGEST = 1e18


def _per_second(parser: Callable[[Quantity], float]) -> Callable[[Quantity], float]:
    return lambda value: parser(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def _ratio(value: Quantity) -> float:
    numerator, slash, denominator = str(value).partition("/")
    try:
        return float(Fraction(numerator.strip()) / Fraction(denominator.strip())) if slash else float(value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InvalidInputError(f"ratio {value!r} is not a number", hint="write 0.5, 3 or 1/3") from None


#: What a key may hold: its parser, and the most it may be.
_KINDS: dict[str, tuple[Callable[[Quantity], float], float]] = {
    "seconds": (parse_seconds, MAX_S),
    "bytes": (parse_bytes, _LARGEST),
    "bytes/s": (_per_second(parse_bytes), _LARGEST),
    "items/s": (_per_second(parse_count), 1e15),
    "usd": (parse_usd, 1e9),
    "ratio": (_ratio, 1e9),
}


def quantity(value: Quantity, kind: str, where: str, *, zero: bool = False) -> float:
    """A quantity in SI base units.

    Args:
        value: As it stands in the file.
        kind: ``seconds``, ``bytes``, ``bytes/s``, ``items/s``, ``usd`` or ``ratio``.
        where: File and key, for messages.
        zero: Whether 0 means something here.

    Raises:
        InvalidInputError: No number, an unknown unit, negative, zero where it means nothing, or absurdly large.

    >>> quantity("12GB/s", "bytes/s", "app.toml: link.bytes_per_s")
    12000000000.0
    """
    parser, most = _KINDS[kind]
    try:
        number = parser(value)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None
    if number < 0 or (number == 0 and not zero) or not number <= most:
        least = "0 or more" if zero else "above 0"
        shown = value if isinstance(value, str) else f"{value:g}"
        raise InvalidInputError(f"{where} is {shown}", hint=f"give a value {least}, up to {most:g} {kind}")
    return number


def whole(value: int, where: str, most: int = 10**6) -> int:
    """A whole number from 1 to ``most``.

    Raises:
        InvalidInputError: It is not.
    """
    if not 1 <= value <= most:
        raise InvalidInputError(f"{where} is {value}", hint=f"give a whole number from 1 to {most:,}")
    return value
