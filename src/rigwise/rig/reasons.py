"""Why a build is as it is: what refuses the cheaper parts, what more money buys, what single changes bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from rigwise.rig.judged import joined
from rigwise.rig.options import Option
from rigwise.rig.problem import BuildProblem, Goal, State
from rigwise.rig.speed import Setup, Speed
from rigwise.rig.types import KINDS
from rigwise.search.astar import AStar
from rigwise.units import GIB, format_count

#: Single changes of one kind that are listed.
_MOST_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One part of the answer.

    Attributes:
        kind, name, action: What it is, and whether it is bought, kept, added or replaced.
        price_usd: What is paid for it.
        as_of: Day of the price.
        why: Which rules refuse the cheaper ones, in words.
    """

    kind: str
    name: str
    action: str
    price_usd: float
    as_of: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """What more money would buy: the cheapest build that is faster."""

    total_usd: float
    more_usd: float
    cards: str
    samples_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change alone to a computer that stands already. ``refused`` names the rules that forbid it."""

    kind: str
    name: str
    action: str
    price_usd: float
    gain: str
    refused: str


def chosen(problem: BuildProblem, state: State) -> Iterator[Chosen]:
    """The parts with the rules that refuse what is cheaper, all else as chosen."""
    options = problem.question.options
    for depth, kind in enumerate(KINDS):
        option = options[kind][state[depth]]
        rest = dict(zip(KINDS, state, strict=True)) | {kind: -1}
        cheaper = [i for i in range(state[depth]) if options[kind][i].price_usd < option.price_usd]
        reasons = [problem.refusal_of(rest, kind, i) or (problem.too_slow(i) if kind == "gpu" else "") for i in cheaper]
        as_of = max((part.as_of for part in option.parts), default="")
        why = _why(kind, reasons, problem.question.goal)
        yield Chosen(
            kind=kind, name=option.name, action=option.action, price_usd=option.price_usd, as_of=as_of, why=why
        )


def _why(kind: str, reasons: Sequence[str], goal: Goal) -> str:
    """Which rules refuse the cheaper options of a kind."""
    if kind == "gpu" and goal.minimize == "time":
        return "the fastest for the job that keeps the rules and the budget"
    counts = {name: reasons.count(name) for name in dict.fromkeys(filter(None, reasons))}
    if not reasons:
        return "nothing is cheaper"
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    words = joined(f"{name} ({n})" for name, n in ranked)
    return f"cheaper ones refused by {words}"


def further(problem: BuildProblem, state: State) -> Further | None:
    """The cheapest build that is faster, without the budget; None if there is none."""
    question = problem.question
    spent_usd, best_s = problem.spent_usd(state), problem.s_per_sample(state[0])
    goal = replace(question.goal, minimize="cost", budget_usd=inf, below_s_per_sample=best_s * (1 - 1e-6))
    other = BuildProblem(replace(question, goal=goal))
    cost_usd, faster = next(AStar(other, ()), (inf, None))
    if faster is None:
        return None
    return Further(
        total_usd=cost_usd,
        more_usd=cost_usd - spent_usd,
        cards=question.options["gpu"][faster[0]].name,
        samples_per_s=1 / other.s_per_sample(faster[0]),
    )


def steps(problem: BuildProblem, found: Mapping[Setup, Speed]) -> Iterator[Step]:
    """Single changes that bring something, the cheapest of each gain, and why the same card again cannot be added."""
    options = problem.question.options
    keep = {kind: i for kind in KINDS for i, option in enumerate(options[kind]) if option.action == "keep"}
    for kind in ("gpu", "ram", "psu"):
        if kind not in keep:
            continue
        seen, shown = _worth(kind, options[kind][keep[kind]], found), 0
        for index, option in enumerate(options[kind]):  # the cheapest first
            worth = _worth(kind, option, found)
            if option.action == "keep" or worth <= seen * (1 + 1e-9):
                continue
            refused = ", ".join(problem.refusals_of(keep, kind, index))
            again = kind == "gpu" and option.action == "add"
            if not refused:
                seen, shown = worth, shown + 1
            if again or (not refused and shown <= _MOST_STEPS):
                yield Step(
                    kind=kind,
                    name=option.name,
                    action=option.action,
                    price_usd=option.price_usd,
                    gain=_gain(kind, worth),
                    refused=refused,
                )


def _worth(kind: str, option: Option, found: Mapping[Setup, Speed]) -> float:
    if kind == "gpu":
        speed = found.get(option.setup) if option.setup else None
        return (speed.samples_per_s or 0.0) if speed else 0.0
    name = "total_bytes" if kind == "ram" else "rated_w"
    return float(sum(getattr(part, name) or 0.0 for part in option.parts))


def _gain(kind: str, worth: float) -> str:
    if kind == "gpu":
        return f"{format_count(worth)} samples/s"
    return f"{worth / GIB:.0f} GiB" if kind == "ram" else f"{worth:.0f} W"
