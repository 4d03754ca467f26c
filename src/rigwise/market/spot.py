"""What interruptions add to a job on spot capacity.

A job that saves its state every ``interval_s`` and is interrupted at exponentially
distributed moments takes, for ``work_s`` of computing,

    (work_s / interval_s) (between_s + restart_s) (exp((interval_s + save_s) / between_s) - 1)

on average. Waiting until capacity is back is left out: it costs no money, but it costs time.

Source: J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
dumps", Future Generation Computer Systems 22 (2006), equation 13; interval by J. W. Young,
"A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rigwise.units import HOUR_S, MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """How often spot capacity goes away, and what that costs.

    The defaults are assumed, not measured for any offer: published traces of single V100
    instances have mean runs of 0.7 to 9.8 hours.
    Source: Wu et al., "Can't Be Late", NSDI 2024, its published traces.

    Attributes:
        between_s: Mean time between interruptions of one instance.
        restart_s: From an interruption to the job running again, capacity being there.
        save_s: Time to write one checkpoint.
    """

    between_s: float = 6 * HOUR_S
    restart_s: float = 6 * MINUTE_S
    save_s: float = 72.0


ASSUMED = Interruption()


def checkpoint_interval_s(interruption: Interruption, instances: int = 1) -> float:
    """How much work to do between two checkpoints; any instance's interruption stops the job.

    Source: Young 1974.

    >>> round(checkpoint_interval_s(ASSUMED) / 60)
    29
    """
    return math.sqrt(2 * interruption.save_s * interruption.between_s / instances)


def time_factor(interruption: Interruption, instances: int = 1) -> float:
    """Expected time with interruptions over time without any.

    Source: Daly 2006, see the module.

    >>> round(time_factor(ASSUMED), 3), round(time_factor(ASSUMED, 8), 2)
    (1.104, 1.44)
    """
    between_s = interruption.between_s / instances
    interval_s = checkpoint_interval_s(interruption, instances)
    lost = math.expm1((interval_s + interruption.save_s) / between_s)
    return (between_s + interruption.restart_s) / interval_s * lost
