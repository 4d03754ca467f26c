"""What a job makes of a price: its time to start, its data, the provider's way of billing.

Source: the definition of each term; rates in ``facts/data/billing.toml`` with theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rigwise.facts.billing import Billing
from rigwise.facts.interruption import InterruptionOverride
from rigwise.facts.offer import Offer
from rigwise.market.offers import BOUGHT, OWNED, SPOT, Quote
from rigwise.market.spot import ASSUMED, Interruption, in_words, interruption_of, overridden, spot_tariff
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, GB, HOUR_S, MINUTE_S, format_bytes
from rigwise.workload.job import Job

#: Assumed, not measured: from asking for a rented machine to an environment in which the job starts.
ASSUMED_SETUP_S = 5 * MINUTE_S
#: Assumed: the rate at which data reach a machine, 1 Gbit/s.
ASSUMED_DOWNLOAD_BYTES_PER_S = 1e9 / 8
_MONTH_H = 365.25 * DAY_S / 12 / HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What of a job changes a price.

    Attributes:
        setup_s: To start a rented machine and install what the job needs.
        data_bytes, data_at: What must be brought there, and from where: ``provider/region``, or empty.
        download_s: To bring it there.
        held_bytes: What lies on the machine's disk while it runs.
        tax_frac: On every price.
        machines: Equal machines at once, for the runs of a sweep.
        interruption: What the user knows of spot capacity, None for what the catalogue knows.
        checkpoints: Whether the job can go on in another session from what it saved.
        weighs_time: Whether the job says what time is worth to it.
        billing: The ways of billing that are known, by provider.
        filled_in: What else was assumed, in words: the rate of a download, and what owning costs.
    """

    setup_s: float = 0.0
    data_bytes: float = 0.0
    data_at: str = ""
    download_s: float = 0.0
    held_bytes: float = 0.0
    tax_frac: float = 0.0
    machines: int = 1
    interruption: InterruptionOverride | None = None
    weighs_time: bool = True
    checkpoints: bool = False
    billing: Mapping[str, Billing] = field(default_factory=dict)
    filled_in: tuple[str, ...] = ()

    @staticmethod
    def of(job: Job, billing: Mapping[str, Billing]) -> Terms:
        """The terms of a job."""
        size = job.data.size_bytes if job.data else 0.0
        rate = (job.data and job.data.download_bytes_per_s) or ASSUMED_DOWNLOAD_BYTES_PER_S
        return Terms(
            setup_s=ASSUMED_SETUP_S if job.setup_s is None else job.setup_s,
            data_bytes=size,
            data_at=job.data.at.lower() if job.data else "",
            download_s=size / rate,
            held_bytes=size + (job.checkpoint_bytes or 0.0),
            tax_frac=job.tax_frac,
            machines=min(job.runs, job.parallel_runs),
            interruption=job.interruption,
            checkpoints=saves_checkpoints(job),
            weighs_time=job.deadline_s is not None or job.value_of_time_usd_per_h > 0 or job.minimize != "cost",
            billing=billing,
            filled_in=(*_download_in_words(job), *_owning_in_words(job)),
        )

    def interruption_of(self, offer: Offer) -> Interruption:
        """What to plan with on spot capacity: the user's word first."""
        return overridden(interruption_of(offer), self.interruption or InterruptionOverride())

    @property
    def startup_s(self) -> float:
        """From asking for a rented machine to the first step."""
        return self.setup_s + self.download_s

    @property
    def restart_s(self) -> float:
        """What a further session begins with: all of the startup again, and a checkpoint written and read."""
        given = None if self.interruption is None else self.interruption.save_s
        return self.startup_s + 2.0 * (ASSUMED.save_s if given is None else given)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was filled in, in words."""
        if self.setup_s != ASSUMED_SETUP_S:
            return self.filled_in
        start = f"{ASSUMED_SETUP_S / MINUTE_S:.0f} min to start a rented machine and install what is needed"
        return (start, *self.filled_in)

    def is_divided(self, offer: Offer) -> bool:
        """Whether a job goes on in another session of an offer: it saves checkpoints, and a session is long enough.

        What is free is stretched over sessions only for a job that says what time is worth to it, by a deadline say:
        else months on a free notebook would be the cheapest way to do anything.
        """
        return self.checkpoints and shortest_s(offer) > self.restart_s and (self.weighs_time or offer.price_usd_h != 0)


def _download_in_words(job: Job) -> tuple[str, ...]:
    if not job.data or not job.data.size_bytes or job.data.download_bytes_per_s:
        return ()
    return (f"the data reach the machine at {ASSUMED_DOWNLOAD_BYTES_PER_S * 8 / 1e9:.0f} Gbit/s",)


def _owning_in_words(job: Job) -> tuple[str, ...]:
    """What is assumed of machines that are owned or can be bought; their modules are loaded for such jobs only."""
    if not job.buy and not any(machine.usd_per_kwh for machine in job.owned):
        return ()
    from rigwise.market.to_buy import owning_assumptions

    return owning_assumptions(job)


def shortest_s(offer: Offer) -> float:
    """The shorter of the longest session and the use of a week, infinite for no limit."""
    return min(offer.session_cap_s or math.inf, offer.weekly_quota_s or math.inf)


def saves_checkpoints(job: Job) -> bool:
    """Whether a job can be divided over sessions: training can. Assumed, and a plan that is divided says so."""
    return job.task == "train"


def tariff_of(quote: Quote, terms: Terms, nodes: int = 1) -> Tariff:
    """The tariff of ``nodes`` machines of a quote; an owned machine is quoted with all of its nodes."""
    if quote.market in (OWNED, BOUGHT):
        held = quote.tariff or Tariff(usd_per_h=quote.usd_per_h)
        return _times(held, 1.0, terms.machines)
    offer = quote.offer
    billing = terms.billing.get(offer.provider, Billing())
    base = quote.tariff or Tariff(usd_per_h=quote.usd_per_h)
    if quote.market == SPOT:
        base = spot_tariff(quote.usd_per_h, terms.interruption_of(offer), nodes)
    held_gb_months_per_h = terms.held_bytes / GB / _MONTH_H
    limits = (offer.session_cap_s, offer.weekly_quota_s) if terms.is_divided(offer) else (None, None)
    session_s, quota_s = (math.inf if limit is None else limit for limit in limits)
    tariff = replace(
        base,
        usd_per_h=base.usd_per_h + (billing.disk_usd_per_gb_month or 0.0) * held_gb_months_per_h,
        idle_usd_per_h=(billing.idle_disk_usd_per_gb_month or 0.0) * held_gb_months_per_h,
        startup_s=terms.startup_s,
        increment_s=billing.increment_s,
        minimum_s=max(base.minimum_s, billing.minimum_s, offer.term_s or 0.0),
        session_s=session_s,
        quota_s=quota_s,
        restart_s=terms.restart_s if session_s < math.inf or quota_s < math.inf else 0.0,
    )
    tariff = _times(tariff, 1.0 + terms.tax_frac, nodes * terms.machines)
    egress_usd = terms.machines * _egress_usd(quote, terms)
    return replace(tariff, fixed_usd=tariff.fixed_usd + egress_usd) if egress_usd else tariff


def _times(tariff: Tariff, rate: float, machines: int) -> Tariff:
    factor = rate * machines
    if factor == 1.0:
        return tariff
    return replace(
        tariff,
        usd_per_h=tariff.usd_per_h * factor,
        fixed_usd=tariff.fixed_usd * factor,
        capital_usd=tariff.capital_usd * factor,
        noncash_usd_per_h=tariff.noncash_usd_per_h * factor,
        idle_usd_per_h=tariff.idle_usd_per_h * factor,
    )


def _egress_usd(quote: Quote, terms: Terms) -> float:
    """What the provider where the data lie asks for letting them go to another one."""
    home = terms.data_at.partition("/")[0]
    if not home or home == quote.offer.provider:
        return 0.0
    rate = terms.billing.get(home, Billing()).egress_usd_per_gb
    return (1.0 + terms.tax_frac) * (rate or 0.0) * terms.data_bytes / GB


def to_know(quote: Quote, terms: Terms, nodes: int, undisturbed_s: float) -> tuple[str, ...]:
    """What somebody who takes that many machines of a quote must know beside the price, in words."""
    if quote.market in (OWNED, BOUGHT):
        return _transfer(quote, terms)
    told = [in_words(terms.interruption_of(quote.offer), nodes)] if quote.market == SPOT else []
    if quote.offer.term_s:
        told.append(f"reserved: {quote.offer.term_s / DAY_S:g} days are paid for, used or not")
    sessions = in_sessions(tariff_of(quote, terms, nodes), undisturbed_s)
    return (*told, *([sessions] if sessions else []), *_disk(quote, terms), *_transfer(quote, terms))


def in_sessions(tariff: Tariff, undisturbed_s: float) -> str:
    """What a plan that is divided over sessions must know, in one sentence; empty if one session is enough.

    >>> free = Tariff(usd_per_h=0.0, session_s=12 * 3600.0, quota_s=30 * 3600.0)
    >>> in_sessions(free, 40 * 3600.0)
    '4 sessions of 12 h at most, 30 h in a week: save a checkpoint before each ends, and start the next by hand'
    """
    number = float(tariff.sessions(undisturbed_s))
    if number <= 1:
        return ""
    length = f" of {tariff.session_s / HOUR_S:g} h at most" if tariff.session_s < math.inf else ""
    week = f", {tariff.quota_s / HOUR_S:g} h in a week" if tariff.quota_s < math.inf else ", no limit by the week known"
    return f"{number:,.0f} sessions{length}{week}: save a checkpoint before each ends, and start the next by hand"


def _disk(quote: Quote, terms: Terms) -> tuple[str, ...]:
    provider = quote.offer.provider
    known = terms.billing.get(provider, Billing()).disk_usd_per_gb_month is not None
    if known or not terms.held_bytes:
        return ()
    return (f"what {provider} asks for a disk of {format_bytes(terms.held_bytes)} is not known, and not counted",)


def _transfer(quote: Quote, terms: Terms) -> tuple[str, ...]:
    home = terms.data_at.partition("/")[0]
    known = terms.billing.get(home, Billing()).egress_usd_per_gb is not None
    if known or not terms.data_bytes or home in ("", "local", quote.offer.provider):
        return ()
    return (f"what {home} asks for letting {format_bytes(terms.data_bytes)} go is not known, and not counted",)
