"""What a job may buy: new machines and more in its own, each as a quote; and one of them against a rent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date

from rigwise.errors import RigwiseError
from rigwise.facts.electricity import country
from rigwise.facts.part import Part
from rigwise.market.break_even import BuyOrRent, Rent, buy_or_rent
from rigwise.market.currency import Rates, package_rates
from rigwise.market.home import conditions_at, purchase_assumptions
from rigwise.market.ownership import Conditions, assumptions
from rigwise.market.purchase import purchase_quotes
from rigwise.market.shelf import ASSUMED_HOST_W, ASSUMED_PSU_FRAC, PurchaseQuote, Purchases, Wish
from rigwise.market.upgrade import upgrade_quotes
from rigwise.workload.job import Horizon, Job

#: Assumed where a comparison is asked for and no horizon is given: two years at twenty hours a week.
ASSUMED_HORIZON = Horizon(months=24.0, hours_per_week=20.0)


def conditions_of(job: Job, rates: Rates | None = None) -> Conditions:
    """The conditions under which a job's machines are owned.

    Electricity is what the job's own machines pay, or what households pay in its country if it names one, or the
    price of ``market.home``.

    Raises:
        RigwiseError: As ``market.home.conditions_at``.
    """
    own = next((machine.usd_per_kwh for machine in job.owned if machine.usd_per_kwh is not None), None)
    home = _home(job)
    if own is None and home:
        try:
            home = home if country(home).price_per_kwh is not None else ""
        except RigwiseError:
            home = ""
    return conditions_at(rates or package_rates(), country=home, usd_per_kwh=own, tax_frac=job.tax_frac)


def owning_assumptions(job: Job) -> tuple[str, ...]:
    """What is assumed of the machines that a job owns or may buy, in words.

    Their electricity is paid for board power, which is more than the energy that a plan predicts for its devices.

    Raises:
        RigwiseError: As ``conditions_of``.
    """
    if job.buy:
        return (*assumptions(conditions_of(job)), *purchase_assumptions())
    plain = any(machine.usd_per_kwh and machine.base_w is None for machine in job.owned)
    beside = f" and {ASSUMED_HOST_W:.0f} W beside them in each node" if plain else " and what stands beside them"
    return (
        "electricity of your own machines is paid for the board power of their devices"
        f"{beside}, of which a supply loses {100 * (1 - ASSUMED_PSU_FRAC):.0f} %",
    )


def _home(job: Job) -> str:
    """The only country of a job, empty if it names none or several."""
    return job.countries[0] if len(job.countries) == 1 else ""


def purchases_for(job: Job, parts: Iterable[Part], device_id: Callable[[str], str], today: date) -> Purchases:
    """Everything that a job may buy, and how many combinations it may not, by reason.

    Args:
        job: The job: its devices, owned machines, horizon, tax and oldest price.
        parts: The parts table.
        device_id: Catalogue id of a device that has a common name.
        today: Prices are as old as this day makes them.

    Raises:
        InvalidInputError: A horizon or a tax out of range.
        RigwiseError: A device of the job that no table has.
    """
    rows = tuple(parts)
    wish = Wish(
        conditions=conditions_of(job),
        horizon=job.horizon,
        today=today,
        max_age_s=job.max_price_age_s,
        devices=tuple(device_id(name) for name in job.devices),
        home=_home(job),
    )
    new = purchase_quotes(rows, wish)
    extended = upgrade_quotes([(machine, device_id(machine.device)) for machine in job.owned], rows, wish)
    excluded = Counter(new.excluded) + Counter(extended.excluded)
    return Purchases(quotes=(*new.quotes, *extended.quotes), excluded=dict(sorted(excluded.items())))


def against_rent(
    bought: PurchaseQuote, rent: Rent, horizon: Horizon | None, *, load_w: float | None = None
) -> BuyOrRent:
    """A machine that can be bought against the best that can be rented for the same work.

    Args:
        bought: The machine.
        rent: See ``break_even.rent_of``.
        horizon: The job's; None for the assumed one, which is then named.
        load_w: Power of all devices as it was predicted, None for their board power.

    Raises:
        InvalidInputError: A value out of range.
    """
    machine = bought.machine if load_w is None else replace(bought.machine, load_w=load_w)
    notes = [*assumptions(machine.conditions), *purchase_assumptions(), *bought.why]
    if horizon is None:
        horizon = ASSUMED_HORIZON
        notes.insert(0, f"it is kept for {horizon.months:.0f} months and works {horizon.hours_per_week:.0f} h a week")
    if load_w is not None:
        notes = [note for note in notes if not note.startswith("devices draw their board power")]
    return buy_or_rent(machine, rent, horizon, notes)
