"""What is known of how long spot capacity lasts: the rows of ``data/spot.toml``.

Source: stated in each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import DATA
from rigwise.facts.offer import Offer
from rigwise.units import parse_seconds

#: Upper edge of each bucket of the advisor but the last, which is open.
ADVISOR_EDGES = (0.05, 0.10, 0.15, 0.20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """The shape of the lengths of runs: their mean over their median, which is 1.44 if they are exponential."""

    mean_over_median: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedCase:
    """Mean run and mean wait that are assumed where nothing is known, as text with a unit."""

    run: str
    wait: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedRow:
    """What is assumed: time to run again, time to save, and the cases to plan under."""

    restart: str
    save: str
    cases: Mapping[str, AssumedCase]
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """Lowest and highest mean run, and either mean waits or fractions of the time that capacity was there."""

    provider: str
    instances: tuple[str, ...]
    run: tuple[str, str]
    as_of: str
    source: str
    regions: tuple[str, ...] = ()
    wait: tuple[str, str] | None = None
    availability: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorRow:
    """Number of regions whose share of instances interrupted in a month lies in each bucket of ``ADVISOR_EDGES``."""

    provider: str
    instances: tuple[str, ...]
    regions_by_bucket: tuple[int, int, int, int, int]
    as_of: str
    source: str
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotFacts:
    """The whole of ``spot.toml``."""

    lifetimes: Lifetimes
    assumed: AssumedRow
    measured: Mapping[str, MeasuredRow] = field(default_factory=dict)
    advisor: Mapping[str, AdvisorRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionOverride:
    """What a user knows of the capacity that will be used: ``[market.spot]`` of a job. None: as the facts say."""

    mean_run_s: float | None = None
    mean_wait_s: float | None = None
    restart_s: float | None = None
    save_s: float | None = None


def read_spot_facts(path: Path) -> SpotFacts:
    """Read a file of spot facts.

    Raises:
        InvalidInputError: A key, a duration or a row that means nothing; names the file and the row.
    """
    facts = parse(parse_toml(read_text(path), path.name), SpotFacts, path.name)
    durations = [facts.assumed.restart, facts.assumed.save]
    for case in facts.assumed.cases.values():
        durations += [case.run, case.wait]
    for name, row in facts.measured.items():
        if (row.wait is None) == (row.availability is None):
            raise InvalidInputError(f"{path.name}: measured.{name} needs one of wait and availability")
        if row.availability and not 0 < row.availability[0] <= row.availability[1] < 1:
            raise InvalidInputError(f"{path.name}: measured.{name}.availability is not two fractions in order")
        durations += [*row.run, *(row.wait or ())]
    for name, advised in facts.advisor.items():
        if min(advised.regions_by_bucket) < 0 or not sum(advised.regions_by_bucket):
            raise InvalidInputError(f"{path.name}: advisor.{name}.regions_by_bucket counts no region")
    for text in durations:
        if not parse_seconds(text) > 0:
            raise InvalidInputError(f"{path.name}: {text} is no time above 0")
    return facts


@cache
def spot_facts() -> SpotFacts:
    """The facts in the package."""
    return read_spot_facts(DATA / "spot.toml")


def about(row: MeasuredRow | AdvisorRow, offer: Offer) -> bool:
    """Whether a row holds for an offer."""
    return (
        row.provider == offer.provider
        and any(offer.instance.startswith(name) for name in row.instances)
        and (not row.regions or any(offer.region.startswith(name) for name in row.regions))
    )
