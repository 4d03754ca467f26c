"""Parse and print quantities. Inside rigwise every quantity is a float in SI base units.

A name carries its unit (``memory_bytes``, ``step_time_s``). Text with units exists only
at the edge: flags, files and printed tables. GB is 1e9 bytes, GiB is 2**30 bytes.
"""

from __future__ import annotations

import math
import re

from rigwise.errors import InvalidInputError

KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30
KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0

_BYTES = {"b": 1.0, "kb": KB, "mb": MB, "gb": GB, "tb": TB, "pb": 1e15}
_BYTES |= {"kib": KIB, "mib": MIB, "gib": GIB, "tib": 2.0**40, "pib": 2.0**50}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}
_SECONDS |= {"h": HOUR_S, "hr": HOUR_S, "d": DAY_S, "day": DAY_S, "days": DAY_S, "w": 7 * DAY_S}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_WATTS = {"w": 1.0, "kw": 1e3, "mw": 1e-3}

#: A comma only groups thousands: who means 1.5 by 1,5 must not get 15.
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"
_NUMBER = re.compile(rf"^\s*([+-]?(?:{_WHOLE}\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*$")


def _parse(text: str | float, scale: dict[str, float], default_unit: str, what: str) -> float:
    """A number with an optional unit; a bare number has ``default_unit``."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = repr(text)
    match = _NUMBER.match(str(text))
    if match is None:
        hint = "a comma groups thousands, as in 1,500; a fraction follows a point" if "," in str(text) else ""
        raise InvalidInputError(f"{what} {str(text)!r} is not a number with a unit", hint=hint)
    digits, unit = match.groups()
    factor = scale.get(unit.lower() or default_unit)
    if factor is None:
        known = ", ".join(u for u in scale if u)
        raise InvalidInputError(f"{what} {str(text)!r} has an unknown unit {unit!r}", hint=f"use one of: {known}")
    value = float(digits.replace(",", "").replace("_", "")) * factor
    if not math.isfinite(value):
        raise InvalidInputError(f"{what} {str(text)!r} is too large")
    return value


def parse_bytes(text: str | float) -> float:
    """Bytes from "24GB", "16 GiB" or a bare number of bytes.

    >>> parse_bytes("24GB"), parse_bytes("1 GiB")
    (24000000000.0, 1073741824.0)
    """
    return _parse(text, _BYTES, "b", "size")


def parse_seconds(text: str | float) -> float:
    """Seconds from "24h", "90 min", "365d" or a bare number of seconds.

    >>> parse_seconds("1.5h")
    5400.0
    """
    return _parse(text, _SECONDS, "s", "duration")


def parse_count(text: str | float) -> float:
    """A count from "20M", "1.28e8" or "50_000".

    >>> parse_count("20M"), parse_count("1.28e8")
    (20000000.0, 128000000.0)
    """
    return _parse(text, _COUNTS, "", "count")


def parse_rate(text: str | float) -> float:
    """Events in a second from "20/s", "1.2k/min" or "500 / h"; a number without its time is an error.

    >>> parse_rate("20/s"), parse_rate("90/min")
    (20.0, 1.5)
    """
    number, slash, unit = str(text).partition("/")
    if not slash:
        raise InvalidInputError(f"rate {str(text)!r} does not say in what time", hint="for example 20/s or 500/h")
    period_s = {"s": 1.0, "sec": 1.0, "min": MINUTE_S, "h": HOUR_S, "hr": HOUR_S, "d": DAY_S, "day": DAY_S}.get(
        unit.strip().lower()
    )
    if period_s is None:
        raise InvalidInputError(f"rate {str(text)!r} has an unknown time {unit.strip()!r}", hint="/s, /min, /h or /d")
    return _parse(number, _COUNTS, "", "rate") / period_s


def parse_watts(text: str | float) -> float:
    """Watts from "450W" or a bare number.

    >>> parse_watts("0.45 kW")
    450.0
    """
    return _parse(text, _WATTS, "w", "power")


def parse_usd(text: str | float) -> float:
    """US dollars from "$100", "100 usd", "1.5k" or a bare number.

    >>> parse_usd("$1.5k")
    1500.0
    """
    if isinstance(text, str):
        text, given = re.sub(r"^\s*\$|(?i:\s*usd\s*$)", "", text), text
        if re.search(r"[^\x00-\x7f]|(?i:eur|gbp|chf|jpy)", text):
            raise InvalidInputError(f"amount {given!r} is not in dollars", hint="only dollars are read here: $100, say")
    return _parse(text, {k: v for k, v in _COUNTS.items() if k in ("", "k", "m")}, "", "amount")


def parse_bytes_per_s(text: str | float) -> float:
    """Bytes per second from "125MB/s", "1 Gbit/s" or a bare number of bytes per second.

    >>> parse_bytes_per_s("125MB/s"), parse_bytes_per_s("1 Gbit/s")
    (125000000.0, 125000000.0)
    """
    bare = re.sub(r"(?i:/s\s*$)", "", text) if isinstance(text, str) else text
    return _parse(bare, _BYTES | {"kbit": KB / 8, "mbit": MB / 8, "gbit": GB / 8, "tbit": TB / 8}, "b", "rate")


def parse_months(text: str | float) -> float:
    """Months of a calendar from "24mo", "2y" or a bare number of months.

    >>> parse_months("2y"), parse_months(6)
    (24.0, 6.0)
    """
    return _parse(text, {"mo": 1.0, "month": 1.0, "months": 1.0, "y": 12.0, "year": 12.0, "years": 12.0}, "mo", "time")


def parse_fraction(text: str | float) -> float:
    """A fraction from "0.05" or "5%".

    >>> parse_fraction("5%")
    0.05
    """
    if isinstance(text, str) and text.strip().endswith("%"):
        return _parse(text.strip()[:-1], {"": 1.0}, "", "fraction") / 100
    return _parse(text, {"": 1.0}, "", "fraction")


def _scaled(value: float, steps: list[tuple[float, str]]) -> str:
    """``value`` with three significant digits in the largest unit that keeps it at 1 or more."""
    if not math.isfinite(value):
        return str(value)
    size, unit = next(((s, u) for s, u in steps if abs(value) >= s * 0.9995), steps[-1])
    number = value / size
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:,.{digits}f} {unit}".rstrip()


_TERA = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]


def format_bytes(value: float) -> str:
    """Decimal bytes for people.

    >>> format_bytes(24e9)
    '24.0 GB'
    """
    steps = [(TB, "TB"), (GB, "GB"), (MB, "MB"), (KB, "kB"), (1.0, "B")]
    return _scaled(value, steps)


def format_seconds(value: float) -> str:
    """A time for people.

    >>> format_seconds(0.0123), format_seconds(7200)
    ('12.3 ms', '2.00 h')
    """
    steps = [(2 * DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us")]
    size, unit = next(((s, u) for s, u in steps if abs(value) >= s * 0.9995), steps[-1])
    size = DAY_S if unit == "d" else size
    return _scaled(value / size, [(1.0, "")]) + f" {unit}"


def format_count(value: float, unit: str = "") -> str:
    """A count or rate for people, with a decimal prefix.

    >>> format_count(8.03e9), format_count(165.2e12, "FLOP/s")
    ('8.03 G', '165 TFLOP/s')
    """
    number, _, prefix = _scaled(value, _TERA).partition(" ")
    return f"{number} {prefix}{unit}".rstrip()


def format_usd(value: float) -> str:
    """Dollars for people: cents below 100, whole dollars above.

    >>> format_usd(3.456), format_usd(12345)
    ('$3.46', '$12,345')
    """
    if 0 < abs(value) < 0.1:
        return f"${value:.4f}"
    return f"${value:,.2f}" if abs(value) < 100 else f"${value:,.0f}"


def format_fraction(value: float) -> str:
    """A fraction as per cent.

    >>> format_fraction(0.314)
    '31 %'
    """
    return f"{100 * value:.0f} %"
