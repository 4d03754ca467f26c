"""Notebooks by subscription: the plans of ``data/subscriptions.toml``, one record for each device of each plan.

Source: stated in each plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import DATA
from rigwise.units import parse_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One device under one plan.

    Attributes:
        id, provider, name: Of the plan.
        device: Catalogue id, or several joined by ``|`` where it is not said which.
        count: Devices of one notebook.
        usd_per_month: Fee of the plan.
        units_per_month: Units that the fee includes.
        usd_per_unit: Of further units, None where they cannot be bought.
        units_per_h: What an hour on the device takes, None where use is not counted in units.
        session_s, weekly_quota_s: Longest session, most use in a week; None where none is stated.
        as_of, source, note: Where it was read, and what to know beside it.
    """

    id: str
    provider: str
    name: str
    device: str
    count: int
    usd_per_month: float
    units_per_month: float
    usd_per_unit: float | None
    units_per_h: float | None
    session_s: float | None
    weekly_quota_s: float | None
    as_of: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    count: int
    units_per_h: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    provider: str
    name: str
    devices: Mapping[str, _Use]
    usd_per_month: float
    as_of: str
    source: str
    units_per_month: float = 0.0
    usd_per_unit: float | None = None
    session: str | None = None
    weekly_quota: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    plans: Mapping[str, _Plan]


def read_subscriptions(path: Path) -> tuple[Subscription, ...]:
    """Read a file of plans.

    Raises:
        InvalidInputError: A key or a figure that means nothing; names the file and the plan.
    """
    file = parse(parse_toml(read_text(path), path.name), _File, path.name)
    found = []
    for identifier, plan in file.plans.items():
        for device, use in plan.devices.items():
            numbers = (plan.usd_per_month, plan.units_per_month, plan.usd_per_unit or 0.0, use.units_per_h or 0.0)
            if min(numbers) < 0 or use.count < 1:
                raise InvalidInputError(f"{path.name}: plans.{identifier}: a figure below what it can be")
            found.append(
                Subscription(
                    id=identifier,
                    provider=plan.provider,
                    name=plan.name,
                    device=device,
                    count=use.count,
                    usd_per_month=plan.usd_per_month,
                    units_per_month=plan.units_per_month,
                    usd_per_unit=plan.usd_per_unit,
                    units_per_h=use.units_per_h,
                    session_s=_seconds(plan.session, path.name, identifier),
                    weekly_quota_s=_seconds(plan.weekly_quota, path.name, identifier),
                    as_of=plan.as_of,
                    source=plan.source,
                    note=plan.note,
                )
            )
    return tuple(found)


def _seconds(text: str | None, file: str, plan: str) -> float | None:
    if text is None:
        return None
    seconds = parse_seconds(text)
    if not seconds > 0:
        raise InvalidInputError(f"{file}: plans.{plan}: {text} is no time above 0")
    return seconds


@cache
def subscriptions() -> tuple[Subscription, ...]:
    """The plans in the package."""
    return read_subscriptions(DATA / "subscriptions.toml")
