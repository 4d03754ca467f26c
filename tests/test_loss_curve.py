"""The amount of work that a measured loss curve asks for: right where the curve is known, else refused."""

import math

import numpy as np
import pytest

from rigwise.errors import InvalidInputError
from rigwise.workload.loss_curve import LossCurve, amount_needed, read_curve


def a_curve(floor, drop, power, *, noise=0.0, seed=0, points=40, longest=1e7):
    random = np.random.default_rng(seed)
    amounts = np.geomspace(longest / 100, longest, points)
    losses = (floor + drop * (amounts / 1e4) ** -power) * np.exp(random.normal(0, noise, points))
    return LossCurve(unit="tokens", amounts=tuple(amounts), losses=tuple(losses))


@pytest.mark.parametrize("beyond", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize(("floor", "power"), [(1.0, 0.5), (2.0, 0.3), (0.1, 0.2)])
def test_an_exact_curve_is_followed(floor, power, beyond) -> None:
    amount = beyond * 1e7
    needed = amount_needed(a_curve(floor, 10.0, power), floor + 10.0 * (amount / 1e4) ** -power, "c.csv")
    assert needed.amount == pytest.approx(amount, rel=0.01)
    assert needed.low == pytest.approx(amount, rel=0.05)
    assert needed.high == pytest.approx(amount, rel=0.05)


def test_the_interval_holds_as_often_as_it_says() -> None:
    """80 % of 60 noisy curves, within three standard deviations of that."""
    inside, random = 0, np.random.default_rng(1)
    for seed in range(60):
        floor, drop, power = random.uniform(0.5, 2), random.uniform(2, 20), random.uniform(0.2, 0.6)
        loss = floor + drop * (3e7 / 1e4) ** -power
        needed = amount_needed(a_curve(floor, drop, power, noise=0.01, seed=seed), loss, "c.csv")
        inside += needed.low <= 3e7 <= needed.high
        assert needed.low <= needed.amount <= needed.high
    assert 48 - 3 * math.sqrt(60 * 0.8 * 0.2) <= inside <= 48 + 3 * math.sqrt(60 * 0.8 * 0.2)


def test_points_far_off_count_little() -> None:
    clean = a_curve(1.0, 10.0, 0.4, noise=0.003)
    losses = list(clean.losses)
    for index in (5, 17, 30):
        losses[index] *= 3
    loss = 1.0 + 10.0 * (2e7 / 1e4) ** -0.4
    spoiled = LossCurve(unit="tokens", amounts=clean.amounts, losses=tuple(losses))
    needed = [amount_needed(curve, loss, "c.csv").amount for curve in (clean, spoiled)]
    assert needed[1] == pytest.approx(needed[0], rel=0.1)


def test_a_long_log_is_thinned() -> None:
    needed = amount_needed(a_curve(1.0, 10.0, 0.4, noise=0.05, points=20_000), 1.5, "c.csv")
    assert needed.low < (0.5 / 10.0) ** (-1 / 0.4) * 1e4 < needed.high


def test_an_answer_beyond_what_was_measured_says_how_far() -> None:
    needed = amount_needed(a_curve(1.0, 10.0, 0.5), 1.0 + 10.0 * (4e7 / 1e4) ** -0.5, "c.csv")
    assert "4 times what was measured" in needed.words


@pytest.mark.parametrize(
    ("curve", "loss", "words"),
    [
        (a_curve(1.0, 10.0, 0.5, points=5), 1.1, "5 points"),
        (a_curve(1.0, 10.0, 0.5), 0.5, "not reached within 10 times"),
        (a_curve(1.0, 10.0, 0.5), 1.0001, "not reached within 10 times"),
        (a_curve(1.0, 10.0, 0.5), -1.0, "loss -1 cannot be reached"),
        (a_curve(1.0, 10.0, 0.5), math.nan, "loss nan cannot be reached"),
        (a_curve(1.0, 10.0, -0.2), 1.1, "does not fall"),
    ],
)
def test_what_a_curve_does_not_say(curve, loss, words) -> None:
    with pytest.raises(InvalidInputError, match=words):
        amount_needed(curve, loss, "c.csv")


def test_a_file_with_other_columns() -> None:
    curve = read_curve("step,Tokens, loss ,lr\n1,200,3.0,0.1\n\n0,100,4.0,0.1\n".replace("step,", "at,"), "c.csv")
    assert curve == LossCurve(unit="tokens", amounts=(100.0, 200.0), losses=(4.0, 3.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("a,b\n1,2\n", "has the columns a, b"),
        ("tokens,samples,loss\n1,2,3\n", "has the columns"),
        ("tokens,loss\n1\n", "line 2: loss is ''"),
        ("tokens,loss\n1,much\n", "line 2: loss is 'much'"),
        ("tokens,loss\n1,2\n2,nan\n", "line 3: loss is nan"),
        ("tokens,loss\n0,2\n", "line 2: tokens is 0"),
        ("tokens,loss\n1,inf\n", "line 2: loss is inf"),
    ],
)
def test_a_file_that_is_no_curve(text, words) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_curve(text, "c.csv")
