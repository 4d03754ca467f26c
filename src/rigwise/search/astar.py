"""A*: best-first search that proves what it returns.

A state is a partial choice. Its bound must be admissible: no complete choice below it may
have a smaller value. States are taken up in the order of their bounds, so the first complete
choice to come up is a best one: everything still open is bounded by more than its value.
A bound need not grow along a path; a child is never held to be better than its parent.

States whose complete choices are cheaper to look at than to tell apart form a *block*: it is
estimated whole, and its complete choices ("leaves") compete with the open states one by one.

What was not looked at is part of the result. ``cover`` lists blocks that were estimated,
states that no constraint allows, and open states, which their bounds exclude; together they
hold every leaf exactly once.

Source: Hart, Nilsson & Raphael, "A Formal Basis for the Heuristic Determination of Minimum
Cost Paths", IEEE Trans. SSC 4(2), 1968.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

Stop = Callable[[float, float], bool]
S = TypeVar("S", bound=Hashable)
L = TypeVar("L")
L_co = TypeVar("L_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Child(Generic[S]):
    """A state one choice further.

    Attributes:
        state: The state.
        bound: No leaf below has a smaller value; infinite if none below is allowed.
        cut: Why no leaf below can be allowed; empty if one may be.
    """

    state: S
    bound: float
    cut: str = ""


class Problem(Protocol[S, L_co]):
    """What A* must know of a problem.

    It may have ``rank(leaf)`` as well: of leaves of equal value that are known the least comes first.
    """

    def expand(self, state: S) -> Sequence[Child[S]] | None:
        """The next choices, disjoint and complete; None if the state is a block."""

    def estimate(self, block: S) -> Sequence[tuple[float, L_co]]:
        """The allowed leaves of a block with their values, best first."""


@dataclass(frozen=True, slots=True)
class Covered(Generic[S]):
    """One part of the tree: ``verdict`` is ``estimated``, ``bound`` or a problem's own reason."""

    state: S
    verdict: str
    number: float


def go_on(best: float, bound: float) -> bool:
    """Never ends a search early."""
    del best, bound
    return False


class AStar(Generic[S, L]):
    """One search. Iterate for the leaves in order of their values.

    Args:
        problem: Expands states and estimates blocks.
        root: The empty choice.
        gap_frac: A leaf is as good as the best if it is at most this much worse.
        stop: Asked before each step with the value of the best leaf found and the lowest open bound; if it says
            yes, the leaves found so far come out in order, and what is open stays in ``cover``.

    >>> class Halves:
    ...     def expand(self, state):
    ...         return None if len(state) == 2 else [Child(state + c, 0.0) for c in "ab"]
    ...     def estimate(self, block):
    ...         return [({"aa": 3.0, "ab": 1.0, "ba": 2.0, "bb": 4.0}[block], block)]
    >>> next(AStar(Halves(), ""))
    (1.0, 'ab')
    """

    def __init__(self, problem: Problem[S, L], root: S, *, gap_frac: float = 0.0, stop: Stop | None = None) -> None:
        self._problem, self._stop = problem, stop or go_on
        self.stopped = False
        self._ease = 1.0 / (1.0 + gap_frac)
        self._order = count()
        self._open: list[tuple[float, int, S]] = []
        self._leaves: list[tuple[float, Any, int, Iterator[tuple[float, L]], L]] = []
        self._rank: Callable[[L], Any] = getattr(problem, "rank", lambda _: 0)
        self._closed: list[Covered[S]] = []
        self.expanded = 0
        self._admit(Child(root, 0.0), 0.0)

    def __iter__(self) -> Iterator[tuple[float, L]]:
        return self

    def __next__(self) -> tuple[float, L]:
        """The next best leaf; its value is at most ``1 + gap_frac`` times the best open one."""
        while self._open and (not self._leaves or self._open[0][0] < self._leaves[0][0] * self._ease):
            best = self._leaves[0][0] if self._leaves else float("inf")
            if self.stopped or self._stop(best, self._open[0][0]):
                self.stopped = True
                break
            bound, _, state = heappop(self._open)
            children = self._problem.expand(state)
            if children is None:
                self._estimate(state)
                continue
            self.expanded += 1
            for child in children:
                self._admit(child, bound)
        if not self._leaves:
            raise StopIteration
        value, _, _, rest, leaf = heappop(self._leaves)
        self._queue(rest)
        return value, leaf

    @property
    def lower_bound(self) -> float:
        """No leaf that is still open, estimated or not, has a smaller value."""
        return min(heap[0][0] for heap in (self._open, self._leaves, [(float("inf"),)]) if heap)

    def cover(self) -> list[Covered[S]]:
        """Every leaf once: estimated, ruled out by a constraint, or bounded."""
        return [*self._closed, *(Covered(state, "bound", bound) for bound, _, state in self._open)]

    def _admit(self, child: Child[S], parent_bound: float) -> None:
        if child.bound == float("inf") or child.cut:
            self._closed.append(Covered(child.state, child.cut or "bound", child.bound))
        else:
            # among equals the youngest first: it is the deepest
            heappush(self._open, (max(child.bound, parent_bound), -next(self._order), child.state))

    def _estimate(self, block: S) -> None:
        leaves = self._problem.estimate(block)
        self._closed.append(Covered(block, "estimated", leaves[0][0] if leaves else float("inf")))
        self._queue(iter(leaves))

    def _queue(self, leaves: Iterator[tuple[float, L]]) -> None:
        for value, leaf in leaves:
            heappush(self._leaves, (value, self._rank(leaf), next(self._order), leaves, leaf))
            return
