"""How fast the user's job runs on cards: the best recipe that fits, by the calibrated estimator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rigwise.errors import MissingFactError
from rigwise.rig.fit import lanes_each
from rigwise.rig.types import Card, Demand, Rig
from rigwise.workload.choices import Task

#: Lanes that a desktop CPU has for cards, where the CPU is not chosen yet.
DESKTOP_LANES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Equal cards in one computer, as the estimator tells them apart. ``link`` is the PCIe link of each."""

    device: str
    count: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The best that a setup does.

    Attributes:
        samples_per_s: With the quickest recipe that fits; None if none does.
        fit_probability: Of that recipe, or the highest of any.
        recipe: Number format and micro-batch, in words.
    """

    samples_per_s: float | None
    fit_probability: float
    recipe: str


def setup_of(card: Card, count: int, cpu_lanes: int | None = None) -> Setup:
    """``count`` such cards, on the lanes that a CPU gives each."""
    devices = count * card.per_board
    each = min(lanes_each(cpu_lanes or DESKTOP_LANES, count), card.lanes or 16)
    link = f"pcie{card.generation}x{each}" if devices > 1 and card.generation and each else ""
    return Setup(device=card.device, count=devices, link=link)


def speeds(task: Task, setups: Iterable[Setup], confidence: float) -> Mapping[Setup, Speed]:
    """The best recipe of every setup; setups that the estimator cannot judge are left out.

    Every recipe that leaves the result of the job alone is tried on all setups at once.

    Args:
        task: The job with its model.
        setups: Equal cards each.
        confidence: Probability with which a recipe must fit.
    """
    import numpy as np

    from rigwise.estimate.fleet import estimate_fleet
    from rigwise.facts import catalogue
    from rigwise.machine.machine import Machine
    from rigwise.workload.choices import recipes

    best: dict[Setup, Speed] = {}
    able = [s for s in dict.fromkeys(setups) if s.device and task.case.batch % s.count == 0]
    able = [s for s in able if not catalogue.device(s.device).missing()]
    for count in sorted({s.count for s in able}):
        same = [s for s in able if s.count == count]
        machines = [Machine(device=catalogue.device(s.device), count=count, link=s.link) for s in same]
        for family in task.families:
            for recipe in recipes(family, task.case.batch, count, task.job.task == "train", task.recomputes):
                estimate = estimate_fleet(task.case, recipe, machines, task.model)
                for i, setup in enumerate(same):
                    step_s, fits = float(estimate.step_p50_s[i]), float(estimate.fit_probability[i])
                    if np.isfinite(step_s) and np.isfinite(fits):
                        rate = task.case.batch / step_s if fits >= confidence else None
                        words = f"{family.dtype}, micro-batch {recipe.micro_batch}"
                        found = Speed(samples_per_s=rate, fit_probability=fits, recipe=words)
                        best[setup] = _better(found, best.get(setup))
    return best


def _better(new: Speed, old: Speed | None) -> Speed:
    if old is None:
        return new
    return max(old, new, key=lambda s: (s.samples_per_s or 0.0, s.fit_probability))


def demand_of(rig: Rig, task: Task) -> Demand | None:
    """What a job makes of the cards of a rig; None if there are none.

    Cards of several models work at the pace of the slowest, each with an equal share.

    Raises:
        MissingFactError: The estimator lacks a figure of one of the cards.
    """
    if not rig.gpu:
        return None
    lanes = rig.cpu[0].lanes if rig.cpu else None
    setups = {setup_of(card, len(rig.gpu), lanes) for card in rig.gpu}
    found = speeds(task, setups, task.job.confidence)
    lacking = sorted(s.device or "a card that is not in the catalogue" for s in setups if s not in found)
    if lacking:
        hint = "rigwise devices --incomplete lists what is missing; the batch must divide over the cards"
        raise MissingFactError(f"no estimate of {task.job.model} on {len(rig.gpu)} x {', '.join(lacking)}", hint=hint)
    slowest = min(found.values(), key=lambda s: s.samples_per_s or 0.0)
    fits = min(s.fit_probability for s in found.values())
    return Demand(model=task.job.model, samples_per_s=slowest.samples_per_s, fit_probability=fits)
