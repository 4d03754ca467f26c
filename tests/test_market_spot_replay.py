"""Policies on traces: what each must do, the expected time, deadlines that are kept, and who wins when."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError
from rigwise.market.replay import FALLBACK, GREEDY, ON_DEMAND_ONLY, SPOT_ONLY, UNIFORM, Errand, replay
from rigwise.market.spot import (
    ASSUMED,
    PESSIMISTIC,
    USUAL,
    assumed_cases,
    checkpoint_interval_s,
    time_factor,
    wait_factor,
)
from rigwise.market.spot import spot_facts as facts
from rigwise.market.spot_distribution import TRACE, SpotQuestion, explain_spot
from rigwise.market.trace import HEAVY, Draw, Trace, draw
from rigwise.units import HOUR_S

WORK_S = 24 * HOUR_S


def errand(**changes) -> Errand:
    plain = Errand(
        work_s=WORK_S,
        deadline_s=None,
        spot_usd_per_h=0.3,
        on_demand_usd_per_h=1.0,
        interval_s=checkpoint_interval_s(ASSUMED),
        save_s=ASSUMED.save_s,
        restart_s=ASSUMED.restart_s,
    )
    return replace(plain, **changes)


def stretches(runs: int, steps: int, step_s: float, capacity=ASSUMED, law: str = HEAVY, seed: int = 7):
    how = Draw(step_s=step_s, steps=runs * steps, law=law, seed=seed)
    return draw(capacity, 1, how).available.reshape(runs, steps)


def test_by_hand() -> None:
    """Two hours there, one away, there again; hours are steps; no checkpoint in the first stretch of work."""
    there = np.array([[1, 1, 0, 1, 1, 1, 1, 1, 1]], dtype=bool)
    job = errand(work_s=3 * HOUR_S, interval_s=3 * HOUR_S, save_s=0.0, restart_s=0.5 * HOUR_S)
    outcomes = replay(job, there, HOUR_S)
    spot = outcomes[SPOT_ONLY]
    # 2 h are lost; from hour 3 half an hour to restart and 3 h of work.
    assert spot.wall_s.tolist() == [pytest.approx(6.5 * HOUR_S)]
    assert spot.cost_usd.tolist() == [pytest.approx(0.3 * (2 + 3.5))]
    assert spot.interrupted.tolist() == [1]
    fallback = outcomes[FALLBACK]
    # Hour 2 on demand: half of it restarts, half works; it is kept when it goes back to spot, with another restart.
    assert fallback.wall_s.tolist() == [pytest.approx(6.0 * HOUR_S)]
    assert fallback.cost_usd.tolist() == [pytest.approx(0.3 * (2 + 3.0) + 1.0)]
    assert outcomes[ON_DEMAND_ONLY].cost_usd.tolist() == [pytest.approx(3.0)]


def test_checkpoints_keep_what_was_done() -> None:
    there = np.array([[1, 1, 0, 1, 1, 1, 1, 1, 1]], dtype=bool)
    job = errand(work_s=3 * HOUR_S, interval_s=HOUR_S, save_s=0.0, restart_s=0.0)
    assert replay(job, there, HOUR_S)[SPOT_ONLY].wall_s.tolist() == [pytest.approx(4 * HOUR_S)]


@pytest.mark.parametrize(("run_h", "wait_h"), [(6.0, 1.0), (2.0, 2.0)])
def test_waiting_for_spot_costs_and_takes_what_the_formula_expects(run_h, wait_h) -> None:
    capacity = replace(ASSUMED, mean_run_s=run_h * HOUR_S, mean_wait_s=wait_h * HOUR_S)
    there = stretches(1500, 4000, 0.05 * HOUR_S, capacity, law="exponential")
    job = errand(interval_s=checkpoint_interval_s(capacity), on_demand_usd_per_h=None)
    outcome = replay(job, there, 0.05 * HOUR_S)[SPOT_ONLY]
    done = np.isfinite(outcome.wall_s)
    assert done.mean() >= 0.99
    assert outcome.cost_usd.mean() == pytest.approx(0.3 * 24 * time_factor(capacity), rel=0.02)
    # A start is there or not as capacity is, so the first wait belongs to the time as well.
    first_wait_s = (1 - capacity.availability_frac) * capacity.mean_wait_s
    expected_s = WORK_S * time_factor(capacity) * wait_factor(capacity)
    assert outcome.wall_s[done].mean() - first_wait_s == pytest.approx(expected_s, rel=0.04)


@settings(max_examples=25, deadline=None)
@given(
    slack=st.floats(1.05, 3),
    run_h=st.floats(0.2, 20),
    wait_h=st.floats(0.1, 20),
    restart_h=st.floats(0, 0.2),
    seed=st.integers(0, 99),
)
def test_policies_with_a_safety_net_are_never_late(slack, run_h, wait_h, restart_h, seed) -> None:
    capacity = replace(ASSUMED, mean_run_s=run_h * HOUR_S, mean_wait_s=wait_h * HOUR_S, restart_s=restart_h * HOUR_S)
    step_s = 0.05 * HOUR_S
    there = stretches(8, int(slack * WORK_S / step_s) + 2, step_s, capacity, seed=seed)
    job = errand(deadline_s=slack * WORK_S, restart_s=capacity.restart_s, interval_s=checkpoint_interval_s(capacity))
    outcomes = replay(job, there, step_s)
    for policy in (GREEDY, UNIFORM, FALLBACK, ON_DEMAND_ONLY):
        assert not outcomes[policy].late.any(), policy
        assert (outcomes[policy].cost_usd >= 0.3 * 24 - 1e-6).all()
    assert outcomes[ON_DEMAND_ONLY].cost_usd == pytest.approx(24.0)
    assert (outcomes[SPOT_ONLY].on_demand_frac == 0).all()


def test_without_interruptions_spot_is_all_there_is() -> None:
    there = np.ones((3, 2000), dtype=bool)
    for outcome in (o for p, o in replay(errand(deadline_s=2 * WORK_S), there, 90.0).items() if p != ON_DEMAND_ONLY):
        slowed = 1 + ASSUMED.save_s / checkpoint_interval_s(ASSUMED)
        assert outcome.wall_s == pytest.approx(WORK_S * slowed)
        assert (outcome.on_demand_frac == 0).all()
        assert (outcome.interrupted == 0).all()


def test_without_capacity_every_policy_ends_on_demand_and_in_time() -> None:
    there = np.zeros((3, 2000), dtype=bool)
    outcomes = replay(errand(deadline_s=1.5 * WORK_S), there, 90.0)
    for policy in (GREEDY, UNIFORM, FALLBACK, ON_DEMAND_ONLY):
        assert (outcomes[policy].on_demand_frac == 1).all()
        assert not outcomes[policy].late.any()
    assert np.isinf(outcomes[SPOT_ONLY].wall_s).all()
    assert outcomes[SPOT_ONLY].late.all()


def test_uniform_progress_wins_when_time_is_short_and_greedy_when_it_is_not() -> None:
    """The order that research found on published traces: 24 h of work, restarts of 0.1 h, spot at 0.3 of on-demand."""
    capacity = replace(ASSUMED, mean_run_s=3 * HOUR_S, mean_wait_s=2 * HOUR_S)
    there = stretches(400, 1000, 0.05 * HOUR_S, capacity)
    means = {}
    for slack in (1.1, 1.25, 2.0):
        outcomes = replay(errand(deadline_s=slack * WORK_S), there, 0.05 * HOUR_S)
        means[slack] = {policy: outcome.cost_usd.mean() / 24 for policy, outcome in outcomes.items()}
    for slack in (1.1, 1.25):
        assert means[slack][UNIFORM] < means[slack][GREEDY] < 1
    assert means[2.0][GREEDY] < means[2.0][UNIFORM] < 1
    greedy = [mean[GREEDY] for mean in means.values()]
    assert greedy == sorted(greedy, reverse=True)


def question(**changes) -> SpotQuestion:
    plain = SpotQuestion(
        plan="1 x l4 at somewhere",
        instances=1,
        work_s=dict.fromkeys(("p10", "p50", "p90"), WORK_S),
        startup_s=300.0,
        deadline_s=1.5 * WORK_S,
        confidence=0.9,
        spot_usd_per_h=0.3,
        on_demand_usd_per_h=1.0,
    )
    return replace(plain, **changes)


def test_an_answer_holds_every_belief_and_its_spread() -> None:
    answer = explain_spot(question(), assumed_cases(facts()), USUAL)
    assert [s.name for s in answer.scenarios] == ["pessimistic", "usual", "optimistic"]
    costs = [s.cost_usd for s in answer.scenarios]
    assert costs == sorted(costs, reverse=True)
    assert answer.spread["cost_usd"] == (costs[-1], costs[0])
    planned = answer.planned
    assert planned.paid_s == pytest.approx(300 + WORK_S * time_factor(ASSUMED))
    assert planned.wall_s == pytest.approx(300 + WORK_S * time_factor(ASSUMED) * wait_factor(ASSUMED))
    for outcome in planned.policies:
        cost = outcome.cost_usd
        assert cost["p10"] <= cost["p50"] <= cost["p90"]
    late = {s.name: s.policies[0].late_frac for s in answer.scenarios}
    assert late["pessimistic"] >= late["usual"] >= late["optimistic"]
    best = next(o for o in planned.policies if o.policy == planned.best)
    assert best.late_frac <= 0.1


def test_a_gang_is_also_believed_to_come_and_go_as_one() -> None:
    answer = explain_spot(question(instances=8), assumed_cases(facts()), USUAL)
    by_name = {s.name: s for s in answer.scenarios}
    assert by_name["together"].availability_frac > by_name["usual"].availability_frac
    hopeless = by_name[PESSIMISTIC]
    assert hopeless.policies[0].given_up_frac == 1
    assert answer.spread["time_s"][1] < hopeless.wall_s


def test_a_short_job_makes_no_checkpoint() -> None:
    answer = explain_spot(
        question(work_s=dict.fromkeys(("p10", "p50", "p90"), 60.0), deadline_s=None), assumed_cases(facts()), USUAL
    )
    assert answer.planned.interval_s == 60.0
    assert 300 + 60 < answer.planned.paid_s < 300 + 62
    assert [o.policy for o in answer.planned.policies] == [SPOT_ONLY, FALLBACK, ON_DEMAND_ONLY]
    assert all(o.late_frac is None for o in answer.planned.policies)


def test_a_users_trace_is_what_is_planned_with() -> None:
    there = np.tile(np.array([1] * 5 + [0], dtype=bool), 60)
    answer = explain_spot(question(), assumed_cases(facts()), USUAL, Trace(step_s=HOUR_S, available=there))
    assert answer.in_force == TRACE
    assert answer.planned.run_s == pytest.approx(5 * HOUR_S)
    assert answer.planned.availability_frac == pytest.approx(5 / 6)
    assert answer.memoryless is None
    with pytest.raises(InfeasibleError, match="capacity in no step"):
        explain_spot(question(), assumed_cases(facts()), USUAL, Trace(step_s=60.0, available=np.zeros(9, dtype=bool)))


def test_capacity_that_never_lasts_is_refused() -> None:
    hopeless = {USUAL: replace(ASSUMED, mean_run_s=0.05)}
    with pytest.raises(InfeasibleError, match="no stretch of work would ever be finished"):
        explain_spot(question(), hopeless, USUAL)


def test_the_estimate_of_the_work_is_part_of_the_distribution() -> None:
    work_s = {"p10": 0.8 * WORK_S, "p50": WORK_S, "p90": 1.25 * WORK_S}
    answer = explain_spot(
        question(work_s=work_s, startup_s=0.0, deadline_s=1.2 * WORK_S), assumed_cases(facts()), USUAL
    )
    alone = next(o for o in answer.planned.policies if o.policy == ON_DEMAND_ONLY)
    for quantile, factor in (("p10", 0.8), ("p50", 1.0), ("p90", 1.25)):
        assert alone.time_s[quantile] == pytest.approx(factor * WORK_S, rel=0.02)
        assert alone.cost_usd[quantile] == pytest.approx(factor * 24, rel=0.02)
    # The deadline lies ln(1.2) / (ln(1.25) / 1.2816) standard deviations above the median.
    assert alone.late_frac == pytest.approx(0.147, abs=0.02)
    fixed = explain_spot(question(startup_s=0.0, deadline_s=1.2 * WORK_S), assumed_cases(facts()), USUAL)
    assert fixed.planned.cost_usd == pytest.approx(answer.planned.cost_usd)
    assert next(o for o in fixed.planned.policies if o.policy == ON_DEMAND_ONLY).late_frac == 0
