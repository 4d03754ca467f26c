"""Numbers of several captures, explained by the sizes of their configurations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rigwise.graph.families.template import evaluate

SAMPLES = [
    {"hidden": 96, "inner": 127, "heads": 6, "drop": 0.0},
    {"hidden": 420, "inner": 211, "heads": 10, "drop": 0.1},
    {"hidden": 304, "inner": 331, "heads": 8, "drop": 0.25},
    {"hidden": 264, "inner": 173, "heads": 12, "drop": 0.05},
    {"hidden": 340, "inner": 269, "heads": 17, "drop": 0.15},
]


@pytest.fixture
def solve(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "tools"), *sys.path])
    from families import solve

    return solve


@pytest.mark.parametrize(
    "law",
    [
        lambda s: s["inner"],
        lambda s: 3 * s["hidden"] * s["inner"],
        lambda s: s["hidden"] * s["heads"] - 1,
        lambda s: s["hidden"] + 2 * s["inner"] * s["heads"] + 7,
        lambda s: s["drop"],
    ],
)
def test_a_law_is_found_and_holds_at_other_sizes(solve, law):
    formula = solve.Solver(SAMPLES).formula(tuple(law(sample) for sample in SAMPLES))
    fresh = {"hidden": 4096, "inner": 11008, "heads": 32, "drop": 0.3}
    assert evaluate(formula, fresh) == law(fresh)


def test_numbers_that_follow_no_law_are_refused(solve):
    with pytest.raises(solve.UnexplainedError, match="no sum of products"):
        solve.Solver(SAMPLES).formula((3, 1, 4, 1, 5))


def test_sizes_that_are_equal_in_every_sample_are_refused(solve):
    samples = [{**sample, "width": sample["hidden"]} for sample in SAMPLES]
    with pytest.raises(solve.UnexplainedError, match="hidden and width are equal"):
        solve.Solver(samples)
