"""Money for time: the one place that multiplies dollars per hour by seconds.

Which time is charged, and what beside it, is ``market.tariff``'s.

Source: the definition of an hourly price.
"""

from __future__ import annotations

from typing import Any

from rigwise.units import HOUR_S


def rental_usd(usd_per_h: Any, time_s: Any) -> Any:
    """What ``time_s`` costs at an hourly price; numbers or NumPy arrays.

    >>> rental_usd(2.5, 7200)
    5.0
    """
    return usd_per_h * (time_s / HOUR_S)
