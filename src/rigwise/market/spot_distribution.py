"""What a job on spot capacity comes to, as distributions, under everything that can be believed of the capacity.

For each belief (measured, the provider's advisor, assumed) the expected time and cost by Daly's
formula, and the outcome of every policy over replays of drawn traces; or over stretches of the
user's own trace. Runs are drawn with the heavy tail that published traces show, and the belief that
is planned with once more without.

The work itself is an estimate: each replay draws its time between the quantiles of the plan. Expected
figures are at its median. Left out: that prices move, and rounding to what is billed.

Source: ``market.spot`` and ``market.replay`` for the formulas and the policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.errors import InfeasibleError
from rigwise.facts.interruption import spot_facts
from rigwise.market.money import rental_usd
from rigwise.market.replay import ON_DEMAND_ONLY, Errand, Outcome, replay
from rigwise.market.spot import (
    GIVEN,
    Interruption,
    availability_frac,
    best_interval_s,
    daly_interval_s,
    gang_run_s,
    gang_wait_s,
    time_factor_of,
    young_interval_s,
)
from rigwise.market.trace import EXPONENTIAL, HEAVY, Draw, Shape, Trace, draw, refined, shape_of, windows
from rigwise.units import format_seconds

REPLAYS = 400
TRACE, TOGETHER = "trace", "together"

_MOST_STEPS = 12_000
#: Capacity that is there less often than this is replayed as never there.
_LEAST_FRAC = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotQuestion:
    """A plan on spot capacity.

    Attributes:
        plan: Which, in words.
        instances: Machines it needs at once.
        work_s: Time of the work alone: ``p10``, ``p50``, ``p90``.
        startup_s: Before the first step, paid for and waited for.
        deadline_s: None for none.
        confidence: Probability with which the deadline is to be kept.
        spot_usd_per_h, on_demand_usd_per_h: Of all machines; None where it cannot be had on demand.
        on_demand_place: Where the same can be had on demand; empty for the same offer.
    """

    plan: str
    instances: int
    work_s: Mapping[str, float]
    startup_s: float
    deadline_s: float | None
    confidence: float
    spot_usd_per_h: float
    on_demand_usd_per_h: float | None
    on_demand_place: str = ""

    @property
    def usual_work_s(self) -> float:
        """The median."""
        return self.work_s["p50"]

    def works_s(self, number: int) -> NDArray[np.float64]:
        """As many times of the work, evenly over its distribution and in no order: log-normal by its quantiles."""
        sigma = np.log(self.work_s["p90"] / self.work_s["p10"]) / (2 * NormalDist().inv_cdf(0.9))
        normal = [NormalDist().inv_cdf((i + 0.5) / number) for i in range(number)]
        factors = np.exp(sigma * np.array(normal))
        return np.asarray(self.usual_work_s * np.random.default_rng(0).permutation(factors))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutcome:
    """One policy over all replays; quantiles are None where the job was given up.

    Attributes:
        policy: Its name.
        cost_usd, time_s: ``p10``, ``p50``, ``p90``, and ``mean`` of the replays that were not given up.
        late_frac: Fraction of the replays that missed the deadline, None without one.
        on_demand_frac: Mean part of the paid time that was on demand.
        given_up_frac: Fraction of the replays that took so long that they were given up.
        interruptions: Mean number.
    """

    policy: str
    cost_usd: Mapping[str, float | None]
    time_s: Mapping[str, float | None]
    late_frac: float | None
    on_demand_frac: float
    given_up_frac: float
    interruptions: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a job comes to under one belief.

    Attributes:
        name: Of the belief.
        law: Of the lengths of runs in the replays.
        interruption: The figures of one instance.
        availability_frac, run_s, wait_s: Of all instances at once.
        interval_s: Work between two checkpoints.
        paid_s, wall_s, cost_usd: Expected.
        policies: What became of the replays.
        best: The policy to follow: the cheapest on average of those late seldom enough.
    """

    name: str
    law: str
    interruption: Interruption
    availability_frac: float
    run_s: float
    wait_s: float
    interval_s: float
    paid_s: float
    wall_s: float
    cost_usd: float
    policies: tuple[PolicyOutcome, ...]
    best: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotAnswer:
    """The answer to ``rigwise plan --explain spot``.

    Attributes:
        question: The plan.
        in_force: The belief that is planned with.
        scenarios: Every belief.
        memoryless: The belief in force, with exponential runs; None for a trace.
        intervals_s: The intervals that Young, Daly and the minimum of the expected time give for the one in force.
        spread: Least and most expected cost and time over the beliefs in which there is capacity now and then.
        trace: Figures of the user's trace, None without one.
        notes: Sentences.
    """

    question: SpotQuestion
    in_force: str
    scenarios: tuple[Scenario, ...]
    memoryless: Scenario | None
    intervals_s: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]]
    trace: Shape | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def planned(self) -> Scenario:
        """The scenario that is planned with."""
        return next(scenario for scenario in self.scenarios if scenario.name == self.in_force)


def explain_spot(
    question: SpotQuestion, beliefs: Mapping[str, Interruption], in_force: str, trace: Trace | None = None
) -> SpotAnswer:
    """Everything about a plan on spot capacity.

    Args:
        question: The plan.
        beliefs: What may be believed of the capacity.
        in_force: The one that is planned with.
        trace: The user's own; it becomes a belief, and the one in force.

    Raises:
        InfeasibleError: No interval of work is ever finished, or a trace has no capacity at all.
    """
    shape, notes = None, []
    beliefs = dict(beliefs)
    if question.instances > 1:
        beliefs[TOGETHER] = replace(beliefs[in_force], together=True)
    if trace is not None:
        shape = shape_of(trace)
        beliefs = {TRACE: _of_trace(shape, trace, beliefs[in_force]), **beliefs}
        in_force = TRACE
        notes += _trace_notes(trace, shape, question)
    scenarios = tuple(
        _scenario(question, name, belief, trace if name == TRACE else None) for name, belief in beliefs.items()
    )
    chosen = beliefs[in_force]
    run_s = gang_run_s(chosen, question.instances)
    hopeful = [s for s in scenarios if s.availability_frac >= _LEAST_FRAC] or scenarios
    costs, times = [s.cost_usd for s in hopeful], [s.wall_s for s in hopeful]
    memoryless = None
    if trace is None:
        memoryless = _scenario(question, in_force, chosen, None, law=EXPONENTIAL)
    return SpotAnswer(
        question=question,
        in_force=in_force,
        scenarios=scenarios,
        memoryless=memoryless,
        intervals_s={
            "young": float(young_interval_s(chosen.save_s, run_s)),
            "daly": float(daly_interval_s(chosen.save_s, run_s)),
            "best": float(best_interval_s(chosen.save_s, run_s)),
        },
        spread={"cost_usd": (min(costs), max(costs)), "time_s": (min(times), max(times))},
        trace=shape,
        notes=tuple(notes),
    )


def _of_trace(shape: Shape, trace: Trace, usual: Interruption) -> Interruption:
    if shape.mean_run_s is None:
        raise InfeasibleError("the trace has capacity in no step", hint="spot cannot be used; leave --spot out")
    return replace(
        usual,
        mean_run_s=shape.mean_run_s,
        mean_wait_s=shape.mean_wait_s or 0.0,
        together=True,
        source_class=GIVEN,
        source="the trace",
    )


def _trace_notes(trace: Trace, shape: Shape, question: SpotQuestion) -> list[str]:
    notes = ["the trace is taken to be of all machines of the plan at once"] if question.instances > 1 else []
    if shape.mean_wait_s is None:
        notes.append("the trace is never without capacity: runs are taken to be as long as it is, the worst case")
    elif shape.runs < 10:
        notes.append("the trace has too few runs to say much of the odds")
    if trace.length_s < (question.deadline_s or question.usual_work_s):
        notes.append("the trace is shorter than the job may take, and is repeated")
    return notes


def _scenario(
    question: SpotQuestion, name: str, belief: Interruption, trace: Trace | None, law: str = HEAVY
) -> Scenario:
    run_s, wait_s = (float(f(belief, question.instances)) for f in (gang_run_s, gang_wait_s))
    there = float(availability_frac(belief, question.instances))
    errand = _errand(question, belief, run_s)
    factor = float(time_factor_of(errand.interval_s, run_s, errand.restart_s, errand.save_s))
    if not np.isfinite(factor / there if there > 0 else np.inf):
        raise InfeasibleError(
            f"spot capacity that lasts {format_seconds(run_s)} on average, and {format_seconds(belief.save_s)} to"
            " save: no stretch of work would ever be finished",
            hint="use on-demand capacity",
        )
    paid_s, work_s = question.usual_work_s * factor, question.usual_work_s
    longest = question.work_s["p90"] / work_s
    horizon_s = _horizon_s(errand, longest * paid_s / there, run_s + wait_s)
    if there < _LEAST_FRAC:
        step_s = work_s / 200
        available = np.zeros((REPLAYS, int(max(errand.deadline_s or 0.0, 4 * work_s) / step_s) + 2), dtype=bool)
    elif trace is not None:
        law, fine = "trace", refined(trace, max(work_s / 200, horizon_s / _MOST_STEPS))
        step_s = fine.step_s
        available = windows(fine, REPLAYS, min(int(horizon_s / step_s) + 1, _MOST_STEPS))
    else:
        step_s = max(min(work_s / 200, run_s / 20, (wait_s or run_s) / 20), horizon_s / _MOST_STEPS)
        available = _drawn(belief, question.instances, (law, step_s, int(horizon_s / step_s) + 1))
    outcomes = replay(replace(errand, work_s=question.works_s(REPLAYS)), available, step_s)
    policies = tuple(_policy(question, policy, outcome) for policy, outcome in outcomes.items())
    return Scenario(
        name=name,
        law=law,
        interruption=belief,
        availability_frac=there,
        run_s=run_s,
        wait_s=wait_s,
        interval_s=errand.interval_s,
        paid_s=question.startup_s + paid_s,
        wall_s=question.startup_s + paid_s / there,
        cost_usd=float(rental_usd(question.spot_usd_per_h, question.startup_s + paid_s)),
        policies=policies,
        best=_best(policies, question.confidence),
    )


def _horizon_s(errand: Errand, wall_s: float, cycle_s: float) -> float:
    """How long a replay is followed: long enough for nearly all to end, and not long past a deadline."""
    patient_s = 1.5 * wall_s + 30 * cycle_s
    if errand.deadline_s is None:
        return patient_s
    return max(1.01 * errand.deadline_s, min(patient_s, 4 * errand.deadline_s))


def _errand(question: SpotQuestion, belief: Interruption, run_s: float) -> Errand:
    """The job; one that is done before a checkpoint is worth its time makes none."""
    interval_s = float(best_interval_s(belief.save_s, run_s))
    saves = interval_s < question.usual_work_s
    return Errand(
        work_s=question.usual_work_s,
        deadline_s=None if question.deadline_s is None else max(question.deadline_s - question.startup_s, 1e-3),
        spot_usd_per_h=question.spot_usd_per_h,
        on_demand_usd_per_h=question.on_demand_usd_per_h,
        interval_s=interval_s if saves else question.usual_work_s,
        save_s=belief.save_s if saves else 0.0,
        restart_s=belief.restart_s,
    )


def _drawn(belief: Interruption, instances: int, how: tuple[str, float, int]) -> NDArray[np.bool_]:
    law, step_s, steps = how
    ratio = spot_facts().lifetimes.mean_over_median
    plan = Draw(step_s=step_s, steps=REPLAYS * steps, law=law, mean_over_median=ratio)
    return draw(belief, instances, plan).available.reshape(REPLAYS, steps)


def _policy(question: SpotQuestion, policy: str, outcome: Outcome) -> PolicyOutcome:
    usd_per_h = question.spot_usd_per_h
    if policy == ON_DEMAND_ONLY and question.on_demand_usd_per_h is not None:
        usd_per_h = question.on_demand_usd_per_h
    done = np.isfinite(outcome.wall_s)
    cost_usd = outcome.cost_usd + float(rental_usd(usd_per_h, question.startup_s))
    return PolicyOutcome(
        policy=policy,
        cost_usd=_spread(np.where(done, cost_usd, np.inf)),
        time_s=_spread(outcome.wall_s + question.startup_s),
        late_frac=None if question.deadline_s is None else float(outcome.late.mean()),
        on_demand_frac=float(outcome.on_demand_frac.mean()),
        given_up_frac=float(1.0 - done.mean()),
        interruptions=float(outcome.interrupted.mean()),
    )


def _spread(values: NDArray[np.float64]) -> Mapping[str, float | None]:
    ordered = np.sort(values)
    done = ordered[np.isfinite(ordered)]
    picks = {f"p{q}": float(ordered[min(len(ordered) - 1, q * len(ordered) // 100)]) for q in (10, 50, 90)}
    picks["mean"] = float(done.mean()) if len(done) else np.inf
    return {key: value if np.isfinite(value) else None for key, value in picks.items()}


def _best(policies: tuple[PolicyOutcome, ...], confidence: float) -> str:
    """The cheapest on average of those late seldom enough; the one least often late where none is."""

    def cost_usd(outcome: PolicyOutcome) -> float:
        mean = outcome.cost_usd["mean"]
        return np.inf if mean is None else mean

    kept = [outcome for outcome in policies if (outcome.late_frac or 0.0) <= 1.0 - confidence]
    if kept:
        return min(kept, key=cost_usd).policy
    return min(policies, key=lambda outcome: (outcome.late_frac or 0.0, cost_usd(outcome))).policy
