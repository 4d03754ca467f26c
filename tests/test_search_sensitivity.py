"""What would change a plan, held against planning again with that changed, on small random markets."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rigwise.cli.main import root as command_line
from rigwise.errors import InfeasibleError
from rigwise.report.explain_text import change_document, change_text, choice_document, choice_text, size_sentences
from rigwise.search.bounds import KWH_J, Goal
from rigwise.search.changes import what_would_change
from rigwise.search.choice import NODE, NODES, ONE, choice
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import exhaustive
from rigwise.search.plan import plan
from rigwise.search.sensitivity import BUDGET, DEADLINE, PRICE, TIME_WORTH, Again

SEEDS = st.integers(0, 2**32 - 1)
MARKETS = Path(__file__).parent / "properties" / "test_plan_markets.py"


def markets():
    spec = importlib.util.spec_from_file_location("plan_markets", MARKETS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


a_market = markets().a_market


def again_of(seed):
    job, world = a_market(seed)
    try:
        return job, world, Again(job, world)
    except InfeasibleError:
        assume(False)


def best(job, world):
    try:
        return plan(job, world).plans[0]
    except InfeasibleError:
        return None


def value(job, found):
    """The objective of a plan."""
    energy_j = found.energy_j or 0.0
    grams = found.carbon_g / energy_j * KWH_J if found.carbon_g and energy_j else 0.0
    return float(Goal.of(job).value(found.cost_usd.p50, found.time_s.p50, energy_j, grams))


def place(found):
    """What tells one machine at one price from another."""
    return tuple(getattr(found, n) for n in ("provider", "instance", "region", "market", "device", "count", "nodes"))


def offer(found):
    """What has one price, however many nodes of it are taken."""
    return tuple(getattr(found, n) for n in ("provider", "instance", "region", "market"))


def value_there(again, job):
    """What is the best for a job with other limits on the machine of the first plan."""
    among = np.arange(len(again.space.sites)) == again.first.leaf.site
    found = again.solve(Goal.of(job), among)
    return np.nan if found is None else found.value


def is_at(job, found, expected):
    """Whether a plan is where another one is, or just as good."""
    if found is None or expected is None:
        return found is expected
    return place(found) == place(expected) or value(job, found) == pytest.approx(value(job, expected), rel=1e-7)


def has_two_prices(world, whose):
    where = whose.provider, whose.instance
    return any(
        (r.provider, r.instance) == where and None not in (r.price_usd_h, r.spot_price_usd_h) for r in world.offers
    )


def priced(world, whose, usd_per_h):
    """A world in which the offer of a plan has another price."""
    field = "spot_price_usd_h" if whose.market == "spot" else "price_usd_h"
    rows = [
        replace(row, **{field: usd_per_h})
        if (row.provider, row.instance, row.region) == (whose.provider, whose.instance, whose.region)
        else row
        for row in world.offers
    ]
    return replace(world, offers=tuple(rows))


def changed(job, world, change, at):
    """The job and the world with one figure changed."""
    if change.what == PRICE:
        return job, priced(world, change.whose, at)
    name = {DEADLINE: "deadline_s", BUDGET: "budget_usd", TIME_WORTH: "value_of_time_usd_per_h"}[change.what]
    return replace(job, **{name: at}), world


@settings(max_examples=20, deadline=None)
@given(SEEDS)
@example(113)  # free sessions, which count only once there is a deadline
def test_the_answer_changes_at_each_threshold_and_not_before(seed) -> None:
    job, world, again = again_of(seed)
    first = again.plan(again.first)
    for change in what_would_change(again):
        if change.what == PRICE and has_two_prices(world, change.whose):
            continue  # a spot price above the one on demand is not believed, so one price lets the other in
        sign = 1 if change.side == "above" else -1
        for beside in (0.01, 1e-5 if change.what == PRICE else 1e-7):  # two limits may lie 1e-5 apart
            here, there = (change.at * (1 - sign * beside), change.at * (1 + sign * beside))
            if change.now is not None:
                # no farther back than the figure as it is
                here = max(here, change.now) if sign > 0 else min(here, change.now)
            before_job, before_world = changed(job, world, change, here)
            after_job, after_world = changed(job, world, change, there)
            before, after = best(before_job, before_world), best(after_job, after_world)
            there_before = value_there(again, before_job)
            if before is None:
                assert np.isnan(there_before), (change, beside)
            else:
                as_good = value(before_job, before) == pytest.approx(there_before, rel=1e-7)
                of_it = change.what == PRICE and offer(before) == offer(first)  # of one price are nodes and node
                assert is_at(before_job, before, first) or as_good or of_it, (change, beside, before)
            if beside < 0.01:
                if change.what == PRICE and change.side == "below":
                    assert after.instance == change.whose.instance or is_at(after_job, after, change.plan)
                else:
                    assert is_at(after_job, after, change.plan), (change, after)
            elif after is not None:
                assert place(after) != place(first) or is_at(after_job, after, change.plan)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_best_of_each_size_is_that_of_looking_at_everything(seed) -> None:
    job, world, again = again_of(seed)
    leaves = exhaustive(again.space, Estimates(again.space, world.physics), again.goal)
    sizes = {size.name: size for size in choice(again).sizes}
    for name, counts in (
        (ONE, lambda m: m.count == 1),
        (NODE, lambda m: m.count > 1 and m.nodes == 1),
        (NODES, lambda m: m.nodes > 1),
    ):
        values = [v for v, leaf in leaves if counts(again.space.sites[leaf.site].machine)]
        found = sizes[name].plan
        assert (found is None) == (not values)
        if values:
            assert value(job, found) == pytest.approx(min(values), rel=1e-9, abs=1e-12)
        assert (sizes[name].anyhow is None) <= (found is None)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_what_is_said_fits_and_is_finite(seed) -> None:
    job, _, again = again_of(seed)
    chosen, changes = choice(again), what_would_change(again)
    first = again.plan(again.first)
    for text in (change_text(job, first, changes), choice_text(job, chosen)):
        assert max(map(len, text.splitlines())) <= 80
        assert "nan" not in text
    json.dumps([change_document(job, first, changes), choice_document(job, chosen)], allow_nan=False)
    assert size_sentences(job, chosen)
    if chosen.efficiency is not None:
        assert chosen.efficiency > 0
    assert np.isfinite(chosen.undisturbed_s)


def test_the_catalogue_says_what_would_change_a_plan() -> None:
    arguments = ["plan", "resnet18", "--task", "infer", "--samples", "1e6", "--device", "a10", "--device", "l4"]
    for what, words in (("change", ("prices", "stays first up to")), ("choice", ("one device", "what it costs"))):
        done = CliRunner().invoke(command_line, [*arguments, "--explain", what])
        assert done.exit_code == 0, done.output
        assert all(word in done.output for word in words)
        answer = json.loads(CliRunner().invoke(command_line, [*arguments, "--explain", what, "--json"]).output)
        assert answer["schema"] == f"rigwise.plan.{what}/1"


def test_what_cannot_be_done_is_not_explained() -> None:
    limits = ["--budget", "$0.0001", "--device", "l4"]
    arguments = ["plan", "resnet18", "--samples", "1e6", *limits, "--explain", "change", "--json"]
    done = CliRunner().invoke(command_line, arguments)
    assert isinstance(done.exception, InfeasibleError)
    assert "infeasible" in json.loads(done.output)
