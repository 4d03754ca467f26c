"""Fitted constants: read from a file under ``estimate/calibration/``, never typed into code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

DEFAULT = "literature-2026-11"


@dataclass(frozen=True, slots=True)
class Constants:
    """One table of a calibration file; ``constants.wave_frac`` or an error naming the file."""

    where: str
    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"{self.where} has no constant {name!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A calibration file.

    Attributes:
        name: Stem of the file.
        torch: Framework version the constants describe.
        devices, architectures: What the measurements behind them were made on.
        gemm, conv, cpu, attention, memory, launch, power, collective, memory_terms, interval:
            Tables of constants; units are in the names.
        sources: Where each table comes from.
    """

    name: str
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
    sources: Mapping[str, str]


_TABLES = ("gemm", "conv", "cpu", "attention", "memory", "launch", "power", "collective", "memory_terms", "interval")


@cache
def load_calibration(name: str = DEFAULT) -> Calibration:
    """The calibration of that name that comes with the package."""
    text = files("rigwise.estimate").joinpath("calibration", f"{name}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    tables = {table: Constants(f"calibration {name}, [{table}]", data[table]) for table in _TABLES}
    return Calibration(
        name=name,
        torch=data["torch"],
        devices=frozenset(data["devices"]),
        architectures=frozenset(data["architectures"]),
        sources={table: data[table]["source"] for table in _TABLES},
        **tables,
    )
