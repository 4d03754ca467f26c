"""Jobs that share machines, on small random markets: the search equals brute force, and its certificate holds."""

import itertools
import random
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.search.queues import Queues
from rigwise.search.sequence import Turn, best_order, in_time, waiting
from rigwise.search.shared import _certificate
from rigwise.search.shared_tree import check_tree
from rigwise.search.shared_types import RENT, Option, SharedCover, Work
from rigwise.search.shares import Shares, order_of
from rigwise.search.sharing import Sharing


def market(seed: int, jobs: int, machines: int, *, wait: float) -> list[Work]:
    """Jobs of many sizes; machines differ in speed, some are equal, some jobs are equal and some cannot be rented."""
    dice = random.Random(seed)
    speeds = [dice.choice([0.5, 1.0, 1.0, 2.0]) for _ in range(machines)]
    sizes = [dice.choice([1.0, 2.5, dice.uniform(1, 10)]) for _ in range(jobs)]
    works = []
    for size in sizes:
        deadline_s = dice.choice([None, dice.uniform(1.5 * size, 3 * size), 2 * sum(sizes) / max(machines, 1)])
        options = [Option(machine=RENT, number=size * dice.choice([1.0, 3.0]))] if dice.random() < 0.9 else []
        for machine, speed in enumerate(speeds):
            for slower in (1.0, 1.3)[: dice.choice([1, 1, 2])]:
                run_s = size / speed * slower
                late_s = run_s * dice.choice([1.2, 1.2, 1.5])
                if deadline_s is None or late_s <= deadline_s:
                    options.append(Option(machine=machine, number=0.3 * run_s / slower**3, run_s=run_s, late_s=late_s))
        if not options:
            options = [Option(machine=RENT, number=5 * size)]
        each = wait * dice.choice([0.0, 1.0, 1.0, 4.0])
        works.append(Work(deadline_s=deadline_s, wait_per_s=each, options=tuple(options)))
    return works


def every_choice(works: list[Work]) -> float:
    """The least number over all choices and all orders."""
    best = inf
    for options in itertools.product(*(work.options for work in works)):
        total, queues = 0.0, {}
        for work, option in zip(works, options, strict=True):
            total += option.number
            if option.machine != RENT:
                end_s = inf if work.deadline_s is None else work.deadline_s
                turn = Turn(option.run_s, option.late_s, work.wait_per_s, end_s)
                queues.setdefault(option.machine, []).append(turn)
        orders = (itertools.permutations(queue) for queue in queues.values())
        total += sum(min((waiting(order) for order in each if in_time(order)), default=inf) for each in orders)
        best = min(best, total)
    return best


def solved(works: list[Work], gap_frac: float = 0.0):
    sharing = Sharing(works, gap_frac=gap_frac)
    found = sharing.best()
    return found, None if found is None else _certificate("cost", works, sharing, found, 0.0)


@given(st.integers(0, 10**9), st.integers(1, 5), st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.2]))
@settings(max_examples=150, deadline=None)
def test_the_search_equals_brute_force_and_its_tree_holds(seed, jobs, machines, wait) -> None:
    works = market(seed, jobs, machines, wait=wait)
    found, certificate = solved(works)
    expected = every_choice(works)
    assert (inf if found is None else found.number) == pytest.approx(expected)
    if certificate is not None:
        assert list(check_tree(certificate)) == []
        assert certificate.gap_frac == 0


@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.2]))
@settings(max_examples=40, deadline=None)
def test_a_gap_is_kept(seed, wait) -> None:
    works = market(seed, 5, 2, wait=wait)
    found, certificate = solved(works, gap_frac=0.1)
    if found is not None:
        assert found.number <= every_choice(works) * 1.1 * (1 + 1e-9)
        assert found.lower_bound <= every_choice(works) * (1 + 1e-9)
        assert list(check_tree(certificate)) == []


@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.2]))
@settings(max_examples=30, deadline=None)
def test_what_is_falsified_is_rejected(seed, wait) -> None:
    _, certificate = solved(market(seed, 4, 2, wait=wait))
    if certificate is None:
        return
    dice, cover = random.Random(seed), certificate.cover
    which = dice.randrange(len(cover))
    part = cover[which]
    rest = (*cover[:which], *cover[which + 1 :])
    assert list(check_tree(replace(certificate, cover=rest)))
    assert list(check_tree(replace(certificate, cover=(*cover, part))))
    higher = replace(part, number=part.number * 2 + 1, by=())
    assert list(check_tree(replace(certificate, cover=(*rest, higher))))
    assert list(check_tree(replace(certificate, best=certificate.best * 1.01 + 1)))
    assert list(check_tree(replace(certificate, order=tuple(0 for _ in certificate.order))))
    assert list(check_tree(replace(certificate, cover=(SharedCover(state=(99,), verdict="bound", number=1.0),))))


@given(st.integers(0, 10**9), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_the_order_on_one_machine_is_the_best_of_all(seed, jobs) -> None:
    dice = random.Random(seed)
    turns = []
    for _ in range(jobs):
        run_s = dice.uniform(1, 10)
        late_s = run_s * dice.uniform(1, 1.5)
        end_s = dice.choice([inf, dice.uniform(1, 12) * jobs])
        turns.append(Turn(run_s, late_s, dice.choice([0.0, 1.0, 1.0, dice.uniform(0, 5)]), end_s))
    expected = min((waiting(order) for order in itertools.permutations(turns) if in_time(order)), default=inf)
    found = best_order(turns)
    assert (inf if found is None else found[0]) == pytest.approx(expected)
    if found is not None:
        order = [turns[i] for i in found[1]]
        assert in_time(order)
        assert waiting(order) == pytest.approx(found[0])


def test_a_price_below_zero_proves_nothing() -> None:
    _, certificate = solved(market(3, 4, 2, wait=0.2))
    first = certificate.multipliers[0]
    false = replace(first, time=tuple(tuple(-1.0 for _ in row) for row in first.time))
    assert list(check_tree(replace(certificate, multipliers=(false, *certificate.multipliers[1:]))))


@given(st.integers(0, 10**9), st.lists(st.floats(-5, 50), min_size=4, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_worth_of_jobs_bounds_every_choice(seed, worth) -> None:
    works = market(seed, 4, 2, wait=0.0)
    shares = Shares(works, order_of(works))
    bound = Queues(shares, worth, grid=64).rest(0, np.zeros(shares.machines))
    assert bound <= every_choice(works) * (1 + 1e-9) + 1e-9


def test_more_machines_never_cost_more() -> None:
    for seed in range(8):
        works = market(seed, 6, 3, wait=0.0)
        fewer = [replace(work, options=tuple(o for o in work.options if o.machine < 2)) for work in works]
        if all(work.options for work in fewer) and (less := solved(fewer)[0]) is not None:
            assert solved(works)[0].number <= less.number * (1 + 1e-9)
