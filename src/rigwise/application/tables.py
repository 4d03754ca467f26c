"""The tables of an application file as a person writes them; ``reader`` turns them into ``types``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rigwise.application.quantity import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationTable:
    """``[application]``."""

    flow: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTable:
    """``[objective]``."""

    optimize: str = "throughput"
    top: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTable:
    """``[[link]]``."""

    between: tuple[str, str]
    bytes_per_s: Quantity
    latency: Quantity = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceTable:
    """``[place.NAME]``."""

    kind: str = ""
    device: str = ""
    cores: int | None = None
    bytes_per_s: Quantity | None = None
    memory: Quantity | None = None
    host: str = ""
    usd_per_h: Quantity = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTable:
    """One port of ``outputs``."""

    bytes: Quantity
    type: str = ""
    ratio: Quantity = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """``cost.PLACE``."""

    time: Quantity | None = None
    time_per_batch: Quantity | None = None
    bytes: Quantity | None = None
    cores: int = 1
    memory: Quantity = 0.0
    source: str = "stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentTable:
    """``[component.NAME]``; the tables inside are read one by one, so that a message can name the place."""

    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    rate: Quantity | None = None
    merge: bool = False
    batch: int = 1
    max_wait: Quantity | None = None
    workers: int = 1
    on: str = ""
    places: tuple[str, ...] = ()
    cost: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    memory: Quantity = 0.0
    call: str = ""
    run: str = "thread"
    ordered: bool = False
    queue: int = 8
