"""Fitted constants: read from a file under ``estimate/calibration/``, never typed into code.

Beside them stands what the user's own measurements taught: the file that ``rigwise calibrate`` wrote. It is the one
that ``RIGWISE_CALIBRATION`` names (``none`` for none), else the usual one if it exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError
from rigwise.estimate.learned import GROUPS, Evidence, Learned, Scales

DEFAULT = "literature-2026-11"
VARIABLE = "RIGWISE_CALIBRATION"
SCHEMA = "rigwise.calibration/1"
NONE = "none"

#: No multiplier of time is larger than this, or smaller than one over it.
_LARGEST_LOG_SCALE = 5.0
#: No rows stray so many times further than expected: they would be in another unit.
_LARGEST_DISPERSION = 100.0


@dataclass(frozen=True)
class Constants:
    """One table of a calibration file; ``constants.wave_frac`` or an error naming the file.

    Constants are read a hundred thousand times for one plan, so each is an attribute like any other: no slots.
    """

    where: str
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Set each constant."""
        self.__dict__.update({name: value for name, value in self.values.items() if name not in ("where", "values")})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.__dict__.get('where')} has no constant {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """A calibration file, known by identity.

    Attributes:
        name: Stem of the file.
        digest: Of its content, by which a user's file knows what it was fitted on.
        torch: Framework version the constants describe.
        devices, architectures: What the measurements behind them were made on.
        gemm, conv, cpu, attention, memory, launch, power, collective, memory_terms, interval, correlation, learning:
            Tables of constants; units are in the names.
        sources: Where each table comes from.
        learned: What the user measured, None if nothing.
    """

    name: str
    digest: str
    torch: str
    devices: frozenset[str]
    architectures: frozenset[str]
    gemm: Constants
    conv: Constants
    cpu: Constants
    attention: Constants
    memory: Constants
    launch: Constants
    power: Constants
    collective: Constants
    memory_terms: Constants
    interval: Constants
    correlation: Constants
    learning: Constants
    sources: Mapping[str, str]
    learned: Learned | None = None


_TABLES = (
    "gemm", "conv", "cpu", "attention", "memory", "launch", "power", "collective", "memory_terms", "interval",
    "correlation", "learning",
)  # fmt: skip


def load_calibration(name: str = DEFAULT) -> Calibration:
    """The calibration of that name that comes with the package, with the user's part.

    Raises:
        InvalidInputError: The user's file cannot be used.
    """
    given = _GIVEN.get()
    return _joined(name, user_calibration() if given is _UNSET else given)


@cache
def packaged(name: str = DEFAULT) -> Calibration:
    """The calibration of that name alone."""
    text = files("rigwise.estimate").joinpath("calibration", f"{name}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    tables: dict[str, Any] = {t: Constants(f"calibration {name}, [{t}]", data[t]) for t in _TABLES}
    return Calibration(
        name=name,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        torch=data["torch"],
        devices=frozenset(data["devices"]),
        architectures=frozenset(data["architectures"]),
        sources={t: data[t]["source"] for t in _TABLES},
        **tables,
    )


@lru_cache(maxsize=8)
def _joined(name: str, learned: Learned | None) -> Calibration:
    return replace(packaged(name), learned=learned) if learned else packaged(name)


_UNSET: Any = object()
_GIVEN: ContextVar[Learned | None] = ContextVar(
    "what the user measured, in the place of the usual file", default=_UNSET
)


@contextlib.contextmanager
def calibrated_with(learned: Learned | None) -> Iterator[None]:
    """Inside, this is what the user measured, whatever file there is."""
    before = _GIVEN.set(learned)
    try:
        yield
    finally:
        _GIVEN.reset(before)


def usual_file() -> Path | None:
    """Where a user's calibration is kept: the platform's place for settings; None where there is none."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return folder / "rigwise" / "calibration.toml"


def user_calibration() -> Learned | None:
    """The user's file in force: the one that ``RIGWISE_CALIBRATION`` names, or the usual one, None if there is none.

    Raises:
        InvalidInputError: It cannot be used.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen == NONE:
        return None
    file = chosen or _usual_path(*map(os.environ.get, _PLACES))
    try:
        stamp = os.stat(file).st_mtime_ns if file else None
    except OSError:
        stamp = None
    if not file or (stamp is None and not chosen):
        return None
    return _read_at(file, stamp or 0)


#: What of the environment says where settings are kept.
_PLACES = ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME")


@lru_cache(maxsize=8)
def _usual_path(*places: str | None) -> str:
    """The usual file of an environment, empty where there is none."""
    del places
    return str(usual_file() or "")


@lru_cache(maxsize=8)
def _read_at(path: str, stamp: int) -> Learned:
    """A file as it was when last changed."""
    del stamp
    return read_calibration(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a user's calibration file holds.

    Attributes:
        schema: ``rigwise.calibration/1``.
        base, base_digest: The packaged calibration that it corrects.
        rigwise: Version that wrote it.
        date: Of the fit.
        fitted_on: Tables, rows, left out.
        software: Versions of PyTorch that were measured.
        scales, evidence, dispersion: See ``learned.py``.
    """

    schema: str
    base: str
    base_digest: str
    rigwise: str
    date: str
    fitted_on: dict[str, Any]
    software: tuple[str, ...]
    scales: tuple[Scales, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    dispersion: dict[str, float] = field(default_factory=dict)


def read_calibration(path: str | os.PathLike[str]) -> Learned:
    """A file that ``rigwise calibrate`` wrote.

    Raises:
        InvalidInputError: It is corrupt, from a newer version, or fitted on other constants; says what to do.
    """
    again = f"rigwise calibrate fits it again, --calibration {NONE} goes without"
    try:
        data = parse_toml(read_text(path), str(path))
        _check_schema(str(data.get("schema", "")), str(path))
        file = parse(data, File, str(path))
        _check(file, str(path))
    except InvalidInputError as error:
        raise InvalidInputError(error.message, hint=again) from None
    return Learned(
        where=str(path),
        date=file.date,
        software=file.software,
        scales=file.scales,
        evidence=file.evidence,
        dispersion=file.dispersion,
    )


def _check_schema(schema: str, where: str) -> None:
    if schema.startswith("rigwise.calibration/") and schema != SCHEMA:
        raise InvalidInputError(f"{where} is written as {schema}, which this version does not read: upgrade rigwise")
    if schema != SCHEMA:
        raise InvalidInputError(f"{where} is no calibration: its schema is not {SCHEMA}")


def _check(file: File, where: str) -> None:
    """Refuse numbers that no fit writes."""
    if file.base_digest != packaged().digest:
        raise InvalidInputError(f"{where} was fitted on other constants than this version's ({file.base})")
    _check_scales(file.scales, where)
    for device, times in file.dispersion.items():
        if not 1.0 <= times <= _LARGEST_DISPERSION:
            raise InvalidInputError(f"{where}: the dispersion of {device} is none")
    for one in file.evidence:
        if max(abs(one.residual), abs(one.log_ratio)) > _LARGEST_LOG_SCALE:
            raise InvalidInputError(f"{where}: a row of {one.model} on {one.device} is beyond any time")
        if not 0.0 <= one.spread_frac <= _LARGEST_LOG_SCALE:
            raise InvalidInputError(f"{where}: the spread of a row of {one.model} on {one.device} is none")


def _check_scales(found: Iterable[Scales], where: str) -> None:
    for scales in found:
        if set(scales.log_scale) != set(GROUPS) or len(scales.covariance) != len(GROUPS):
            raise InvalidInputError(f"{where}: the scales of {scales.device} are not those of {', '.join(GROUPS)}")
        if any(abs(value) > _LARGEST_LOG_SCALE for value in scales.log_scale.values()):
            raise InvalidInputError(f"{where}: a scale of {scales.device} is beyond e^{_LARGEST_LOG_SCALE:.0f}")
        for row, line in enumerate(scales.covariance):
            if len(line) != len(GROUPS) or line[row] < 0:
                raise InvalidInputError(f"{where}: the covariance of {scales.device} is none")
