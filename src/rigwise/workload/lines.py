"""Columns of a table as straight lines in the batch, so that another batch need not be counted from the graph again.

Every size of most tensors holds the batch once or not at all, so that bytes and multiply-adds are ``start + slope x
batch`` with whole numbers. Both are read off two batches and kept where two more lie on the line to the last bit;
other rows are counted anew. Whole numbers below 2**53 are exact, so a line gives the figure that counting gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Batches that lines are read off and checked on.
PROBES = np.array([1.0, 2.0, 3.0, 1000.0])
#: Up to here whole numbers are exact.
_EXACT = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Values by batch.

    Attributes:
        start, slope: ``[rows]``.
        holds: Where they are the values ``[rows]``.
    """

    start: NDArray[np.float64]
    slope: NDArray[np.float64]
    holds: NDArray[np.bool_]

    def at(self, batch: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values at a batch, and which of them count ``[rows]``."""
        values = self.start + self.slope * batch
        return values, self.holds & (np.abs(values) < _EXACT)


def lines(at_probes: NDArray[np.float64]) -> Lines:
    """The lines through values at ``PROBES`` ``[rows, probes]``.

    >>> found = lines(np.array([[3.0, 5.0, 7.0, 2001.0], [1.0, 4.0, 9.0, 1e6]]))
    >>> float(found.at(10.0)[0][0]), found.holds.tolist()
    (21.0, [True, False])
    """
    slope = at_probes[:, 1] - at_probes[:, 0]
    start = at_probes[:, 0] - slope
    whole = (slope == np.floor(slope)) & (start == np.floor(start)) | (slope == 0.0)
    return Lines(start=start, slope=slope, holds=whole & (start[:, None] + slope[:, None] * PROBES == at_probes).all(1))
