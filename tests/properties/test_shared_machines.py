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
from rigwise.search.shared_sets import MOST_SETS, all_sets
from rigwise.search.shared_tables import Gains
from rigwise.search.shared_tree import check_tree
from rigwise.search.shared_types import RENT, Option, SharedCover, Work
from rigwise.search.shared_worths import SetsBound, best_worths
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


def number_of(works: list[Work], options: tuple[Option, ...]) -> float:
    """What a choice adds up to in the best of all orders; infinite if none keeps all deadlines."""
    total, queues = sum(option.number for option in options), {}
    for work, option in zip(works, options, strict=True):
        if option.machine != RENT:
            end_s = inf if work.deadline_s is None else work.deadline_s
            turn = Turn(option.run_s, option.late_s, work.wait_per_s, end_s)
            queues.setdefault(option.machine, []).append(turn)
    orders = (itertools.permutations(queue) for queue in queues.values())
    return total + sum(min((waiting(order) for order in each if in_time(order)), default=inf) for each in orders)


def every_choice(works: list[Work]) -> float:
    """The least number over all choices and all orders."""
    return min(number_of(works, options) for options in itertools.product(*(work.options for work in works)))


def must_be_covered(works: list[Work], order: tuple[int, ...], state: tuple[int, ...]) -> bool:
    """Whether a choice goes on from a state that keeps all deadlines and is no better if any one job is rented."""
    fixed = dict(zip(order, state, strict=False))
    ways = [[work.options[fixed[i]]] if i in fixed else work.options for i, work in enumerate(works)]
    for options in itertools.product(*ways):
        here, rent = number_of(works, options), [[o for o in work.options if o.machine == RENT] for work in works]
        others = [(*options[:i], o, *options[i + 1 :]) for i, each in enumerate(rent) for o in each]
        if here < inf and all(number_of(works, other) >= here for other in others):
            return True
    return False


def solved(works: list[Work], gap_frac: float = 0.0, most_sets: int = MOST_SETS):
    sharing = Sharing(works, gap_frac=gap_frac, most_sets=most_sets)
    found = sharing.best()
    return found, None if found is None else _certificate("cost", works, sharing, found, 0.0)


@given(
    st.integers(0, 10**9), st.integers(1, 5), st.integers(0, 3), st.sampled_from([(0.0, 0), (0.2, MOST_SETS), (0.2, 3)])
)
@settings(max_examples=150, deadline=None)
def test_the_search_equals_brute_force_and_its_tree_holds(seed, jobs, machines, waits) -> None:
    wait, most_sets = waits
    works = market(seed, jobs, machines, wait=wait)
    found, certificate = solved(works, most_sets=most_sets)
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


@given(st.integers(0, 10**9), st.sampled_from([(0.0, 0), (0.2, MOST_SETS), (0.2, 3)]))
@settings(max_examples=40, deadline=None)
def test_what_is_falsified_is_rejected(seed, waits) -> None:
    wait, most_sets = waits
    works = market(seed, 4, 2, wait=wait)
    _, certificate = solved(works, most_sets=most_sets)
    if certificate is None:
        return
    dice, cover = random.Random(seed), certificate.cover
    which = dice.randrange(len(cover))
    part = cover[which]
    rest = (*cover[:which], *cover[which + 1 :])
    if must_be_covered(works, certificate.order, part.state):
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
    _, certificate = solved(market(3, 4, 2, wait=0.2), most_sets=0)
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


def least_below(works: list[Work], order: tuple[int, ...], state: tuple[int, ...]) -> float:
    """The least number of the choices that go on from the options of the first jobs of an order."""
    fixed = dict(zip(order, state, strict=False))
    return every_choice(
        [replace(work, options=(work.options[fixed[i]],)) if i in fixed else work for i, work in enumerate(works)]
    )


def bound_of(shares: Shares, bound: SetsBound, state: tuple[int, ...]) -> float:
    """Of the search; infinite as well where an equal choice stands for this one."""
    found = {child.state: child.bound for child in bound.children(state[:-1])}
    return found.get(state, inf)


@given(
    st.integers(0, 10**9),
    st.integers(2, 6),
    st.integers(1, 3),
    st.lists(st.floats(-5, 50), min_size=6, max_size=6),
    st.integers(0, 10**9),
)
@settings(max_examples=60, deadline=None)
def test_sets_with_any_worths_bound_every_choice_that_is_best(seed, jobs, machines, worth, choice) -> None:
    works = market(seed, jobs, machines, wait=0.2)
    shares = Shares(works, order_of(works))
    sets, best = all_sets(shares), every_choice(works)
    ordered = [works[i] for i in shares.order]
    bound, second = SetsBound(shares, sets, worth[:jobs]), Gains(ordered, worth[:jobs], shares.machines)
    assert second.bound(()) <= best * (1 + 1e-9) + 1e-9
    dice = random.Random(choice)
    state = tuple(dice.randrange(len(work.options)) for work in ordered[: dice.randint(1, jobs)])
    below = least_below(works, shares.order, state)
    if below <= best * (1 + 1e-9):  # elsewhere both may say that nothing that is best is there
        assert second.bound(state) <= below * (1 + 1e-9) + 1e-9
    if (first := bound_of(shares, bound, state)) < inf:
        assert first <= below * (1 + 1e-9) + 1e-9
        assert first == pytest.approx(second.bound(state))


@given(st.integers(0, 10**9), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_a_set_costs_what_its_best_order_does_and_none_that_is_best_is_left_out(seed, jobs) -> None:
    works = market(seed, jobs, 1, wait=0.2)
    shares = Shares(works, order_of(works))
    (sets,) = all_sets(shares)
    known = dict(zip(map(frozenset, (sets.options[row].tolist() for row in sets.inside)), sets.number, strict=True))
    of_job = [range(shares.first[i], shares.first[i + 1]) for i in range(jobs)]
    ways = itertools.product(*([None, *(o for o in options if shares.machine[o] != RENT)] for options in of_job))
    for way in ways:
        chosen = [(place, o) for place, o in enumerate(way) if o is not None]
        state = [0 if o is None else o - shares.first[place] for place, o in enumerate(way)]
        found = best_order([shares.turn(tuple(state), place) for place, _ in chosen])
        number = inf if found is None else found[0] + sum(shares.number[o] for _, o in chosen)
        here = frozenset(o for _, o in chosen)
        if here in known:
            assert known[here] == pytest.approx(number)
        elif number < inf:  # one of its jobs would better be rented
            rent = [
                min((o.number for o in shares.works[p].options if o.machine == RENT), default=inf) for p, _ in chosen
            ]
            without = [known.get(here - {o}) for _, o in chosen]
            assert any(w is None or number > w + r for w, r in zip(without, rent, strict=True))


@given(st.integers(0, 10**9), st.integers(3, 7))
@settings(max_examples=30, deadline=None)
def test_the_best_worths_bound_more_than_none_and_less_than_the_best(seed, jobs) -> None:
    works = market(seed, jobs, 2, wait=0.2)
    shares = Shares(works, order_of(works))
    sets, ordered = all_sets(shares), [works[i] for i in shares.order]
    found = Gains(ordered, best_worths(shares, sets), shares.machines).bound(())
    best, nothing = solved(works)[0], Gains(ordered, [0.0] * jobs, shares.machines).bound(())
    assert found >= nothing - 1e-6 * abs(nothing)
    assert best is None or found <= best.number * (1 + 1e-9) + 1e-9


def test_twenty_jobs_are_proven_in_a_few_steps() -> None:
    works, steps = market(2, 20, 3, wait=0.2), itertools.count()
    sharing = Sharing(works, stop=lambda best, bound: next(steps) > 200)
    found = sharing.best()
    assert not sharing.stopped
    assert found.lower_bound == found.number
    assert list(check_tree(_certificate("cost", works, sharing, found, 0.0))) == []


def test_more_machines_never_cost_more() -> None:
    for seed in range(8):
        works = market(seed, 6, 3, wait=0.0)
        fewer = [replace(work, options=tuple(o for o in work.options if o.machine < 2)) for work in works]
        if all(work.options for work in fewer) and (less := solved(fewer)[0]) is not None:
            assert solved(works)[0].number <= less.number * (1 + 1e-9)
