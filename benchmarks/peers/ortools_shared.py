"""Jobs that share machines by the CP-SAT solver. Run by the Python of an environment that has ``ortools``.

    python ortools_shared.py PROBLEMS.json

Each job has options (machine or -1 for rented, number, seconds at the median, seconds late), a deadline and what a
second of waiting adds. Late times of the jobs on a machine must not overlap and keep the deadlines; where waiting
counts, an order of each two jobs on a machine gives what one waits for the other. Numbers are scaled to whole ones, so
a value can differ from the exact one by about the millionth part. The limit is one of wall time. Printed: value, bound,
whether it is proven, CPU seconds, with one worker.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ortools.sat.python import cp_model

#: Whole units of the largest number.
UNITS = 10**7


def shared(problem: dict[str, Any]) -> tuple[cp_model.CpModel, float]:
    """The model, and what a unit of its objective is worth."""
    jobs = problem["jobs"]
    unit = max(number for job in jobs for _, number, _, _ in job["options"]) / UNITS
    last_s = sum(max(late_s for _, _, _, late_s in job["options"]) for job in jobs)  # without a deadline
    ends_s = [last_s if job["deadline_s"] is None else job["deadline_s"] for job in jobs]
    late_unit = max(ends_s) / UNITS
    model, parts = cp_model.CpModel(), []
    on: dict[int, list[tuple[int, Any, float, Any]]] = {}
    for j, job in enumerate(jobs):
        chosen = [model.new_bool_var("") for _ in job["options"]]
        model.add_exactly_one(chosen)
        for x, (machine, number, run_s, late_s) in zip(chosen, job["options"], strict=True):
            parts.append(round(number / unit) * x)
            if machine < 0:
                continue
            size, end = round(late_s / late_unit), int(ends_s[j] / late_unit)
            if size > end:
                model.add(x == 0)
                continue
            start = model.new_int_var(0, end - size, "")
            interval = model.new_optional_fixed_size_interval_var(start, size, x, "")
            on.setdefault(machine, []).append((j, x, run_s, (start, interval)))
    for entries in on.values():
        model.add_no_overlap([interval for _, _, _, (_, interval) in entries])
        for a, one in enumerate(entries):
            for other in entries[:a]:
                if one[0] != other[0]:
                    parts += waits(model, jobs, one, other, unit)
    model.minimize(sum(parts))
    return model, unit


def waits(model: cp_model.CpModel, jobs: list[Any], one: Any, other: Any, unit: float) -> list[Any]:
    """What two options on one machine add to each other's number."""
    mine, its = (round(jobs[a[0]]["wait_per_s"] * b[2] / unit) for a, b in ((one, other), (other, one)))
    if not mine and not its:
        return []
    first, second = model.new_bool_var(""), model.new_bool_var("")
    model.add_bool_or([one[1].negated(), other[1].negated(), first, second])
    model.add(one[3][0] <= other[3][0]).only_enforce_if([one[1], other[1], first])
    model.add(other[3][0] <= one[3][0]).only_enforce_if([one[1], other[1], second])
    return [its * first, mine * second]


def main() -> None:
    answers = []
    for problem in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        started = time.process_time()
        model, unit = shared(problem)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.max_time_in_seconds = problem["limit_s"]
        status = solver.solve(model)
        proven = status == cp_model.OPTIMAL
        found = solver.objective_value * unit if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None
        bound = solver.best_objective_bound * unit
        answers.append({"value": found, "bound": bound, "proven": proven, "cpu_s": time.process_time() - started})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
