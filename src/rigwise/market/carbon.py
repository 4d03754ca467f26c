"""Carbon dioxide of the electricity that a job uses.

    grams = energy of the devices x power usage effectiveness x grams a kilowatt-hour of the grid

Location-based: the average of the local grid, whatever certificates the provider buys. What
making the devices cost (embodied carbon) is left out, and so is the rest of the computer.

Source: GHG Protocol, Scope 2 Guidance, location-based method; figures in ``facts/data/electricity.toml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from rigwise.facts.electricity import Grid, grid, grid_code, pue_of
from rigwise.facts.offer import Offer

_J_PER_KWH = 3.6e6
#: Providers of machines that stand at one's own place.
AT_HOME = ("owned", "purchase")


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonRate:
    """What a joule of a device stands for at one place.

    Attributes:
        grid: The grid it comes from.
        pue: Power of the building over that of the computers; 1 at home.
        pue_source: Who says so.
    """

    grid: Grid
    pue: float
    pue_source: str

    @property
    def g_per_j(self) -> float:
        """Grams of carbon dioxide for a joule of a device."""
        return float(carbon_g(1.0, self.grid.g_per_kwh, self.pue))


def carbon_g(energy_j: Any, g_per_kwh: Any, pue: Any = 1.0) -> Any:
    """Grams of carbon dioxide that an energy stands for; numbers or arrays.

    Source: see the module.

    >>> carbon_g(3.6e6, 400.0, 1.5)
    600.0
    """
    return energy_j / _J_PER_KWH * pue * g_per_kwh


@cache
def rate_of(provider: str, region: str) -> CarbonRate | None:
    """The rate of a provider's region; None where the region, or its grid, is not known.

    >>> rate_of("gcp", "us-west1").grid.g_per_kwh, rate_of("vast", "")
    (97.85, None)
    """
    found = grid(grid_code(provider, region))
    if found is None:
        return None
    pue = pue_of(provider)
    return CarbonRate(grid=found, pue=pue.ratio, pue_source=pue.source)


def rate_at_home(code: str) -> CarbonRate | None:
    """The rate of a machine of one's own in a country or grid, without a building around it; None if not known.

    >>> rate_at_home("FR").g_per_j * 3.6e6
    15.83
    """
    found = grid(code)
    return None if found is None else CarbonRate(grid=found, pue=1.0, pue_source="no building")


def grams_per_kwh(offer: Offer, home: str = "") -> float:
    """Grams for a kilowatt-hour of an offer's devices, what the building takes included; nan where not known.

    Args:
        offer: What is rented, or a machine of one's own or to be bought, whose region is a country or a grid.
        home: Country or grid of a machine of one's own that has no region; empty for not said.

    >>> from rigwise.facts.catalogue import offers
    >>> paris = next(row for row in offers() if row.region == "paris-france-1")
    >>> round(grams_per_kwh(paris), 1)
    24.7
    """
    at_home = offer.provider in AT_HOME
    rate = rate_at_home(offer.region or home) if at_home else rate_of(offer.provider, offer.region)
    return math.nan if rate is None else rate.pue * rate.grid.g_per_kwh
