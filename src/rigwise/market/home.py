"""Under which conditions somebody owns a machine: what is said, and what is filled in, in words."""

from __future__ import annotations

from dataclasses import replace

from rigwise.facts.electricity import priced_country
from rigwise.market.currency import Money, Rates
from rigwise.market.ownership import Conditions, Depreciation
from rigwise.market.shelf import ASSUMED_PSU_FRAC, ASSUMED_REST_W

#: Where the prices of the parts table were asked: electricity goes with them if nothing else is said.
HOME = "US"


def conditions_at(
    rates: Rates, *, country: str = "", usd_per_kwh: float | None = None, tax_frac: float = 0.0
) -> Conditions:
    """The conditions of a household: its own price of electricity, or what its country's households pay.

    Without either the price is that of the country whose shops the parts table was read in.

    Args:
        rates: To turn a price of electricity into dollars.
        country: ISO 3166 code or name; empty for not said.
        usd_per_kwh: The user's own price, None for not said.
        tax_frac: On a purchase.

    Raises:
        UnknownNameError: A country of which nothing is known.
        MissingFactError: A country whose price of electricity is not known.
        InvalidInputError: No rate for the currency of that price.

    >>> conditions_at(Rates(), usd_per_kwh=0.3).usd_per_kwh, conditions_at(Rates()).usd_per_kwh
    (0.3, 0.1872)
    """
    if usd_per_kwh is not None:
        return Conditions(usd_per_kwh=usd_per_kwh, tax_frac=tax_frac)
    home = priced_country(country or HOME)
    price = Money(number=home.price_per_kwh or 0.0, currency=home.currency).usd(rates)
    words = f"electricity at ${price:.3f} a kWh, as households paid in {home.name} on {home.price_as_of}"
    return Conditions(usd_per_kwh=price, tax_frac=tax_frac, assumed=(words,))


def with_resale(conditions: Conditions, *, resale_frac: float, months: float) -> Conditions:
    """The same conditions, a machine being worth a part of its price after so many months.

    It loses the same part of its value in each year, from its first day on.

    >>> box = with_resale(Conditions(usd_per_kwh=0.1), resale_frac=0.25, months=24)
    >>> float(box.depreciation.value_frac(24.0))
    0.25
    """
    lost_frac = 1.0 - resale_frac ** (12.0 / months)
    return replace(conditions, depreciation=Depreciation(first_drop_frac=0.0, yearly_loss_frac=lost_frac))


def purchase_assumptions() -> tuple[str, ...]:
    """What is assumed of every machine that can be bought, in words."""
    return (
        "devices draw their board power while they work",
        f"memory, disk, board and fans draw {ASSUMED_REST_W:.0f} W beside the processor",
        f"a supply that says nothing turns {100 * ASSUMED_PSU_FRAC:.0f} % of what it draws into what it gives",
        "a machine is switched off when it does not work",
    )
