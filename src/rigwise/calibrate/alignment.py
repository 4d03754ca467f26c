"""Two sequences in the same order, neither of them whole: which of one is which of the other.

The pairs are those of the greatest total score that keep both orders. Skipping costs nothing, so that a row of the
table is a running maximum, which NumPy takes at once.

Source: Needleman & Wunsch, "A general method applicable to the search for similarities", J. Mol. Biol. 48, 1970,
without gap penalties.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A", bound=Hashable)
B = TypeVar("B", bound=Hashable)

#: A table of more cells takes too much memory.
MOST_CELLS = 40_000_000


def aligned(first: Sequence[A], second: Sequence[B], score: Callable[[A, B], float]) -> list[tuple[int, int]]:
    """Pairs of indices, both rising.

    Args:
        first: One sequence.
        second: The other; equal members of either are looked at once.
        score: How well two go together, in quarters; 0 for never.

    >>> aligned("abcd", "axcd", lambda x, y: float(x == y))
    [(0, 0), (2, 2), (3, 3)]
    """
    if not first or not second:
        return []
    if (len(first) + 1) * (len(second) + 1) > MOST_CELLS:
        return _in_pieces(first, second, score)
    scores, rows, columns = _scores(first, second, score)
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=np.float32)
    for index, row in enumerate(rows):
        best = np.maximum(table[index, 1:], table[index, :-1] + scores[row][columns])
        table[index + 1, 1:] = np.maximum.accumulate(best)
    return _back(table)


def _scores(
    first: Sequence[A], second: Sequence[B], score: Callable[[A, B], float]
) -> tuple[NDArray[np.float32], list[int], NDArray[np.int64]]:
    """Scores of unlike members, and which of them each member is."""
    left: dict[A, int] = {}
    right: dict[B, int] = {}
    rows = [left.setdefault(one, len(left)) for one in first]
    columns = np.array([right.setdefault(one, len(right)) for one in second], dtype=np.int64)
    found = [[score(one, other) for other in right] for one in left]
    return np.array(found, dtype=np.float32), rows, columns


def _back(table: NDArray[np.float32]) -> list[tuple[int, int]]:
    pairs = []
    row, column = table.shape[0] - 1, table.shape[1] - 1
    while row and column:
        here = table[row, column]
        if here == table[row - 1, column]:
            row -= 1
        elif here == table[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1]


def _in_pieces(first: Sequence[A], second: Sequence[B], score: Callable[[A, B], float]) -> list[tuple[int, int]]:
    """Equal parts of both in turn: the pairs near the cuts may be lost."""
    half, other = len(first) // 2, len(second) // 2
    if not half or not other:
        return []
    later = aligned(first[half:], second[other:], score)
    return aligned(first[:half], second[:other], score) + [(a + half, b + other) for a, b in later]
