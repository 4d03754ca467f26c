"""What a job pays and waits for at a price: the one place that turns time into money.

A provider bills from the moment a machine is asked for, in whole increments and never less
than a minimum; capacity that is taken away makes the job longer; a machine that is bought
costs its loss of value whether it works or not. All of that is a few numbers:

    paid time  = startup + undisturbed time x interruptions, rounded up to what is billed
    time       = startup + undisturbed time x interruptions x waiting
    cost       = fixed + hourly price x paid time

Each grows with the undisturbed time, so a bound of the time bounds the cost as well.

Source: the definition of an hourly price; SkyPilot, gpuhunt and the providers' billing pages for
which of these numbers exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rigwise.market.money import rental_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One price, or a row of prices: every field is a number or an array of one shape.

    Attributes:
        usd_per_h: While the machine is held: compute, disks, electricity.
        fixed_usd: Once, whatever the job takes: egress, the loss of value of what is bought.
        capital_usd: Money that must be at hand beside the cost: what a purchase will be sold for again,
            the unused rest of a term. It counts against a budget, not as a cost.
        startup_s: From asking for the machine to the first step: boot, image, data. Paid and waited for.
        time_factor: Paid time over undisturbed time: work done again after interruptions.
        wait_factor: Time over paid time: waiting for capacity that is not there, 1 for none.
        increment_s: Step in which time is billed, 0 for none.
        minimum_s: Least time that is billed.

    >>> hourly = Tariff(usd_per_h=2.0, increment_s=3600.0, startup_s=600.0)
    >>> float(hourly.cost_usd(3600.0)), float(hourly.wall_s(3600.0))
    (4.0, 4200.0)
    """

    usd_per_h: Any
    fixed_usd: Any = 0.0
    capital_usd: Any = 0.0
    startup_s: Any = 0.0
    time_factor: Any = 1.0
    wait_factor: Any = 1.0
    increment_s: Any = 0.0
    minimum_s: Any = 0.0

    def wall_s(self, undisturbed_s: Any) -> Any:
        """Time from asking for the machine to the end of the job."""
        return self.startup_s + undisturbed_s * (self.time_factor * self.wait_factor)

    def paid_s(self, undisturbed_s: Any) -> Any:
        """Time that is billed."""
        held_s = np.maximum(self.startup_s + undisturbed_s * self.time_factor, self.minimum_s)
        step_s = np.where(np.asarray(self.increment_s) > 0, self.increment_s, 1.0)
        # A job that ends on the step, but for rounding, is not billed the next one.
        return np.where(np.asarray(self.increment_s) > 0, np.ceil(held_s / step_s - 1e-9) * step_s, held_s)

    def cost_usd(self, undisturbed_s: Any) -> Any:
        """What the job costs."""
        return self.fixed_usd + rental_usd(self.usd_per_h, self.paid_s(undisturbed_s))

    def outlay_usd(self, undisturbed_s: Any) -> Any:
        """What must be at hand for it."""
        return self.capital_usd + self.cost_usd(undisturbed_s)

    def pick(self, index: Any) -> Tariff:
        """Some prices of a row, by index or mask."""
        return Tariff(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def as_row(tariffs: Sequence[Tariff]) -> Tariff:
    """Prices side by side ``[prices]``."""
    return Tariff(**{f.name: np.array([float(getattr(t, f.name)) for t in tariffs]) for f in fields(Tariff)})


def side_by_side(rows: Sequence[Tariff]) -> Tariff:
    """Rows of prices, one after the other."""
    return Tariff(**{f.name: np.concatenate([[], *(getattr(t, f.name) for t in rows)]) for f in fields(Tariff)})
