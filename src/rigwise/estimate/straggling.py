"""Waiting for the slowest: step times of equal devices scatter, and a barrier takes the largest.

Step times are log-normal with a small spread; the expected largest of ``n`` grows like the
square root of ``2 ln n``. Bounded staleness lets a worker run ``k`` steps ahead, so that the
barrier sees the mean of ``k+1`` steps, whose spread is smaller by the root of that. Without any
barrier nobody waits.

Source: Harter, "Expected Values of Normal Order Statistics", Biometrika 48, 1961, table 1; Ho et
al., "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Expected largest of 1, 2, 4 ... standard normals; beyond 1,024 it goes on as it does there.
_LARGEST = (0.0, 0.5642, 1.0294, 1.4236, 1.7660, 2.0697, 2.3439, 2.5946, 2.8269, 3.0439, 3.2482)


def expected_largest(n: Any) -> Any:
    """Expected largest of ``n`` standard normals, between powers of two on a straight line in ``log2 n``.

    Source: the integral of ``n x p(x) P(x)^(n-1)``, as Harter tabulates it; past 1,024 the increment of the last step.

    >>> round(float(expected_largest(8)), 4), round(float(expected_largest(1)), 4)
    (1.4236, 0.0)
    """
    doublings = np.log2(np.maximum(np.asarray(n, dtype=np.float64), 1.0))
    beyond = np.maximum(doublings - (len(_LARGEST) - 1), 0.0) * (_LARGEST[-1] - _LARGEST[-2])
    return np.interp(doublings, np.arange(len(_LARGEST)), _LARGEST) + beyond


def straggling_frac(n: Any, spread: float, staleness: int = 0) -> Any:
    """What a step of ``n`` devices takes beyond the median device's, as a share of it.

    Source: the largest of ``n`` log-normals with that spread; see the module.

    >>> round(float(straggling_frac(8, 0.01)), 4), float(straggling_frac(1, 0.01))
    (0.0143, 0.0)
    """
    return np.exp(spread / np.sqrt(staleness + 1.0) * expected_largest(n)) - 1.0
