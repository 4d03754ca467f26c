"""``rigwise rig build``: the best computer for a budget, or the best change to one, with the proof and the reasons."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from math import inf
from typing import Any

from rigwise.edge import as_plain
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.rig.check import check, parts_of
from rigwise.rig.claim import BUILD_SCHEMA, Asked
from rigwise.rig.judged import Given, joined
from rigwise.rig.options import Option, Wish, left_out, new_options, setups_of, upgrade_options
from rigwise.rig.power import load_w
from rigwise.rig.problem import BOUND, ESTIMATED, BuildProblem, Goal, Question, State, refusals
from rigwise.rig.reasons import Chosen, Further, Step, chosen, further, steps
from rigwise.rig.speed import Setup, Speed, speeds
from rigwise.rig.types import KINDS, PROBLEM, UNKNOWN, WARNING, Demand, Feed, Finding, Rig
from rigwise.search.astar import AStar
from rigwise.units import format_usd
from rigwise.workload.choices import Task

SCHEMA = BUILD_SCHEMA
OBJECTIVES = ("time", "cost")
#: Cards dearer than this many budgets are not looked at, not even for what more money would buy.
_FAR_BEYOND = 3.0

Estimator = Callable[[Task, Sequence[Setup], float], Mapping[Setup, Speed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the user wants.

    Attributes:
        task: The job with its model: what "fast" means.
        minimize: ``time`` under the budget, or ``cost`` of a machine that meets the deadline.
        budget_usd, deadline_s: Limits; infinite for none.
        mains: Name of the circuit, or empty.
        wish: What the choice is narrowed to.
        owned: The computer that is to be upgraded; None to buy one whole.
        feed: How samples reach the cards.
        today: Day on which prices are as old as they are; None where it does not matter.
        clock_s: A clock, for the time that the search took.
    """

    task: Task
    minimize: str = "time"
    budget_usd: float = inf
    deadline_s: float = inf
    mains: str = ""
    wish: Wish = field(default_factory=Wish)
    owned: Rig | None = None
    feed: Feed = field(default_factory=Feed)
    today: date | None = None
    clock_s: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why nothing better was overlooked.

    Attributes:
        objective: ``time`` (seconds of a sample) or ``cost`` (dollars).
        best, lower_bound: Value of the answer, and a bound of all others.
        candidates: Complete choices in all; ``pruned`` and ``estimated`` add up to them.
        expanded: States that were expanded.
        pruned: Complete choices by the rule or limit that rules them out unseen; ``bound``: no better at best.
        wall_s: Time of the search.
    """

    objective: str
    best: float
    lower_bound: float
    candidates: int
    expanded: int
    estimated: int
    pruned: Mapping[str, int]
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The answer."""

    ask: Ask
    rig: Rig
    chosen: tuple[Chosen, ...]
    total_usd: float
    speed: Speed | None
    now_per_s: float | None
    time_s: float | None
    findings: tuple[Finding, ...]
    proof: Proof
    further: Further | None
    steps: tuple[Step, ...]
    left_out: Mapping[str, int]

    @property
    def prices_of(self) -> str:
        """Day of the oldest price of the table among the parts, empty if there is none."""
        return min((part.as_of for part in self.chosen if part.as_of), default="")

    @property
    def age_days(self) -> int | None:
        """How old that price is."""
        if not self.prices_of or self.ask.today is None:
            return None
        return (self.ask.today - date.fromisoformat(self.prices_of)).days


def build(ask: Ask, estimator: Estimator = speeds) -> Build:
    """The best build under the rules and the limits, proven.

    Raises:
        InfeasibleError: No build keeps them; says what the cheapest costs or which rule refuses all.
    """
    if ask.minimize not in OBJECTIVES:
        raise InvalidInputError(f"--minimize is {ask.minimize!r}", hint=f"choose one of: {', '.join(OBJECTIVES)}")
    question, found, omitted = _question(ask, estimator)
    started_s = ask.clock_s()
    problem = BuildProblem(question)
    search: AStar[State, State] = AStar(problem, ())
    value, state = next(search, (inf, None))
    if state is None:
        raise _infeasible(ask, question, search)
    proof = _proof(question, search, value, ask.clock_s() - started_s)
    rig, cards = problem.rig(state), question.options["gpu"][state[0]]
    speed = found.get(cards.setup) if cards.setup else None
    per_sample_s = problem.s_per_sample(state[0])
    return Build(
        ask=ask,
        rig=rig,
        chosen=tuple(chosen(problem, state)),
        total_usd=problem.spent_usd(state),
        speed=speed,
        now_per_s=_now(question, found),
        time_s=per_sample_s * ask.task.samples if per_sample_s < inf else None,
        findings=check(rig, problem.given(state[0])),
        proof=proof,
        further=further(problem, state),
        steps=tuple(steps(problem, found)) if ask.owned else (),
        left_out=omitted,
    )


def _question(ask: Ask, estimator: Estimator) -> tuple[Question, Mapping[Setup, Speed], Counter[str]]:
    """The options with the speed of their cards, the limits, and what is no choice."""
    owned = ask.owned
    options = new_options(ask.wish) if owned is None else upgrade_options(owned, ask.wish)
    omitted = left_out(ask.wish)
    for kind in KINDS:
        if not options[kind] and kind == "gpu" and (ask.wish.count or 1) > 1:
            hint = "a workstation or server board is not in the table: check one with rigwise rig check"
            raise InfeasibleError(f"no desktop CPU of the table has lanes for {ask.wish.count} such cards", hint=hint)
        if not options[kind]:
            raise InfeasibleError(
                f"no {kind} with a price is what was asked for", hint=f"rigwise parts --category {kind}"
            )
    near = tuple(o for o in options["gpu"] if o.price_usd <= _FAR_BEYOND * ask.budget_usd)
    omitted[f"cards dearer than {_FAR_BEYOND:g} budgets"] = len(options["gpu"]) - len(near)
    options["gpu"] = near
    if not options["gpu"]:
        raise InfeasibleError(
            f"no card costs {format_usd(ask.budget_usd)} or less", hint="rigwise parts --category gpu"
        )
    found = estimator(ask.task, setups_of(options), ask.task.job.confidence)
    demands = tuple(_demand(option, found, ask.task) for option in options["gpu"])
    omitted["choices of cards that the estimator cannot judge"] = sum(o.setup not in found for o in options["gpu"])
    base = replace(owned or Rig(), feed=ask.feed if owned is None else owned.feed)
    goal = Goal(
        minimize=ask.minimize,
        budget_usd=ask.budget_usd,
        most_s_per_sample=ask.deadline_s / ask.task.samples,
        tolerated=_had(owned, ask.mains),
        trusted_w=load_w(owned) if owned else None,
    )
    return Question(base=base, options=options, demands=demands, mains=ask.mains, goal=goal), found, +omitted


def _had(owned: Rig | None, mains: str) -> frozenset[str]:
    """Rules that the machine breaks as it stands: they do not forbid a change."""
    findings = check(owned, Given(mains=mains)) if owned else ()
    return frozenset(f.rule for f in findings if f.severity == WARNING)


def _demand(option: Option, found: Mapping[Setup, Speed], task: Task) -> Demand | None:
    speed = found.get(option.setup) if option.setup else None
    if speed is None:
        return Demand(model=task.job.model, samples_per_s=None, fit_probability=0.0) if option.parts else None
    return Demand(
        model=task.job.model,
        samples_per_s=speed.samples_per_s,
        slow_per_s=speed.low_per_s,
        fit_probability=speed.fit_probability,
    )


def _now(question: Question, found: Mapping[Setup, Speed]) -> float | None:
    """Throughput of the cards that are there already."""
    kept = next((o for o in question.options["gpu"] if o.action == "keep" and o.parts), None)
    speed = found.get(kept.setup) if kept and kept.setup else None
    return speed.samples_per_s if speed else None


def _proof(question: Question, search: AStar[State, State], value: float, wall_s: float) -> Proof:
    counts = refusals(question, search.cover())
    return Proof(
        objective=question.goal.minimize,
        best=value,
        lower_bound=min(value, search.lower_bound),
        candidates=question.candidates,
        expanded=search.expanded,
        estimated=counts.pop(ESTIMATED, 0),
        pruned=dict(sorted(counts.items(), key=lambda pair: -pair[1])),
        wall_s=wall_s,
    )


def _infeasible(ask: Ask, question: Question, search: AStar[State, State]) -> InfeasibleError:
    """Why there is no build: what the cheapest would cost, or which rules refuse everything."""
    free = replace(question, goal=replace(question.goal, minimize="cost", budget_usd=inf))
    cheapest = next(AStar(BuildProblem(free), ()), None)
    model = ask.task.job.model
    if cheapest is not None:
        cost = format_usd(cheapest[0])
        limit = format_usd(ask.budget_usd)
        return InfeasibleError(f"no build for {model} costs {limit} or less", hint=f"the cheapest costs {cost}")
    counts = refusals(question, search.cover())
    counts.pop(BOUND, None)
    ranked = sorted(counts, key=lambda name: -counts[name])[:3]
    hint = "a smaller batch, more time or other devices may help"
    return InfeasibleError(f"no build for {model} keeps all rules; refused by {joined(ranked)}", hint=hint)


def to_check(findings: Sequence[Finding]) -> list[Finding]:
    """What the buyer has to look at, because the table does not tell."""
    return [finding for finding in findings if finding.severity == UNKNOWN]


def unmended(findings: Sequence[Finding]) -> list[Finding]:
    """What was wrong before and still is."""
    return [finding for finding in findings if finding.severity in (WARNING, PROBLEM)]


def _asked(ask: Ask) -> Asked:
    """The question with all that a checker needs to answer it anew."""
    return Asked(
        job=ask.task.job,
        minimize=ask.minimize,
        budget_usd=None if ask.budget_usd == inf else ask.budget_usd,
        deadline_s=None if ask.deadline_s == inf else ask.deadline_s,
        mains=ask.mains,
        wish=ask.wish,
        owned=ask.owned,
        feed=ask.feed,
    )


def document(answer: Build) -> dict[str, Any]:
    """The answer as ``rigwise rig build --json`` prints it."""
    ask = answer.ask
    return {
        "schema": SCHEMA,
        "asked": {
            "model": ask.task.job.model,
            "task": ask.task.job.task,
            "batch": ask.task.case.batch,
            "samples": ask.task.samples,
            "minimize": ask.minimize,
            "budget_usd": None if ask.budget_usd == inf else ask.budget_usd,
            "deadline_s": None if ask.deadline_s == inf else ask.deadline_s,
            "mains": ask.mains,
            "price": ask.wish.price,
            "upgrades": ask.owned.name if ask.owned else None,
        },
        "question": as_plain(_asked(ask)),
        "total_usd": answer.total_usd,
        "prices": {"as_of": answer.prices_of, "age_days": answer.age_days},
        "speed": as_plain(answer.speed),
        "now_samples_per_s": answer.now_per_s,
        "time_s": answer.time_s,
        "chosen": as_plain(answer.chosen),
        "parts": parts_of(answer.rig),
        "findings": as_plain(answer.findings),
        "further": as_plain(answer.further),
        "steps": as_plain(answer.steps),
        "certificate": as_plain(answer.proof),
        "left_out": dict(answer.left_out),
        "assumed": list(ask.task.assumed),
    }
