"""The best chain of choices, one of each stage, under limits of the whole: label setting, best first.

A label is a chain of the first stages. Its bound adds the least that the other stages can have,
so the first whole chain to come up is a best one. Of two labels of as many stages that go on in
the same way, one that is nowhere better is dropped: every chain through it has an equal or better
one through the other.

Source: Hansen, "Bicriterion Path Problems", 1980, for labels under limits; Hart, Nilsson & Raphael
1968 for the order, see ``astar``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from rigwise.search.astar import AStar, Child

#: Sums of stages hold rounding errors; a limit that is exceeded by less is kept.
_ROUNDING = 1e-9


class Step(NamedTuple):
    """One choice for one stage.

    Attributes:
        value: Of the objective; values of stages add up.
        time_s, usd: What counts against the limits of the whole.
        place: Choices of one place go on in the same way: to the next stage as to each other's.
        choice: Which choice it is.
    """

    value: float
    time_s: float
    usd: float
    place: Hashable
    choice: int


class Move(NamedTuple):
    """What it takes to get from one place to the next."""

    value: float = 0.0
    time_s: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of the whole chain, infinite for none."""

    time_s: float = inf
    usd: float = inf


class _Label(NamedTuple):
    chain: tuple[int, ...]
    value: float
    time_s: float
    usd: float
    place: Hashable


#: The move from a choice of the stage before to one of a stage; None if there is no such move.
Moves = Callable[[int, Hashable, Hashable], Move | None]


class ChainProblem:
    """The stages as ``AStar`` sees them.

    Attributes:
        dropped: Labels that another one made superfluous.
    """

    def __init__(self, stages: Sequence[Sequence[Step]], limits: Limits, moves: Moves) -> None:
        self._stages, self._limits, self._moves = stages, limits, moves
        self._rest = [Move()]
        for stage in reversed(stages):
            after = self._rest[0]
            least = Move(
                value=after.value + min((step.value for step in stage), default=inf),
                time_s=after.time_s + min((step.time_s for step in stage), default=inf),
                usd=after.usd + min((step.usd for step in stage), default=inf),
            )
            self._rest.insert(0, least)
        self._seen: dict[tuple[int, Hashable], list[_Label]] = {}
        self.dropped = 0

    def expand(self, state: _Label) -> Sequence[Child[_Label]] | None:
        """The label with each choice of the next stage."""
        depth = len(state.chain)
        if depth == len(self._stages):
            return None
        rest = self._rest[depth + 1]
        children = []
        for step in self._stages[depth]:
            label = self._next(state, step, depth)
            if label is None or self._is_too_much(label, rest):
                continue
            if self._is_dominated(label):
                self.dropped += 1
                continue
            children.append(Child(label, label.value + rest.value))
        return children

    def estimate(self, block: _Label) -> Sequence[tuple[float, _Label]]:
        """A whole chain."""
        return [(block.value, block)]

    def _next(self, state: _Label, step: Step, depth: int) -> _Label | None:
        move = self._moves(depth, state.place, step.place) if depth else Move()
        if move is None:
            return None
        return _Label(
            (*state.chain, step.choice),
            state.value + move.value + step.value,
            state.time_s + move.time_s + step.time_s,
            state.usd + move.usd + step.usd,
            step.place,
        )

    def _is_too_much(self, label: _Label, rest: Move) -> bool:
        limits = self._limits
        return label.time_s + rest.time_s > limits.time_s * (1 + _ROUNDING) or label.usd + rest.usd > limits.usd * (
            1 + _ROUNDING
        )

    def _is_dominated(self, label: _Label) -> bool:
        """Whether another label goes on in the same way and is nowhere worse; else it is kept in mind."""
        limits = self._limits
        seen = self._seen.setdefault((len(label.chain), label.place), [])
        for other in seen:
            if (
                other.value <= label.value
                and (other.time_s <= label.time_s or limits.time_s == inf)
                and (other.usd <= label.usd or limits.usd == inf)
            ):
                return True
        seen.append(label)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A best chain: which choice of each stage, its value, and how many labels were looked at."""

    choices: tuple[int, ...]
    number: float
    labels: int


def best_chain(
    stages: Sequence[Sequence[Step]], limits: Limits, moves: Moves = lambda stage, before, after: Move()
) -> Chain | None:
    """A chain of least value within the limits, None if there is none.

    Args:
        stages: The choices of each stage; ``choice`` is what a chain is told by.
        limits: Of the whole.
        moves: What it takes to go on from a place.

    >>> one = [Step(1.0, 9.0, 1.0, "a", 0), Step(3.0, 2.0, 3.0, "a", 1)]
    >>> best_chain([one, one], Limits(time_s=11.0)).number
    4.0
    """
    problem = ChainProblem(stages, limits, moves)
    search = AStar(problem, _Label((), 0.0, 0.0, 0.0, None))
    found: Iterator[tuple[float, _Label]] = iter(search)
    best = next(found, None)
    return None if best is None else Chain(choices=best[1].chain, number=best[0], labels=search.expanded)
