"""Interruptions: the expected time against a simulation of them, and the interval against its neighbours."""

import math
import random

import pytest

from rigwise.market.spot import ASSUMED, Interruption, checkpoint_interval_s, time_factor
from rigwise.units import DAY_S, HOUR_S


def simulated_s(interruption, interval_s, work_s, dice):
    """One run: intervals of work and a checkpoint, each repeated from its start when interrupted.

    A restart can be interrupted as well, as in Daly's derivation.
    """
    time_s = 0.0
    for _ in range(round(work_s / interval_s)):
        segment_s = interval_s + interruption.save_s
        while (until_s := dice.expovariate(1 / interruption.between_s)) < segment_s:
            time_s += until_s
            segment_s = interval_s + interruption.save_s + interruption.restart_s
        time_s += segment_s
    return time_s


@pytest.mark.parametrize("between_h", [2.0, 6.0, 24.0])
def test_expected_time_is_that_of_a_simulation(between_h) -> None:
    interruption = Interruption(between_s=between_h * HOUR_S)
    interval_s = checkpoint_interval_s(interruption)
    dice = random.Random(1)
    work_s = 50 * DAY_S
    runs = [simulated_s(interruption, interval_s, work_s, dice) for _ in range(40)]
    done_s = round(work_s / interval_s) * interval_s
    assert sum(runs) / len(runs) / done_s == pytest.approx(time_factor(interruption), rel=0.02)


def test_published_examples() -> None:
    """24 hours of work with two minutes' checkpoints and six minutes' restarts."""
    for between_h, expected_h in ((1, 32.5), (6, 26.5), (24, 25.1)):
        factor = time_factor(Interruption(between_s=between_h * HOUR_S, save_s=0.02 * HOUR_S, restart_s=0.1 * HOUR_S))
        assert 24 * factor == pytest.approx(expected_h, rel=0.01)


def test_the_interval_is_near_the_best_one() -> None:
    between_s, lost_s = ASSUMED.between_s, ASSUMED.between_s + ASSUMED.restart_s

    def factor(interval_s):
        return lost_s / interval_s * math.expm1((interval_s + ASSUMED.save_s) / between_s)

    best = min(factor(60 * minutes) for minutes in range(1, 300))
    assert time_factor(ASSUMED) <= 1.001 * best


def test_more_instances_are_interrupted_more_often() -> None:
    factors = [time_factor(ASSUMED, n) for n in (1, 2, 4, 8)]
    assert factors == sorted(factors)
    assert all(f > 1 for f in factors)
