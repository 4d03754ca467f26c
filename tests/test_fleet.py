"""Many recipes on many machines at once: the same figures as one case at a time, whatever the layout."""

import random
from dataclasses import replace

import numpy as np
import pytest

from rigwise.errors import RigwiseError
from rigwise.estimate.fleet import estimate_fleet, estimate_recipes, least_family_s
from rigwise.estimate.predict import predict
from rigwise.facts.catalogue import device
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.machine.this import resolve_device
from rigwise.workload.case import Case
from rigwise.workload.choices import recipes, settle
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe
from rigwise.workload.recipes import Recipes

MACHINES = [
    Machine(device=device("h100-sxm5-80gb"), count=8),
    Machine(device=device("a100-sxm4-80gb"), count=16, nodes=2, inter_node_bytes_per_s=50e9),
    Machine(device=device("t4"), count=4),
    Machine(device=device("rtx-4090"), count=2),
    Machine(device=device("mi300x"), count=8),
    Machine(device=device("a10"), count=1),
]
JOBS = [
    {"model": "resnet50", "batch": 64},
    {"model": "gpt2", "batch": 32, "seq": 8192},
    {"model": "llama-3.1-8b", "batch": 32, "method": "lora"},
    {"model": "mixtral-8x7b", "batch": 32},
    {"model": "llama-3.1-70b", "batch": 16, "task": "prefill", "seq": 8192},
    {"model": "llama-3.1-70b", "batch": 16, "task": "decode", "context": 4096},
    {"model": "bert-base", "batch": 16, "task": "infer"},
]


def a_task(fields):
    return settle(Job(amount=1e6, unit="samples", **fields), load_model(fields["model"]))


def asked(task, recipe, machine):
    """The case that a recipe on a machine stands for."""
    inter = machine.inter_node_bytes_per_s
    return replace(
        task.case,
        device=machine.device.id,
        count=machine.count,
        nodes=machine.nodes,
        dtype=recipe.dtype,
        layout=recipe.layout,
        mode=recipe.mode,
        recompute=recipe.recompute,
        inter_node_gbps=None if inter is None else inter * 8 / 1e9,
        parallel=recipe.parallel(machine.count),
    )


def figures(task, recipe, machine):
    """What ``predict`` says, None where it refuses."""
    try:
        p = predict(asked(task, recipe, machine), task.model)
    except RigwiseError:
        return None
    return {
        "step_p10_s": p.step_time_s["p10"],
        "step_p50_s": p.step_time_s["p50"],
        "step_p90_s": p.step_time_s["p90"],
        "memory_p50_bytes": p.peak_memory_bytes["p50"],
        "memory_p90_bytes": p.peak_memory_bytes["p90"],
        "memory_capacity_bytes": p.capacity_bytes,
        "fit_probability": p.fit_probability,
        "energy_p50_j": np.nan if p.energy_j is None else p.energy_j["p50"],
    }


@pytest.mark.parametrize("fields", JOBS, ids=lambda f: f"{f['model']} {f.get('task', 'train')}")
def test_recipes_on_machines_are_cases_of_predict(fields) -> None:
    """All recipes of every machine in one call, a sample of them one by one."""
    dice, task, compared = random.Random(fields["model"]), a_task(fields), 0
    for family in dice.sample(task.families, 2):
        every = Recipes.joined([recipes(task, family, m.count, m.nodes) for m in MACHINES])
        found = estimate_recipes(task.case, every, MACHINES, task.model)
        for row in dice.sample(range(len(every)), min(len(every), 40)):
            column = dice.randrange(len(MACHINES))
            expected = figures(task, every[row], MACHINES[column])
            for name, value in (expected or {}).items():
                assert getattr(found, name)[row, column] == pytest.approx(value, rel=1e-9, nan_ok=True), name
            compared += expected is not None
            assert expected is not None or np.isnan(found.step_p50_s[row, column])
    assert compared > 5


def test_what_is_not_wanted_is_left_out() -> None:
    task = a_task(JOBS[1])
    every = recipes(task, task.families[0], 8)
    wanted = np.zeros((len(every), len(MACHINES)), dtype=bool)
    wanted[3, 0] = True
    found = estimate_recipes(task.case, every, MACHINES, task.model, wanted)
    assert np.flatnonzero(~np.isnan(found.step_p50_s.ravel())).tolist() == [3 * len(MACHINES)]
    alone = estimate_fleet(task.case, every[3], MACHINES[:1], task.model)
    assert found.step_p50_s[3, 0] == alone.step_p50_s[0]


def test_an_estimate_does_not_depend_on_its_company() -> None:
    """Stages and sizes of the others in a call change nothing."""
    task = a_task(JOBS[3])
    every = recipes(task, task.families[0], 8)
    whole = estimate_recipes(task.case, every, MACHINES, task.model)
    for row in range(0, len(every), 97):
        alone = estimate_fleet(task.case, every[row], MACHINES, task.model)
        for name in ("step_p50_s", "memory_p50_bytes", "energy_p50_j"):
            np.testing.assert_allclose(getattr(whole, name)[row], getattr(alone, name), rtol=1e-12)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(dtype="amp-bf16", tensor=5, micro_batch=1),  # 12 heads
        Recipe(dtype="amp-bf16", pipeline=13, micro_batch=1),
        Recipe(dtype="amp-bf16", pipeline=8, virtual=2, micro_batch=1),  # 16 pieces of 12 layers
        Recipe(dtype="amp-bf16", expert=2, micro_batch=1),
        Recipe(dtype="amp-bf16", micro_batch=3),
    ],
)
def test_what_cannot_be_divided_has_no_estimate(recipe) -> None:
    case = Case(model="gpt2", device="", batch=40)
    machines = [Machine(device=device("t4"), count=count) for count in (1, 5, 8, 13)]
    assert np.isnan(estimate_fleet(case, recipe, machines).step_p50_s).all()


@pytest.mark.parametrize("fields", JOBS, ids=lambda f: f"{f['model']} {f.get('task', 'train')}")
def test_no_recipe_is_quicker_than_its_family(fields) -> None:
    """The bound of a family holds for every recipe of a machine, and is not far below the best of a device alone."""
    task, alone = a_task(fields), []
    for family in task.families:
        single = Machine(device=device("a100-sxm4-80gb"), count=1)
        for machine in (*MACHINES, single, Machine(device=resolve_device("epyc-7763"), count=1)):
            every = recipes(task, family, machine.count, machine.nodes)
            found = estimate_recipes(task.case, every, [machine], task.model).step_p50_s
            (least_s,) = least_family_s(task.case, family, [machine], [every], task.model)
            assert np.isnan(least_s) == np.isnan(found).all()
            assert not (found < least_s).any()
            alone += [np.nanmin(found) / least_s] if least_s > 0 and machine.count == 1 else []
    assert len(alone) > 3
    assert min(alone) < 1.1


def test_a_family_is_bounded_by_what_a_machine_may_do() -> None:
    """Fewer recipes have no lower bound, and equal ones on another machine change nothing."""
    task = a_task(JOBS[3])
    family, machine = task.families[0], MACHINES[0]
    every = recipes(task, family, machine.count)
    few = every.take(every.columns["tensor"] == 8)
    bounds = least_family_s(task.case, family, [machine, machine, MACHINES[4]], [every, few, every], task.model)
    assert bounds[0] <= bounds[1]
    assert bounds[0] == least_family_s(task.case, family, [machine], [every], task.model)[0]
    assert bounds[2] == least_family_s(task.case, family, [MACHINES[4]], [every], task.model)[0]


def test_a_family_has_no_bound_where_nothing_can_be_shared() -> None:
    task = a_task(JOBS[0])
    machines = [Machine(device=device("t4"), count=count) for count in (3, 1000)]
    usable = [recipes(task, task.families[0], machine.count) for machine in machines]
    assert np.isnan(least_family_s(task.case, task.families[0], machines, usable, task.model)).all()
    assert least_family_s(task.case, task.families[0], [], [], task.model).shape == (0,)


def test_no_recipes_and_no_machines() -> None:
    task = a_task(JOBS[0])
    every = recipes(task, task.families[0], 8)
    assert estimate_recipes(task.case, every[:0], MACHINES, task.model).step_p50_s.shape == (0, len(MACHINES))
    assert estimate_recipes(task.case, every, [], task.model).step_p50_s.shape == (len(every), 0)
