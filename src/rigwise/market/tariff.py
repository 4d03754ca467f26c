"""What a job pays and waits for at a price: the one place that turns time into money.

A provider bills from the moment a machine is asked for, in whole increments and never less
than a minimum; capacity that is taken away makes the job longer; a machine that is bought
costs its loss of value whether it works or not. All of that is a few numbers:

    paid time  = startup + undisturbed time x interruptions, rounded up to what is billed
    time       = startup + undisturbed time x interruptions x waiting
    cost       = fixed + hourly price x paid time + idle price x (time - time that is held)

Where the length of a session or the use of a week is limited, the held time is spread over sessions
and weeks (``market.sessions``). Fees and minima of a subscription come again with each period.

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
from rigwise.market.sessions import SLACK, Stretch, sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One price, or a row of prices: every field is a number or an array of one shape.

    Attributes:
        usd_per_h: While the machine is held: compute, disks, electricity.
        fixed_usd: Once in each period, whatever the job takes: egress, a fee, the loss of value of what is bought.
        capital_usd: Money that must be at hand beside the cost: what a purchase will be sold for again,
            the unused rest of a term. It counts against a budget, not as a cost.
        noncash_usd_per_h: What of the hourly price is no outlay: the loss of value of what was paid for at once.
        idle_usd_per_h: While the machine is not held and the job not done: the disk of a stopped machine.
        startup_s: From asking for the machine to the first step: boot, image, data. Paid and waited for.
        time_factor: Paid time over undisturbed time: work done again after interruptions.
        wait_factor: Time over paid time: waiting for capacity that is not there, 1 for none.
        increment_s: Step in which time is billed, 0 for none.
        minimum_s: Least time that is billed in each period.
        period_s: After which fees and minima come again, infinite for never.
        session_s, quota_s: Longest session, most use in a week; infinite for no limit. The job goes on from a
            checkpoint.
        restart_s: What a further session begins with, in which nothing is computed.

    >>> hourly = Tariff(usd_per_h=2.0, increment_s=3600.0, startup_s=600.0)
    >>> float(hourly.cost_usd(3600.0)), float(hourly.wall_s(3600.0))
    (4.0, 4200.0)
    """

    usd_per_h: Any
    fixed_usd: Any = 0.0
    capital_usd: Any = 0.0
    noncash_usd_per_h: Any = 0.0
    idle_usd_per_h: Any = 0.0
    startup_s: Any = 0.0
    time_factor: Any = 1.0
    wait_factor: Any = 1.0
    increment_s: Any = 0.0
    minimum_s: Any = 0.0
    period_s: Any = np.inf
    session_s: Any = np.inf
    quota_s: Any = np.inf
    restart_s: Any = 0.0

    def wall_s(self, undisturbed_s: Any) -> Any:
        """Time from asking for the machine to the end of the job; infinite where no session gets on with it."""
        return self._wall_and_held_s(undisturbed_s)[0]

    def paid_s(self, undisturbed_s: Any) -> Any:
        """Time that is billed."""
        return self._billed_s(*self._wall_and_held_s(undisturbed_s))

    def cost_usd(self, undisturbed_s: Any) -> Any:
        """What the job costs; infinite where it never ends."""
        return self._cost_usd(*self._wall_and_held_s(undisturbed_s))

    def wall_and_cost(self, undisturbed_s: Any) -> tuple[Any, Any]:
        """``wall_s`` and ``cost_usd``."""
        wall_s, held_s = self._wall_and_held_s(undisturbed_s)
        return wall_s, self._cost_usd(wall_s, held_s)

    def wall_and_outlay(self, undisturbed_s: Any) -> tuple[Any, Any]:
        """``wall_s`` and ``outlay_usd``."""
        wall_s, held_s = self._wall_and_held_s(undisturbed_s)
        return wall_s, self._outlay_usd(wall_s, held_s)

    def _cost_usd(self, wall_s: Any, held_s: Any) -> Any:
        with np.errstate(invalid="ignore"):
            cost = self.fixed_usd * self._periods(wall_s) + rental_usd(self.usd_per_h, self._billed_s(wall_s, held_s))
            if np.any(self.idle_usd_per_h):
                cost = cost + rental_usd(self.idle_usd_per_h, wall_s - held_s)
        return np.where(wall_s == np.inf, np.inf, cost) if self._divided else cost

    def terms_usd(self, undisturbed_s: float, fixed: str = "fixed") -> dict[str, float]:
        """What a cost is made of, at one price; the terms add up to it.

        Args:
            undisturbed_s: Time of the work alone.
            fixed: What the fixed cost is called.

        >>> Tariff(usd_per_h=1.0, startup_s=600.0, minimum_s=7200.0).terms_usd(3000.0)["unused"]
        1.0
        """
        wall_s, held_s = self._wall_and_held_s(undisturbed_s)
        paid_s, periods = undisturbed_s * self.time_factor, self._periods(wall_s)
        held = {
            "compute": undisturbed_s,
            "interruptions": paid_s - undisturbed_s,
            "startup": self.startup_s,
            "restarts": held_s - self.startup_s - paid_s,
            "unused": np.maximum(self.minimum_s * periods - held_s, 0.0),
        }
        terms = {name: float(rental_usd(self.usd_per_h, time_s)) for name, time_s in held.items()}
        terms["idle"] = float(rental_usd(self.idle_usd_per_h, wall_s - held_s))
        terms[fixed] = float(self.fixed_usd * periods)
        terms["rounding"] = float(self.cost_usd(undisturbed_s)) - sum(terms.values())
        return terms

    def sessions(self, undisturbed_s: Any) -> Any:
        """How many sessions the job is spread over."""
        content_s = self.startup_s + undisturbed_s * self.time_factor
        return np.where(self._in_one(content_s), 1.0, self._stretch(content_s).sessions)

    @property
    def _divided(self) -> bool:
        """Whether any of the prices has a limit that divides a job."""
        return bool(np.any(np.isfinite(self.session_s) | np.isfinite(self.quota_s)))

    def _in_one(self, content_s: Any) -> Any:
        return content_s <= np.minimum(self.session_s, self.quota_s)

    def _stretch(self, content_s: Any) -> Stretch:
        """The first session begins with the startup, which is in the content, each further one with a restart."""
        rest_s = np.maximum(content_s - self.restart_s, 0.0)
        return sessions(rest_s, self.session_s, self.quota_s, self.restart_s)

    def _wall_and_held_s(self, undisturbed_s: Any) -> tuple[Any, Any]:
        wall_s = self.startup_s + undisturbed_s * (self.time_factor * self.wait_factor)
        held_s = self.startup_s + undisturbed_s * self.time_factor
        if not self._divided:
            return wall_s, held_s
        one, spread = self._in_one(held_s), self._stretch(held_s)
        with np.errstate(invalid="ignore"):
            later_s = np.where(one, 0.0, spread.wall_s - held_s)
        return wall_s + later_s, np.where(one, held_s, spread.held_s)

    def _periods(self, wall_s: Any) -> Any:
        """Fees that fall due: one at the start, and one whenever a period is over."""
        if not np.any(np.isfinite(self.period_s)):
            return 1.0
        return np.maximum(np.ceil(wall_s / self.period_s - SLACK), 1.0)

    def _billed_s(self, wall_s: Any, held_s: Any) -> Any:
        least_s = np.maximum(held_s, self.minimum_s * self._periods(wall_s))
        step_s = np.where(np.asarray(self.increment_s) > 0, self.increment_s, 1.0)
        # A job that ends on the step, but for rounding, is not billed the next one.
        return np.where(np.asarray(self.increment_s) > 0, np.ceil(least_s / step_s * (1 - SLACK)) * step_s, least_s)

    def outlay_usd(self, undisturbed_s: Any) -> Any:
        """What must be at hand for it."""
        return self._outlay_usd(*self._wall_and_held_s(undisturbed_s))

    def _outlay_usd(self, wall_s: Any, held_s: Any) -> Any:
        outlay = self.capital_usd + self._cost_usd(wall_s, held_s)
        if not np.any(self.noncash_usd_per_h):
            return outlay
        paid_s = self._billed_s(wall_s, held_s)
        return outlay - rental_usd(self.noncash_usd_per_h, np.where(paid_s < np.inf, paid_s, 0.0))

    def pick(self, index: Any) -> Tariff:
        """Some prices of a row, by index or mask."""
        return Tariff(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def as_row(tariffs: Sequence[Tariff]) -> Tariff:
    """Prices side by side ``[prices]``."""
    return Tariff(**{f.name: np.array([float(getattr(t, f.name)) for t in tariffs]) for f in fields(Tariff)})


def side_by_side(rows: Sequence[Tariff]) -> Tariff:
    """Rows of prices, one after the other."""
    return Tariff(**{f.name: np.concatenate([[], *(getattr(t, f.name) for t in rows)]) for f in fields(Tariff)})
