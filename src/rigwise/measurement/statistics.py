"""Tests and intervals for few, noisy, skewed samples: by ranks, without an assumed distribution.

Every function takes plain sequences of numbers and is deterministic. Runs that follow each other closely under one
load are alike; the tests take them as independent, and so are too sure of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: Up to so many values together the distribution of ranks is counted out; above, the normal law is close.
_COUNTED = 40
_DRAWS = 1999
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times larger the second sample is.

    Attributes:
        value: The estimate.
        low, high: 95 % interval; 0 and infinity where the samples are too few for one.
    """

    value: float
    low: float
    high: float


def rank_sum_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided probability of rank sums at least this uneven if both samples were drawn alike.

    Counted out over all divisions of the pooled ranks, ties included, up to 40 values; by the normal law with the
    correction for ties above.

    Source: Mann & Whitney, "On a Test of Whether One of Two Random Variables is Stochastically Larger than the
    Other", Annals of Mathematical Statistics 18(1), 1947; ties as in Hollander, Wolfe & Chicken, "Nonparametric
    Statistical Methods", 3rd ed., section 4.1.

    >>> rank_sum_p([1, 2, 3, 4], [5, 6, 7, 8])  # 2 of the 70 divisions
    0.02857142857142857
    """
    import numpy as np

    if not first or not second:
        return 1.0
    doubled = _doubled_ranks(np.asarray([*first, *second], dtype=float))
    m, n = len(first), len(second)
    total = m + n
    off = abs(int(doubled[:m].sum()) - m * (total + 1))
    if total <= _COUNTED:
        ways = _ways(tuple(int(rank) for rank in doubled), m)
        sums = np.arange(ways.size)
        extreme = ways[np.abs(sums - m * (total + 1)) >= off].sum()
        return float(min(1.0, extreme / ways.sum()))
    _, ties = np.unique(doubled, return_counts=True)
    variance = m * n / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc(max(0.0, off / 2 - 0.5) / math.sqrt(2 * variance))


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> Ratio | None:
    """How many times larger ``second`` is: the median of all quotients, with the interval that the rank test gives.

    None where a value is not above 0.

    Source: Hodges & Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics 34(2),
    1963, on logarithms; interval as in Hollander, Wolfe & Chicken, section 4.3.

    >>> ratio_interval([1, 1, 1, 1], [2, 2, 2, 2]).value
    2.0
    """
    import numpy as np

    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not (a.size and b.size) or a.min() <= 0 or b.min() <= 0:
        return None
    steps = np.sort((np.log(b)[:, None] - np.log(a)[None, :]).ravel())
    place = _critical(a.size, b.size)
    low, high = (0.0, math.inf) if place == 0 else np.exp([steps[place - 1], steps[steps.size - place]])
    return Ratio(value=float(np.exp(np.median(steps))), low=float(low), high=float(high))


def _critical(m: int, n: int) -> int:
    """How many quotients lie outside the 95 % interval on each side; 0 where there is none."""
    import numpy as np

    if m + n > _COUNTED:
        return max(0, math.floor(m * n / 2 - _NORMAL_975 * math.sqrt(m * n * (m + n + 1) / 12)))
    ways = _ways(tuple(range(2, 2 * (m + n) + 1, 2)), m)[::2]
    below = np.cumsum(ways[m * (m + 1) // 2 :]) / ways.sum()
    return int(np.searchsorted(below, 0.025, side="right"))


def adjusted(chances: Sequence[float]) -> tuple[float, ...]:
    """Chances corrected for asking many questions at once: of what is called different, so many are not.

    Source: Benjamini & Hochberg, "Controlling the False Discovery Rate", Journal of the Royal Statistical Society B
    57(1), 1995.

    >>> adjusted([0.01, 0.04, 0.03])
    (0.03, 0.04, 0.04)
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place], reverse=True)
    found, least = [1.0] * len(chances), 1.0
    for position, place in enumerate(order):
        least = min(least, chances[place] * (len(chances) / (len(chances) - position)))
        found[place] = least
    return tuple(found)


def change_point(values: Sequence[float], *, at_least: int = 4) -> tuple[int, float]:
    """Where a series changed its level, and the chance of as clear a change in shuffled order.

    The place is the number of values before the change, with ``at_least`` on each side. The chance is of the
    largest statistic over all places, so that choosing the place is paid for.

    Source: Pettitt, "A Non-Parametric Approach to the Change-Point Problem", Applied Statistics 28(2), 1979; the
    chance by 1,999 shuffles instead of its formula, which is rough for short series.
    """
    import numpy as np

    ranks = _doubled_ranks(np.asarray(values, dtype=float)) / 2
    total = ranks.size
    if total < 2 * at_least:
        return 0, 1.0
    before = np.arange(1, total + 1)
    inside = (before >= at_least) & (before <= total - at_least)
    found = np.abs(2 * np.cumsum(ranks) - before * (total + 1))
    place = int(before[inside][np.argmax(found[inside])])
    random = np.random.default_rng(0)
    shuffled = random.permuted(np.tile(ranks, (_DRAWS, 1)), axis=1)
    others = np.abs(2 * np.cumsum(shuffled, axis=1) - before * (total + 1))[:, inside].max(axis=1)
    as_clear = int((others >= found[inside].max() - 1e-9).sum())
    return place, (as_clear + 1) / (_DRAWS + 1)


def modified_z(values: Sequence[float]) -> tuple[float, ...]:
    """How far each value lies from the median, in robust standard deviations, on a logarithmic scale.

    Over 3.5 is said to be an outlier; ``outlier_z`` says what short series need. Where over half
    of the values are equal, the mean distance takes the place of the median distance. All are 0 where a value is not
    above 0.

    Source: Iglewicz & Hoaglin, "How to Detect and Handle Outliers", ASQC, 1993.

    >>> [round(z, 2) for z in modified_z([1.0, 1.0, 1.0, 1.0])]
    [0.0, 0.0, 0.0, 0.0]
    """
    import numpy as np

    x = np.asarray(values, dtype=float)
    if not x.size or x.min() <= 0:
        return (0.0,) * x.size
    off = np.log(x) - np.median(np.log(x))
    distance = float(np.median(np.abs(off))) * 1.4826
    if distance < 1e-12:
        distance = float(np.mean(np.abs(off))) * 1.253314
    return tuple(float(z) for z in off / distance) if distance > 1e-12 else (0.0,) * x.size


@lru_cache(maxsize=256)
def outlier_z(n: int) -> float:
    """What the largest modified z-score of ``n`` runs without outliers exceeds once in a hundred series; at least 3.5.

    The 3.5 of Iglewicz & Hoaglin calls one in five series of eight runs abnormal, since the median distance of few
    runs is itself uncertain. Found by 4,000 series of normal logarithms, with a fixed seed.

    >>> outlier_z(8) > outlier_z(100) > 3.5
    True
    """
    import numpy as np

    x = np.random.default_rng(0).normal(size=(4000, n))
    off = np.abs(x - np.median(x, axis=1, keepdims=True))
    largest = off.max(axis=1) / (1.4826 * np.median(off, axis=1))
    return max(3.5, float(np.quantile(largest, 0.99)))


def _doubled_ranks(values: Any) -> Any:
    """Ranks from 1, twice, so that the mean ranks of ties are whole numbers."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[place]


@lru_cache(maxsize=64)
def _ways(doubled: tuple[int, ...], m: int) -> Any:
    """In how many ways ``m`` of the ranks add up to each sum."""
    import numpy as np

    ways = np.zeros((m + 1, sum(doubled) + 1))
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    return ways[m]
