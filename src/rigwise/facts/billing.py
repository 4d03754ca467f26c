"""How providers bill: in which steps, for how long at least, and for what beside the hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.facts.catalogue import DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """What one provider bills.

    Attributes:
        increment_s: Step in which time is billed, 0 if it is billed as it passes.
        minimum_s: Least time that is billed.
        egress_usd_per_gb: For data that leaves the provider, None for not known.
        disk_usd_per_gb_month: For disks that hold data while the job runs, None for not known.
        idle_disk_usd_per_gb_month: For the disk of a stopped machine, None for not known.
        as_of, source: Date of the figures, and where they were read.
    """

    increment_s: float = 0.0
    minimum_s: float = 0.0
    egress_usd_per_gb: float | None = None
    disk_usd_per_gb_month: float | None = None
    idle_disk_usd_per_gb_month: float | None = None
    as_of: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    provider: Mapping[str, Billing]


@cache
def billing() -> Mapping[str, Billing]:
    """The terms of every provider of which they are known, by name."""
    path = DATA / "billing.toml"
    return parse(parse_toml(read_text(path), path.name), _File, path.name).provider
