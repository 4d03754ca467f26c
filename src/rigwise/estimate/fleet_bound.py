"""What no recipe of a family undercuts on a machine: the time of its own operators, however devices divide them.

Every replica computes its part of the batch in micro-batches of some size, which the members of a replica divide in
some way. What that takes on one device comes as often as there are micro-batches, of which a stage of a pipeline has
its part and the bubble. Communication, waiting, unequal stages, recompute and the optimizer's pass over the weights
only add to it, so the quickest recipe that keeps activations bounds them all, whether it fits or not.

Source: ``estimate.step`` and ``estimate.pipeline``, of which these are the parts that no choice avoids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import stack
from rigwise.estimate.fleet_columns import Known, best_format_for, facts_of
from rigwise.estimate.fleet_work import Division, Indices, Kept, asked_of, divisions_of, divisors, kept_work
from rigwise.estimate.overhead import host_s, host_scale, meet
from rigwise.estimate.setting import setting_of
from rigwise.estimate.straggling import straggling_frac
from rigwise.graph.op import Phase
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Recipe
from rigwise.workload.recipes import Recipes
from rigwise.workload.table import Array

#: Sums in another order differ in their last digits, and a bound must not be above.
_ROUNDING = 1.0 - 1e-9
#: Ways to divide operators, and the fewest passes over a model that a step takes as long as ``[divisions, sizes]``.
_Passes = tuple[list[Division], Array]


def least_divided_s(
    case: Case, family: Any, machines: Sequence[Machine], recipes: Sequence[Recipes], held: Known
) -> Array:
    """Lower bound of the median time of a step ``[machines]``, nan where there is none.

    Args:
        case: The job.
        family: Number format, layout and mode.
        machines: Any mixture.
        recipes: What each of them may do; several may share the columns of theirs.
        held: The model.

    Source: see the module.
    """
    passes: dict[int, _Passes] = {}
    places: dict[str, dict[tuple[int, Known], list[int]]] = {}
    for index, (machine, mine) in enumerate(zip(machines, recipes, strict=True)):
        if not machine.device.missing():
            device, shape = Known(machine.device), id(mine.columns)
            if shape not in passes:
                passes[shape] = _passes(case.batch, machine.count, Known(mine.columns))
            places.setdefault(best_format_for(family.dtype, device), {}).setdefault((shape, device), []).append(index)
    found, calibration = np.full(len(machines), np.nan), load_calibration()
    for best_format, where in places.items():
        try:
            kept = kept_work(asked_of(case, held, family, "none", best_format), calibration)
        except RigwiseError:
            continue
        able = [place for place in where if kept.formats <= facts_of(place[1]).formats]
        for place, step_s in zip(able, _of_places(kept, passes, able), strict=True):
            found[where[place]] = step_s
    if case.task != "train":
        return found * _ROUNDING
    waits = 1.0 + straggling_frac([machine.count for machine in machines], calibration.collective.step_spread)
    return np.asarray((found + calibration.launch.step_s) * waits * _ROUNDING)


def _of_places(kept: Kept, passes: Mapping[int, _Passes], places: Sequence[tuple[int, Known]]) -> list[float]:
    """Least time of the operators of a step at each pair of a shape and a device, nan where none can be divided."""
    asked: dict[int, tuple[Indices, Array]] = {}
    shapes = dict.fromkeys(shape for shape, _ in places)
    kept.places(list(dict.fromkeys(division for shape in shapes for division in passes[shape][0])))
    for shape in shapes:
        divisions, often = passes[shape]
        place = kept.places(divisions)
        division, size = np.nonzero((often < np.inf) & (place >= 0)[:, None])
        asked[shape] = place[division] * len(kept.batches) + size, often[division, size]
    devices = list(dict.fromkeys(device for _, device in places))
    row = {device: index for index, device in enumerate(devices)}
    number = np.array([len(asked[shape][0]) for shape, _ in places], dtype=np.int64)
    if not number.sum():
        return [np.nan] * len(places)
    device = np.repeat([row[device] for _, device in places], number)
    column, often = (np.concatenate([asked[shape][i] for shape, _ in places]) for i in (0, 1))
    step_s = _one_s(kept, devices, device, column) * often
    able = np.flatnonzero(number)
    found = np.full(len(places), np.nan)
    found[able] = np.minimum.reduceat(step_s, (np.cumsum(number) - number)[able])
    return [float(least_s) for least_s in found]


@lru_cache(maxsize=1024)
def _passes(batch: int, count: int, held: Known) -> _Passes:
    """How often a step runs the operators of one device, at least, by how they are divided and micro-batch.

    A replica has so many micro-batches, of which a stage has its part, and the bubble as if stages were equal.

    Args:
        batch: Of a step.
        count: Devices.
        held: Columns of the recipes.

    Source: ``pipeline.passes_of_stage``.
    """
    every = Recipes(Recipe(dtype=""), held.thing)
    recipes = every.take(every.columns["recompute"] == 0)
    of = recipes.columns
    micro_steps = batch * recipes.members / (count * of["micro_batch"])
    passes = (micro_steps + (of["pipeline"] - 1) / of["virtual"]) / of["pipeline"]
    divisions, division = divisions_of(recipes)
    sizes = divisors(batch)
    least = np.full((len(divisions), len(sizes)), np.inf)
    np.minimum.at(least, (division, np.searchsorted(sizes, of["micro_batch"])), passes)
    return divisions, least


def _one_s(kept: Kept, devices: Sequence[Known], device: Indices, column: Indices) -> Array:
    """Time of micro-batches, each on one of the devices, or of dispatching it where that is longer."""
    case, calibration = kept.step.case, kept.calibration
    micro, on = kept.on(devices, device, column), stack([facts_of(device).column for device in devices])
    # Measurements may have found the host quicker than it is taken to be here.
    scale: Any = 0.0 if calibration.learned else host_scale(case.host, on, calibration.launch)[device]
    one_s: Any = 0.0
    for phase, on_device in ((Phase.FORWARD, micro.forward_s), (Phase.BACKWARD, micro.backward_s)):
        dispatch_s = host_s(kept.step.table, phase, setting_of(case), calibration.launch)
        one_s = one_s + meet(on_device, dispatch_s * scale, on.is_cpu[device, 0, 0])
    return np.asarray(one_s)
