"""What one search was told is kept for the next one, and changes no answer."""

import gc
from dataclasses import replace
from datetime import date

import pytest

from rigwise.errors import InfeasibleError
from rigwise.estimate import fleet
from rigwise.estimate.calibration import calibrated_with
from rigwise.estimate.learned import Learned
from rigwise.search.plan import catalogue_world, document, plan
from rigwise.workload.job import Job

TODAY = date(2026, 9, 1)
JOB = Job(model="gpt2", amount=1e6, unit="samples", devices=("l4", "a10", "t4"), top=3)


@pytest.fixture
def world():
    return catalogue_world(JOB.model, TODAY)


def answer(job, world):
    found = document(plan(job, replace(world, clock_s=lambda: 0.0)))
    assert found["plans"]
    return found


class Counted:
    """The estimator, counting the pairs that it is asked for."""

    def __init__(self):
        self.pairs = 0

    def __getattr__(self, name):
        return getattr(fleet, name)

    def estimate_recipes(self, case, recipes, machines, model=None, wanted=None):
        self.pairs += len(recipes) * len(machines) if wanted is None else int(wanted.sum())
        return fleet.estimate_recipes(case, recipes, machines, model, wanted)


def test_the_next_search_is_told_nothing_twice_and_says_the_same(world) -> None:
    fleet._kept_figures.cache_clear()
    first, second = Counted(), Counted()
    told = answer(JOB, replace(world, physics=first))
    assert answer(JOB, replace(world, physics=second)) == told
    assert (first.pairs > 0, second.pairs) == (True, 0)


def test_an_answer_does_not_depend_on_what_was_asked_before(world) -> None:
    fleet._kept_figures.cache_clear()
    alone = answer(JOB, world)
    fleet._kept_figures.cache_clear()
    for other in (replace(JOB, minimize="time"), replace(JOB, top=9), replace(JOB, devices=("l4",))):
        answer(other, world)
    assert answer(JOB, world) == alone


def test_what_was_kept_ends_with_its_calibration(world) -> None:
    kept = fleet.kept_figures(JOB.case(), "a family", world.model)
    kept["machine"] = 1
    assert fleet.kept_figures(JOB.case(), "a family", world.model) == {"machine": 1}
    with calibrated_with(Learned(where="", date="", software=(), scales=(), evidence=())):
        assert fleet.kept_figures(JOB.case(), "a family", world.model) == {}


def test_the_collector_is_at_work_again_whatever_came_of_it(world) -> None:
    assert gc.isenabled()
    seen = []
    plan(JOB, replace(world, stop=lambda best, bound: bool(seen.append(gc.isenabled()))))
    assert seen
    assert not any(seen)
    assert gc.isenabled()
    with pytest.raises(InfeasibleError):
        plan(replace(JOB, deadline_s=1.0), world)
    assert gc.isenabled()
