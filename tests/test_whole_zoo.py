"""Every model of the zoo on every device whose figures are known, for every task and mode."""

import numpy as np
import pytest

from rigwise.estimate.fleet import estimate_fleet
from rigwise.facts.catalogue import devices
from rigwise.graph.graph import GRAPHS_OF_TASK
from rigwise.graph.load import load_model, zoo_names
from rigwise.graph.op import Kind
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Recipe

MACHINES = [Machine(device=d) for d in devices() if not d.missing() and d.computes("fp32")]

#: Operators that no cost law covers, and that are counted as memory traffic only.
KNOWN_UNKNOWN: set[str] = set()


@pytest.mark.parametrize("name", zoo_names())
def test_every_task_has_a_time_on_every_device(name):
    model = load_model(name)
    for task, graphs in GRAPHS_OF_TASK.items():
        if graphs[0] not in model.graphs:
            continue
        for mode in ("eager", "compiled"):
            batch = 2 if "b" in model.graphs[graphs[0]].symbols else 1
            case = Case(model=name, device="", task=task, batch=batch)
            found = estimate_fleet(case, Recipe(dtype="fp32", mode=mode, micro_batch=batch), MACHINES, model)
            can = np.array([m.device.computes("fp64") or name != "dgemm" for m in MACHINES])
            assert (np.isfinite(found.step_p50_s) == can).all()
            assert (found.bound_s[can] > 0).all()
            assert (found.bound_s[can] <= found.step_p10_s[can]).all()
            assert (found.step_p10_s[can] <= found.step_p50_s[can]).all()
            assert (found.memory_p50_bytes[can] > 0).all()


def test_unknown_operators_of_the_zoo_are_listed():
    unknown = set()
    for name in zoo_names():
        for graph in load_model(name).graphs.values():
            unknown |= {op.name for op in graph.ops if op.kind is Kind.UNKNOWN}
    assert unknown == KNOWN_UNKNOWN


def test_there_are_enough_of_both():
    assert len(MACHINES) > 250
    assert len(zoo_names()) >= 60
