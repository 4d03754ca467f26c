"""Chains and placements by the CP-SAT solver. Run by the Python of an environment that has ``ortools``.

    python ortools_solve.py PROBLEM.json

``kind`` is ``chain``: one of several (value, seconds) of each stage, the least sum of values within ``limit_s``; or
``placement``: components on places, the least load of the fullest resource. Numbers are scaled to whole ones, so a
value can differ from the exact one by the millionth part. Printed: value and CPU seconds, with one worker.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ortools.sat.python import cp_model

#: Whole units that the largest number of a problem becomes.
UNITS = 10**8
#: By resource, what loads it.
Loads = dict[int, list[Any]]


def chain(problem: dict[str, Any]) -> tuple[cp_model.CpModel, float]:
    """One step of each stage."""
    stages = problem["stages"]
    value_unit = max(v for stage in stages for v, _ in stage) / UNITS
    time_unit = max(problem["limit_s"], *(s for stage in stages for _, s in stage)) / UNITS
    model = cp_model.CpModel()
    cost, seconds = [], []
    for stage in stages:
        chosen = [model.new_bool_var("") for _ in stage]
        model.add_exactly_one(chosen)
        cost += [round(v / value_unit) * x for (v, _), x in zip(stage, chosen, strict=True)]
        seconds += [round(s / time_unit) * x for (_, s), x in zip(stage, chosen, strict=True)]
    model.add(sum(seconds) <= int(problem["limit_s"] / time_unit))
    model.minimize(sum(cost))
    return model, value_unit


def placement(problem: dict[str, Any]) -> tuple[cp_model.CpModel, float]:
    """Each component on one of its places, loads of components and of what crosses links added up."""
    own = problem["own_s"]  # components x places, None where it cannot run
    largest = max(x for row in own for x in row if x is not None)
    heavy = max((x for _, _, _, _, loads in problem["copies"] for _, x in loads), default=0.0)
    unit = max(largest, heavy) / (UNITS // 100)
    model = cp_model.CpModel()
    on = [[model.new_bool_var("") if x is not None else None for x in row] for row in own]
    for row in on:
        model.add_exactly_one([x for x in row if x is not None])
    top = model.new_int_var(0, UNITS * 100, "top")
    loads: Loads = {}
    for i, row in enumerate(on):
        for p, x in enumerate(row):
            if x is not None:
                model.add(top >= round(own[i][p] / unit) * x)
                add(loads, problem["loads"][i][p], x, unit)
    cross(model, problem, on, loads, unit)
    for p, room in enumerate(problem["room"]):
        if room is not None:
            held = [round(problem["memory"][i][p]) * row[p] for i, row in enumerate(on) if row[p] is not None]
            model.add(sum(held) <= int(room))
    for parts in loads.values():
        model.add(sum(parts) <= top)
    model.minimize(top)
    return model, unit


def cross(model: cp_model.CpModel, problem: dict[str, Any], on: list[list[Any]], loads: Loads, unit: float) -> None:
    """What edges load links with where their ends stand on two places, and which two cannot be joined."""
    for i, j, a, b, found in problem["copies"]:
        if on[i][a] is not None and on[j][b] is not None:
            both = model.new_bool_var("")
            model.add_bool_or([on[i][a].negated(), on[j][b].negated(), both])
            add(loads, found, both, unit)
    for i, j, a, b in problem["apart"]:
        if on[i][a] is not None and on[j][b] is not None:
            model.add_bool_or([on[i][a].negated(), on[j][b].negated()])


def add(loads: Loads, more: list[tuple[int, float]], chosen: Any, unit: float) -> None:
    """Loads of resources if something is chosen."""
    for r, load in more:
        loads.setdefault(r, []).append(round(load / unit) * chosen)


def main() -> None:
    answers = []
    for problem in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        started = time.process_time()
        model, unit = {"chain": chain, "placement": placement}[problem["kind"]](problem)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.max_time_in_seconds = 120
        status = solver.solve(model)
        proven = status == cp_model.OPTIMAL
        found = solver.objective_value * unit if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None
        answers.append({"value": found, "proven": proven, "cpu_s": time.process_time() - started})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
