"""The tests and intervals by ranks: against another implementation, against known cases, and their error rates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.measurement.statistics import adjusted, change_point, modified_z, outlier_z, rank_sum_p, ratio_interval

values = st.lists(st.integers(1, 30).map(float), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_the_chance_is_that_of_all_divisions(first, second) -> None:
    """Counted here the slow way: every choice of ranks for the first sample."""
    pooled = np.asarray([*first, *second])
    ranks = np.asarray([(pooled < x).sum() + ((pooled == x).sum() + 1) / 2 for x in pooled])
    middle = len(first) * (len(pooled) + 1) / 2
    off = abs(ranks[: len(first)].sum() - middle)
    sums = [abs(sum(chosen) - middle) for chosen in itertools.combinations(ranks, len(first))]
    expected = sum(one >= off - 1e-9 for one in sums) / len(sums)
    assert rank_sum_p(first, second) == pytest.approx(expected)
    assert rank_sum_p(second, first) == pytest.approx(expected)


@pytest.mark.parametrize(("m", "n"), [(4, 4), (5, 9), (20, 20), (30, 40), (100, 7)])
def test_the_chance_is_that_of_scipy(m, n) -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(m)
    first, second = random.normal(size=m), random.normal(size=n) + 0.4
    method = "exact" if m + n <= 40 else "asymptotic"
    expected = stats.mannwhitneyu(first, second, method=method).pvalue
    assert rank_sum_p(list(first), list(second)) == pytest.approx(expected)


def test_ties_in_large_samples_follow_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    first, second = random.integers(1, 5, 40), random.integers(1, 6, 50)
    expected = stats.mannwhitneyu(first, second, method="asymptotic").pvalue
    assert rank_sum_p(list(first), list(second)) == pytest.approx(expected)
    assert rank_sum_p([2.0] * 30, [2.0] * 30) == 1.0


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        first = np.exp(0.1 * random.standard_t(3, size=6))
        found = ratio_interval(list(first), list(1.2 * np.exp(0.1 * random.standard_t(3, size=7))))
        covered += found.low <= 1.2 <= found.high
    assert 0.935 <= covered / 600 <= 0.995


def test_too_few_runs_have_no_interval_and_no_ratio_of_negative_values() -> None:
    found = ratio_interval([1.0, 1.0], [2.0, 2.0])
    assert (found.value, found.low, found.high) == (pytest.approx(2.0), 0.0, math.inf)
    assert ratio_interval([0.0], [1.0]) is None
    assert ratio_interval([], [1.0]) is None


@settings(max_examples=50, deadline=None)
@given(values.filter(lambda v: len(v) > 3), st.floats(0.01, 100))
def test_the_ratio_scales_with_the_values(first, factor) -> None:
    found, scaled = ratio_interval(first, first), ratio_interval(first, [factor * value for value in first])
    assert scaled.value == pytest.approx(found.value * factor)
    assert found.value == pytest.approx(1.0)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_corrected_chances_are_never_smaller_and_keep_their_order(chances) -> None:
    corrected = adjusted(chances)
    assert all(a >= b and a <= 1 for a, b in zip(corrected, chances, strict=True))
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))


def test_a_step_is_found_where_it_is() -> None:
    assert change_point([1, 1.01, 0.99, 1.02, 1.2, 1.21, 1.19, 1.22])[0] == 4
    assert change_point([1, 1.01, 0.99, 1.02, 1.2, 1.21, 1.19, 1.22])[1] < 0.05
    assert change_point([1, 1.01, 0.99, 1.02, 1.2, 1.21, 1.19]) == (0, 1.0)
    assert change_point([1.0] * 20)[1] == 1.0


def test_steady_series_are_rarely_called_changed() -> None:
    random = np.random.default_rng(2)
    called = sum(change_point(list(random.lognormal(0, 0.05, 10)))[1] <= 0.05 for _ in range(300))
    assert called / 300 <= 0.09


@pytest.mark.parametrize("n", [8, 12, 40])
def test_steady_series_rarely_show_an_outlier(n) -> None:
    random = np.random.default_rng(3)
    called = sum(max(map(abs, modified_z(list(random.lognormal(0, 0.05, n))))) > outlier_z(n) for _ in range(500))
    assert called / 500 <= 0.03


def test_an_outlier_is_far_off() -> None:
    z = modified_z([1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 2.0])
    assert [abs(one) > outlier_z(8) for one in z] == [False] * 7 + [True]
    assert modified_z([0.0, 1.0]) == (0.0, 0.0)
    assert modified_z([]) == ()
    assert abs(modified_z([1.0] * 9 + [2.0])[-1]) > 3.5  # over half are equal
