"""A* on toy trees: what it returns is what looking at every leaf returns, and its cover holds every leaf once."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.search.astar import AStar, Child


class Twins:
    """Two blocks of equal bounds and values, the one that is taken up first of the higher rank."""

    def expand(self, state):
        return None if state else [Child("low", 1.0), Child("high", 1.0)]

    def estimate(self, block):
        return [(2.0, block), (3.0, block)]

    def rank(self, leaf):
        return {"low": 0, "high": 1}[leaf]


def test_of_equal_leaves_the_one_of_the_lowest_rank_comes_first() -> None:
    assert list(AStar(Twins(), "")) == [(2.0, "low"), (2.0, "high"), (3.0, "low"), (3.0, "high")]


class Tree:
    """A random tree: states are paths, blocks hold a few leaves, bounds are the truth less some slack."""

    def __init__(self, random, *, depth=3, slack=1.0):
        self.random, self.depth, self.slack = random, depth, slack
        self.children: dict[tuple[int, ...], int] = {}
        self.values: dict[tuple[int, ...], list[float]] = {}
        self.forbidden: set[tuple[int, ...]] = set()
        self.estimated: list[tuple[int, ...]] = []
        self._grow(())

    def _grow(self, state):
        if len(state) == self.depth:
            self.values[state] = sorted(self.random.choice(range(20)) / 2 for _ in range(self.random.randint(0, 3)))
            return
        self.children[state] = self.random.randint(1, 3)
        for i in range(self.children[state]):
            self._grow((*state, i))
        if state and self.random.random() < 0.1:
            self.forbidden.add(state)

    def blocks(self, state=()):
        return [block for block in self.values if block[: len(state)] == state]

    def allowed(self):
        """Values of all leaves below no forbidden state."""
        return sorted(
            value
            for block, values in self.values.items()
            if not any(block[:n] in self.forbidden for n in range(1, self.depth + 1))
            for value in values
        )

    def truth(self, state):
        return min((value for block in self.blocks(state) for value in self.values[block]), default=50.0)

    def expand(self, state):
        if len(state) == self.depth:
            return None
        states = [(*state, i) for i in range(self.children[state])]
        bounds = [self.truth(s) - self.slack * self.random.random() for s in states]
        return [Child(s, b, "forbidden" if s in self.forbidden else "") for s, b in zip(states, bounds, strict=True)]

    def estimate(self, block):
        self.estimated.append(block)
        return [(value, (block, i)) for i, value in enumerate(self.values[block])]


@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 1.0, 100.0]))
def test_leaves_come_in_order_and_none_is_missing(random, slack) -> None:
    tree = Tree(random, slack=slack)
    assert [value for value, _ in AStar(tree, ())] == tree.allowed()


@given(st.randoms(use_true_random=False), st.integers(0, 4))
def test_the_cover_holds_every_leaf_once(random, taken) -> None:
    tree = Tree(random)
    search = AStar(tree, ())
    found = [value for value, _ in islice(search, taken)]
    covered = [block for part in search.cover() for block in tree.blocks(part.state)]
    assert sorted(covered) == sorted(tree.values)
    for part in search.cover():
        if part.verdict == "bound":
            assert part.number <= tree.truth(part.state)
            assert not found or part.number >= found[-1] or part.state == ()
        elif part.verdict == "estimated":
            assert part.state in tree.estimated
        else:
            assert part.state in tree.forbidden


@given(st.randoms(use_true_random=False), st.floats(0, 3))
def test_a_gap_is_kept(random, gap) -> None:
    tree = Tree(random, slack=5.0)
    first = next(AStar(tree, (), gap_frac=gap), None)
    best = tree.allowed()
    assert (first is None) == (not best)
    if first is not None:
        assert best[0] <= first[0] <= (1 + gap) * best[0] + 1e-12


@given(st.randoms(use_true_random=False))
def test_the_lower_bound_is_one(random) -> None:
    tree = Tree(random, slack=5.0)
    search = AStar(tree, ())
    values = tree.allowed()
    for taken, (value, _) in enumerate(search, 1):
        assert search.lower_bound >= value
        assert search.lower_bound <= min(values[taken:], default=float("inf"))


class Slack:
    """A tree in which an exact bound needs to look at one block only."""

    def expand(self, state):
        return None if len(state) == 1 else [Child((i,), float(i)) for i in range(100)]

    def estimate(self, block):
        return [(float(block[0]), block)]


def test_exact_bounds_look_at_one_block() -> None:
    search = AStar(Slack(), ())
    assert next(search) == (0.0, (0,))
    assert [part.state for part in search.cover() if part.verdict == "estimated"] == [(0,)]
    assert search.expanded == 1


def test_an_inadmissible_bound_loses_the_best_leaf() -> None:
    """So the condition in the docstring is needed."""

    class Wrong(Slack):
        def estimate(self, block):
            return [(50.0 if block[0] == 0 else 0.5, block)]

    assert next(AStar(Wrong(), ())) == (0.5, (1,))


def test_no_leaf_at_all() -> None:
    class Empty(Slack):
        def estimate(self, block):
            return []

    with pytest.raises(StopIteration):
        next(AStar(Empty(), ()))
