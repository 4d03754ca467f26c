"""The choice of parts as a problem for A*: one kind after another, cut by the rules and the budget.

A state holds the options chosen so far, in the order of ``KINDS``. What a completion costs at
least is what is spent plus, for every kind that is still open, its cheapest option that no
rule refuses beside what is chosen: a rule that looks at another open kind cannot refuse yet,
so this is never more than the cheapest completion that keeps every rule. The time of a sample
depends on the cards alone, which are chosen first. Both grow along a path.

Source: Hart, Nilsson & Raphael, 1968, for admissible bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import Any

from rigwise.rig.check import RULES, judged
from rigwise.rig.judged import Given, Rule
from rigwise.rig.options import Option
from rigwise.rig.types import KINDS, PROBLEM, UNKNOWN, WARNING, Demand, Finding, Rig
from rigwise.search.astar import Child, Covered

State = tuple[int, ...]

#: Among builds that are equally fast the cheaper is better: a dollar counts as this share of the time.
TIE_PER_USD = 1e-9
#: Verdicts of a certificate beside the names of rules.
BUDGET, DEADLINE, SLOWER, BOUND, ESTIMATED = "budget", "deadline", "not faster", "bound", "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is best, and what is allowed.

    Attributes:
        minimize: ``time`` or ``cost``.
        budget_usd: Most money; infinite for no limit.
        most_s_per_sample: Cards that are slower in one of ten outcomes are refused, for a deadline.
        below_s_per_sample: Cards must be faster than this; infinite for no limit.
        tolerated: Rules whose warnings the machine had before anything was changed.
        trusted_w: Load with which a supply that is not known is trusted; None where it is bought.
    """

    minimize: str = "time"
    budget_usd: float = inf
    most_s_per_sample: float = inf
    below_s_per_sample: float = inf
    tolerated: frozenset[str] = frozenset()
    trusted_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A build to look for.

    Attributes:
        base: What is not chosen: input pipeline, limits of a machine sold whole, name.
        options: By kind, the cheapest first.
        demands: What the job makes of each option of cards, in the same order; None where unknown.
        mains: Name of the circuit, or empty.
        goal: What is best.
    """

    base: Rig
    options: Mapping[str, Sequence[Option]]
    demands: Sequence[Demand | None]
    mains: str = ""
    goal: Goal = field(default_factory=Goal)

    @property
    def candidates(self) -> int:
        """Complete choices in all."""
        return prod(len(self.options[kind]) for kind in KINDS)

    def below(self, depth: int) -> int:
        """Complete choices below a state of that many choices."""
        return prod(len(self.options[kind]) for kind in KINDS[depth:])


class BuildProblem:
    """What A* must know of a build."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._goal = question.goal
        self._findings: dict[tuple[str, tuple[int, ...]], Finding | None] = {}
        self._rules = {kind: [r for r in RULES if kind in r.scope] for kind in KINDS}
        self._own = {kind: _scopes(rules, kind) for kind, rules in self._rules.items()}

    def expand(self, state: State) -> Sequence[Child[State]] | None:
        """Every option of the next kind; None for a complete choice."""
        if len(state) == len(KINDS):
            return None
        return [self._child((*state, index)) for index in range(len(self.question.options[KINDS[len(state)]]))]

    def estimate(self, block: State) -> Sequence[tuple[float, State]]:
        """The value of a complete choice: nothing about it is open."""
        return [(self.value(block, self.spent_usd(block)), block)]

    def value(self, state: State, cost_usd: float) -> float:
        """Of a state at a cost: what A* minimises. For a bound of the cost, a bound of the value."""
        if self._goal.minimize == "cost":
            return cost_usd
        return self.s_per_sample(state[0]) * (1 + TIE_PER_USD * cost_usd)

    def s_per_sample(self, cards: int) -> float:
        """Time of one sample with an option of cards, infinite where it does not run."""
        demand = self.question.demands[cards]
        return 1 / demand.samples_per_s if demand and demand.samples_per_s else inf

    def spent_usd(self, state: State) -> float:
        """What the choices so far cost."""
        return sum(self.question.options[kind][i].price_usd for kind, i in zip(KINDS, state, strict=False))

    def rig(self, state: State) -> Rig:
        """The computer of a complete or partial choice."""
        chosen: dict[str, Any] = {
            kind: self.question.options[kind][i].parts for kind, i in zip(KINDS, state, strict=False)
        }
        return replace(self.question.base, **{kind: chosen.get(kind, ()) for kind in KINDS})

    def given(self, cards: int) -> Given:
        """What the rules know beside the parts."""
        return Given(mains=self.question.mains, demand=self.question.demands[cards])

    def refusal(self, state: State, kind: str, index: int) -> str:
        """The rule that refuses an option beside what is chosen of other kinds; empty if none does."""
        return self.refusal_of(dict(zip(KINDS, state, strict=False)), kind, index)

    def refusal_of(self, others: Mapping[str, int], kind: str, index: int) -> str:
        """The same beside any choice of other kinds."""
        return next(self.refusals_of(others, kind, index), "")

    def refusals_of(self, others: Mapping[str, int], kind: str, index: int) -> Iterator[str]:
        """All rules that refuse it."""
        chosen = {**others, kind: index}
        for rule, kinds in self._own[kind]:
            if all(k in chosen for k in kinds):
                finding = self._finding(rule, tuple(chosen[k] for k in kinds), kinds)
                if finding is not None and self._refuses(finding):
                    yield rule.name

    def _child(self, state: State) -> Child[State]:
        depth, cards = len(state), state[0]
        kind = KINDS[depth - 1]
        reason = self.refusal(state[:-1], kind, state[-1]) or (self.too_slow(cards) if depth == 1 else "")
        if reason:
            return Child(state, inf, reason)
        cost_usd, blocked = self._least_usd(state)
        if blocked:
            return Child(state, inf, blocked)
        if cost_usd > self._goal.budget_usd * (1 + 1e-12):
            return Child(state, inf, BUDGET)
        return Child(state, self.value(state, cost_usd))

    def too_slow(self, cards: int) -> str:
        """The limit of time that an option of cards breaks, empty if none."""
        demand, time_s = self.question.demands[cards], self.s_per_sample(cards)
        slow_s = 1 / demand.slow_per_s if demand and demand.slow_per_s and time_s < inf else time_s
        if slow_s > self._goal.most_s_per_sample:
            return DEADLINE
        return SLOWER if time_s >= self._goal.below_s_per_sample else ""

    def _least_usd(self, state: State) -> tuple[float, str]:
        """Least cost of a completion, or the rule that leaves a kind without any option."""
        total_usd = self.spent_usd(state)
        for kind in KINDS[len(state) :]:
            reason = ""
            for index, option in enumerate(self.question.options[kind]):
                reason = self.refusal(state, kind, index)
                if not reason:
                    total_usd += option.price_usd
                    break
            else:
                return inf, reason or "no option"
        return total_usd, ""

    def _finding(self, rule: Rule, indices: tuple[int, ...], kinds: tuple[str, ...]) -> Finding | None:
        key = (rule.name, indices)
        if key not in self._findings:
            parts = {kind: self.question.options[kind][i].parts for kind, i in zip(kinds, indices, strict=True)}
            changes: dict[str, Any] = {kind: parts.get(kind, ()) for kind in KINDS}
            rig = replace(self.question.base, **changes)
            cards = dict(zip(kinds, indices, strict=True)).get("gpu")
            given = Given(mains=self.question.mains) if cards is None else self.given(cards)
            self._findings[key] = judged(rule, rig, given)
        return self._findings[key]

    def _refuses(self, finding: Finding) -> bool:
        """A problem, a warning that is new, or a supply of unknown size that would have to carry more than now."""
        goal = self._goal
        if finding.severity == UNKNOWN and finding.rule == "supply-load" and goal.trusted_w is not None:
            load_w = finding.evidence.get("load_w")
            return isinstance(load_w, int | float) and load_w > goal.trusted_w * (1 + 1e-6)
        return finding.severity == PROBLEM or (finding.severity == WARNING and finding.rule not in goal.tolerated)


def _scopes(rules: Iterable[Rule], kind: str) -> list[tuple[Rule, tuple[str, ...]]]:
    """Rules with the kinds that they look at in the order of choice, those of few kinds first."""
    listed = [(rule, tuple(k for k in KINDS if k in rule.scope)) for rule in rules if kind in rule.scope]
    return sorted(listed, key=lambda pair: len(pair[1]))


def refusals(question: Question, cover: Iterable[Covered[State]]) -> dict[str, int]:
    """Complete choices by what became of them: ``estimated``, ``bound``, ``budget`` or the name of a rule."""
    counts: dict[str, int] = {}
    for part in cover:
        counts[part.verdict] = counts.get(part.verdict, 0) + question.below(len(part.state))
    return counts
