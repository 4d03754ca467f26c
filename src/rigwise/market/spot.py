"""What interruptions add to a job on spot capacity, and how often to save.

A job that saves its state after every ``interval_s`` of work, and is interrupted at
exponentially distributed moments, pays on average for

    (work_s / interval_s) run_s exp(restart_s / run_s) (exp((interval_s + save_s) / run_s) - 1)

where a restart can be interrupted as well. After each interruption it waits until there is
capacity again: its time is what it pays for, over the fraction of the time that capacity is there.
A gang of n machines is interrupted when any of them is, n times as often.

Left out: the warning of half a minute to two minutes that some providers give, in which a small
checkpoint can be saved. Lengths of runs that are not exponential are replayed in
``market.replay``.

Source: J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
dumps", Future Generation Computer Systems 22 (2006), its complete cost function; J. W. Young, "A first order
approximation to the optimum checkpoint interval", CACM 17(9), 1974; arXiv 2410.18124 for the
interval that is best for availability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.facts.interruption import ADVISOR_EDGES, InterruptionOverride, MeasuredRow, SpotFacts, about, spot_facts
from rigwise.facts.offer import Offer
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, format_seconds, parse_seconds

MEASURED, ADVISOR, ASSUMED_CLASS, GIVEN = "measured", "advisor", "assumed", "given"
PESSIMISTIC, USUAL, OPTIMISTIC = "pessimistic", "usual", "optimistic"

_MONTH_S = 365.25 * DAY_S / 12
#: No interval is a smaller part of a mean run than this: below, saving is as good as free.
_LEAST_FRAC = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """How often spot capacity goes away, and what that costs.

    Attributes:
        mean_run_s: Mean time that one instance lasts.
        mean_wait_s: Mean time until there is capacity for it again.
        restart_s: From capacity being there to the job running again.
        save_s: Time to write one checkpoint.
        together: Whether all instances of a job come and go at once; else each comes and goes on its own.
        source_class: ``measured``, ``advisor``, ``assumed`` or ``given``.
        source: Where the figures come from.
    """

    mean_run_s: float
    mean_wait_s: float
    restart_s: float
    save_s: float
    together: bool = False
    source_class: str = GIVEN
    source: str = "as given"

    @property
    def availability_frac(self) -> float:
        """Fraction of the time that there is capacity for one instance."""
        return self.mean_run_s / (self.mean_run_s + self.mean_wait_s)


def young_interval_s(save_s: Any, run_s: Any) -> Any:
    """Young's interval: the first term, and longer than the best by about the time to save.

    >>> float(young_interval_s(72.0, 21600.0).round())
    1764.0
    """
    return np.sqrt(2.0 * save_s * run_s)


def daly_interval_s(save_s: Any, run_s: Any) -> Any:
    """Daly's series for the best interval; the mean run where saving takes over twice as long as that.

    >>> float(daly_interval_s(72.0, 21600.0).round())
    1716.0
    """
    half = save_s / (2.0 * run_s)
    series = np.sqrt(2.0 * save_s * run_s) * (1.0 + np.sqrt(half) / 3.0 + half / 9.0) - save_s
    return np.where(half < 1.0, series, run_s)


def availability_interval_s(save_s: Any, run_s: Any, restart_s: Any) -> Any:
    """The interval that arXiv 2410.18124 finds best for the fraction of the time that a machine does new work.

    >>> float(availability_interval_s(72.0, 21600.0, 360.0).round())
    1852.0
    """
    return save_s + np.sqrt(2.0 * (run_s + restart_s) * save_s + save_s * save_s)


def best_interval_s(save_s: Any, run_s: Any) -> Any:
    """The interval at which the expected time is least, whatever a restart takes.

    The derivative of the expected time is zero where ``(1 - x) = exp(-x - save_s / run_s)`` with
    ``x = interval_s / run_s``. Daly's series approximates this root; five steps of Newton's
    method from there find it to the last digit. This is the one to use: it is the minimum of the very formula
    that prices the job, Young's is too long when saving is slow, and the one for availability
    counts the restart, on which the minimum does not depend.
    """
    save, run = np.asarray(save_s, dtype=float), np.asarray(run_s, dtype=float)
    cost = save / run
    x = np.clip(daly_interval_s(save, run) / run, _LEAST_FRAC, 1.0)
    for _ in range(5):
        shrunk = np.exp(-x - cost)
        x = np.clip(x + (1.0 - x - shrunk) / np.maximum(1.0 - shrunk, _LEAST_FRAC), _LEAST_FRAC, 1.0)
    return run * x


def time_factor_of(interval_s: Any, run_s: Any, restart_s: Any, save_s: Any) -> Any:
    """Expected time that is paid for, over the time of the work alone; infinite where no interval is ever finished.

    >>> round(float(time_factor_of(3600.0, 21600.0, 360.0, 72.0)), 3)
    1.131
    """
    with np.errstate(over="ignore"):
        return run_s / interval_s * np.exp(restart_s / run_s) * np.expm1((interval_s + save_s) / run_s)


def gang_run_s(interruption: Interruption, instances: Any = 1) -> Any:
    """Mean time between interruptions of a gang: any instance's stops the job.

    >>> gang_run_s(ASSUMED, 4)
    5400.0
    """
    return interruption.mean_run_s / (1 if interruption.together else instances)


def availability_frac(interruption: Interruption, instances: Any = 1) -> Any:
    """Fraction of the time that there is capacity for a whole gang.

    Each machine on its own is the worst case. Capacity of one zone comes and goes together: the traces of Wu et
    al. show 16 machines with no capacity for any of them for a third to a half of the time, which independence
    would rule out.

    >>> round(float(availability_frac(ASSUMED, 2)), 3)
    0.735
    """
    power = 1.0 if interruption.together else np.asarray(instances, dtype=float)
    return interruption.availability_frac**power


def gang_wait_s(interruption: Interruption, instances: Any = 1) -> Any:
    """Mean wait of a gang for capacity: with its mean run it makes up the fraction above."""
    there = availability_frac(interruption, instances)
    with np.errstate(divide="ignore"):
        return gang_run_s(interruption, instances) * (1.0 / there - 1.0)


def checkpoint_interval_s(interruption: Interruption, instances: Any = 1) -> Any:
    """How much work to do between two checkpoints.

    >>> round(checkpoint_interval_s(ASSUMED) / 60, 1)
    28.6
    """
    return _plain(best_interval_s(interruption.save_s, gang_run_s(interruption, instances)))


def time_factor(interruption: Interruption, instances: Any = 1) -> Any:
    """Expected time that is paid for with interruptions, over the time without any.

    >>> round(time_factor(ASSUMED), 3), round(time_factor(ASSUMED, 8), 2)
    (1.105, 1.45)
    """
    between_s = gang_run_s(interruption, instances)
    interval_s = best_interval_s(interruption.save_s, between_s)
    return _plain(time_factor_of(interval_s, between_s, interruption.restart_s, interruption.save_s))


def wait_factor(interruption: Interruption, instances: Any = 1) -> Any:
    """Time until the job is done over the time that is paid for.

    >>> round(wait_factor(ASSUMED), 3)
    1.167
    """
    return _plain(1.0 / availability_frac(interruption, instances))


def spot_tariff(usd_per_h: Any, interruption: Interruption, instances: Any = 1) -> Tariff:
    """A spot price as a tariff; machines that wait for the others of their gang are given back and not paid for.

    Args:
        usd_per_h: What the tariff is to charge by the hour.
        interruption: What is known of the capacity.
        instances: Machines that the job needs at once.

    >>> tariff = spot_tariff(1.0, ASSUMED)
    >>> round(float(tariff.cost_usd(86400.0)), 2), round(float(tariff.wall_s(86400.0)) / 3600, 1)
    (26.51, 30.9)
    """
    paid, waited = (_factors_of_one if isinstance(instances, int) else _factors)(interruption, instances)
    return Tariff(usd_per_h=usd_per_h, time_factor=paid, wait_factor=waited)


def _factors(interruption: Interruption, instances: Any) -> tuple[Any, Any]:
    return time_factor(interruption, instances), wait_factor(interruption, instances)


@lru_cache(maxsize=4096)
def _factors_of_one(interruption: Interruption, instances: int) -> tuple[Any, Any]:
    """The same, once for all offers of which the same is known."""
    return _factors(interruption, instances)


def _plain(value: Any) -> Any:
    """A number for a number, an array for an array."""
    return float(value) if np.ndim(value) == 0 else value


def advisor_run_s(regions_by_bucket: tuple[int, ...]) -> float | None:
    """Mean run that the advisor's median region admits; None where it only says "over 20 %", which bounds nothing.

    An instance that is kept for a month is interrupted with the probability at the upper edge of the bucket. Those
    that live for hours count in the advisor's share as well, so the truth is worse: the reading that flatters most.

    >>> round(advisor_run_s((4, 3, 0, 0, 2)) / 3600)
    6933
    """
    middle = (sum(regions_by_bucket) - 1) // 2
    seen = 0
    for edge, regions in zip(ADVISOR_EDGES, regions_by_bucket, strict=False):
        seen += regions
        if seen > middle:
            return -_MONTH_S / math.log1p(-edge)
    return None


def assumed_cases(facts: SpotFacts) -> Mapping[str, Interruption]:
    """What is assumed of an offer of which nothing is known: pessimistic, usual, optimistic."""
    row = facts.assumed
    return {
        name: Interruption(
            mean_run_s=parse_seconds(case.run),
            mean_wait_s=parse_seconds(case.wait),
            restart_s=parse_seconds(row.restart),
            save_s=parse_seconds(row.save),
            source_class=ASSUMED_CLASS,
            source=f"{case.source} ({row.as_of})",
        )
        for name, case in row.cases.items()
    }


ASSUMED = assumed_cases(spot_facts())[USUAL]


def in_words(interruption: Interruption, instances: int = 1) -> str:
    """What a plan that uses such capacity must know, in one sentence."""
    interval_s = checkpoint_interval_s(interruption, instances)
    each = "one of the machines" if instances > 1 else "the machine"
    return (
        f"spot: save a checkpoint every {format_seconds(interval_s)}; {each} is taken away every"
        f" {format_seconds(float(gang_run_s(interruption, instances)))} ({interruption.source_class}), which makes the"
        f" job {time_factor(interruption, instances):.2f} x as dear and, with waiting,"
        f" {time_factor(interruption, instances) * wait_factor(interruption, instances):.2f} x as long"
    )


def scenarios_of(offer: Offer, facts: SpotFacts | None = None) -> Mapping[str, Interruption]:
    """Everything that can be believed of an offer's capacity, by name, the best founded first.

    What was measured, what the provider's advisor admits, and what is assumed where nothing is known. Times to
    restart and to save are those of the job, and assumed in all of them.
    """
    facts = facts or spot_facts()
    usual = assumed_cases(facts)[USUAL]
    found: dict[str, Interruption] = {}
    measured = next((row for row in facts.measured.values() if about(row, offer)), None)
    if measured is not None:
        found[MEASURED] = _measured(measured, usual)
    advised = next((row for row in facts.advisor.values() if about(row, offer)), None)
    mean_run_s = advisor_run_s(advised.regions_by_bucket) if advised is not None else None
    if advised is not None and mean_run_s is not None:
        source = f"{advised.source} ({advised.as_of}), the wait assumed"
        found[ADVISOR] = replace(usual, mean_run_s=mean_run_s, source_class=ADVISOR, source=source)
    return {**found, **assumed_cases(facts)}


def _measured(row: MeasuredRow, usual: Interruption) -> Interruption:
    runs = [parse_seconds(text) for text in row.run]
    if row.wait is not None:
        waits = [parse_seconds(text) for text in row.wait]
    else:
        waits = [run * (1.0 / there - 1.0) for run, there in zip(runs, row.availability or (), strict=True)]
    return replace(
        usual,
        mean_run_s=math.sqrt(runs[0] * runs[1]),
        mean_wait_s=math.sqrt(waits[0] * waits[1]),
        source_class=MEASURED,
        source=f"{row.source} ({row.as_of}){f'; {row.note}' if row.note else ''}",
    )


def interruption_of(offer: Offer) -> Interruption:
    """What to plan with: what was measured of the offer, else the usual assumption.

    The advisor's figure is shown, not planned with: it bounds interruptions from one side only.
    """
    return next((known for row, known in _measured_rows() if about(row, offer)), ASSUMED)


@cache
def _measured_rows() -> tuple[tuple[MeasuredRow, Interruption], ...]:
    return tuple((row, _measured(row, ASSUMED)) for row in spot_facts().measured.values())


def overridden(interruption: Interruption, given: InterruptionOverride) -> Interruption:
    """The same with what a user knows better.

    Raises:
        InvalidInputError: A time that cannot be.
    """
    known = {f.name: getattr(given, f.name) for f in fields(given) if getattr(given, f.name) is not None}
    if not known:
        return interruption
    for name, value in known.items():
        least = 1.0 if name == "mean_run_s" else 0.0
        if not least <= value <= 1e10:
            key = name.removesuffix("_s")
            raise InvalidInputError(
                f"market.spot.{key} is {value:g} s", hint=f"give a time from {format_seconds(least)} to 300 years"
            )
    changed = replace(interruption, **known)
    levels = {"mean_run_s", "mean_wait_s"} & set(known)
    return replace(changed, source_class=GIVEN, source="as given") if levels else changed
