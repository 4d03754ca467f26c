"""How fast the user's job runs on cards: the best recipe that fits, by the calibrated estimator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rigwise.errors import MissingFactError
from rigwise.rig.figures import figures
from rigwise.rig.fit import lanes_each
from rigwise.rig.types import Card, Demand, Processor, Rig
from rigwise.workload.choices import Task
from rigwise.workload.lower import Recipe

#: Lanes that a desktop CPU has for cards, and the least PCIe generation of those sold, where it is not chosen yet.
DESKTOP_LANES, DESKTOP_GENERATION = 16, 4


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
        samples_per_s: At the median, with the quickest recipe that fits; None if none does.
        low_per_s, high_per_s: A tenth of outcomes lies below the one and above the other.
        fit_probability: Of that recipe, or the highest of any.
        recipe: Number format, mode and micro-batch, in words.
        provenance: What the prediction rests on: ``same-device`` to ``spec-only``.
    """

    samples_per_s: float | None = None
    low_per_s: float = 0.0
    high_per_s: float = 0.0
    fit_probability: float
    recipe: str = ""
    provenance: str = ""


def setup_of(card: Card, count: int, cpu: Processor | None = None) -> Setup:
    """``count`` such cards, on the lanes that a CPU gives each; without one, on those of any desktop."""
    devices = count * card.per_board
    each = min(lanes_each((cpu and cpu.lanes) or DESKTOP_LANES, count), card.lanes or 16)
    socket = figures().sockets.get(cpu.socket) if cpu else None
    generation = min(card.generation or 0, socket.pcie_generation if socket else DESKTOP_GENERATION)
    link = f"pcie{generation}x{each}" if devices > 1 and generation and each else ""
    return Setup(device=card.device, count=devices, link=link)


def speeds(task: Task, setups: Iterable[Setup], confidence: float) -> Mapping[Setup, Speed]:
    """The best recipe of every setup; setups that the estimator cannot judge are left out.

    Every recipe that leaves the result of the job alone is tried on all setups at once; recompute
    where the same recipe does not fit without.

    Args:
        task: The job with its model.
        setups: Equal cards each.
        confidence: Probability with which a recipe must fit.
    """
    from rigwise.estimate.calibration import load_calibration
    from rigwise.estimate.fleet import estimate_fleet
    from rigwise.estimate.interval import provenance_of
    from rigwise.facts import catalogue
    from rigwise.machine.machine import Machine
    from rigwise.workload.choices import recipes

    able = [s for s in dict.fromkeys(setups) if s.device and task.case.batch % s.count == 0]
    able = [s for s in able if not catalogue.device(s.device).missing()]
    best: dict[Setup, Speed] = {}
    for count in sorted({s.count for s in able}):
        same = [s for s in able if s.count == count]
        machines = [Machine(device=catalogue.device(s.device), count=count, link=s.link) for s in same]
        for family in task.families:
            tight: dict[Recipe, list[int]] = {}
            listed = recipes(task, family, count)
            for recipe in sorted(listed, key=lambda r: r.recompute != "none"):
                where = tight.get(replace(recipe, recompute="none"), list(range(len(same))))
                if not where:
                    continue
                estimate = estimate_fleet(task.case, recipe, [machines[i] for i in where], task.model)
                if recipe.recompute == "none":
                    tight[recipe] = [i for i in where if not estimate.fit_probability[i] >= confidence]
                for row, i in enumerate(where):
                    found = _speed(task, recipe, estimate, row)
                    if found.fit_probability >= 0:
                        kept = found if found.fit_probability >= confidence else replace(found, samples_per_s=None)
                        best[same[i]] = _better(kept, best.get(same[i]))
    calibration = load_calibration()
    rests = {s: str(provenance_of(catalogue.device(s.device), calibration)) for s in best}
    return {setup: replace(speed, provenance=rests[setup]) for setup, speed in best.items()}


def _speed(task: Task, recipe: Recipe, estimate: Any, row: int) -> Speed:
    """One recipe on one setup; a negative probability where it cannot be judged."""
    steps = (estimate.step_p50_s, estimate.step_p90_s, estimate.step_p10_s)
    middle, slow, quick = (float(step_s[row]) for step_s in steps)
    fits = float(estimate.fit_probability[row])
    if not (middle > 0 and fits >= 0):
        return Speed(fit_probability=-1.0)
    batch = task.case.batch
    words = f"{recipe.dtype}, {recipe.mode}, micro-batch {recipe.micro_batch}"
    words += f", recompute {recipe.recompute}" if recipe.recompute != "none" else ""
    return Speed(
        samples_per_s=batch / middle,
        low_per_s=batch / slow,
        high_per_s=batch / quick,
        fit_probability=fits,
        recipe=words,
    )


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
    cpu = rig.cpu[0] if rig.cpu else None
    setups = {setup_of(card, len(rig.gpu), cpu) for card in rig.gpu}
    found = speeds(task, setups, task.job.confidence)
    lacking = sorted(s.device or "a card that is not in the catalogue" for s in setups if s not in found)
    if lacking:
        hint = "rigwise devices --incomplete lists what is missing; the batch must divide over the cards"
        raise MissingFactError(f"no estimate of {task.job.model} on {len(rig.gpu)} x {', '.join(lacking)}", hint=hint)
    slowest = min(found.values(), key=lambda s: s.samples_per_s or 0.0)
    fits = min(s.fit_probability for s in found.values())
    return Demand(model=task.job.model, samples_per_s=slowest.samples_per_s, fit_probability=fits)
