"""What a job makes of a price: its time to start, its data, the provider's way of billing.

Source: the definition of each term; rates in ``facts/data/billing.toml`` with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rigwise.facts.billing import Billing
from rigwise.facts.interruption import InterruptionOverride
from rigwise.market.offers import BOUGHT, OWNED, SPOT, Quote
from rigwise.market.spot import interruption_of, overridden, spot_tariff
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, GB, HOUR_S, MINUTE_S
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
        billing: The ways of billing that are known, by provider.
    """

    setup_s: float = 0.0
    data_bytes: float = 0.0
    data_at: str = ""
    download_s: float = 0.0
    held_bytes: float = 0.0
    tax_frac: float = 0.0
    machines: int = 1
    interruption: InterruptionOverride | None = None
    billing: Mapping[str, Billing] = field(default_factory=dict)

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
            billing=billing,
        )

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was filled in, in words."""
        if self.setup_s != ASSUMED_SETUP_S:
            return ()
        return (f"{ASSUMED_SETUP_S / MINUTE_S:.0f} min to start a rented machine and install what is needed",)


def tariff_of(quote: Quote, terms: Terms, nodes: int = 1) -> Tariff:
    """The tariff of ``nodes`` machines of a quote; an owned machine is quoted with all of its nodes."""
    if quote.market in (OWNED, BOUGHT):
        held = quote.tariff or Tariff(usd_per_h=quote.usd_per_h)
        return _times(held, 1.0, terms.machines)
    billing = terms.billing.get(quote.offer.provider, Billing())
    base = Tariff(usd_per_h=quote.usd_per_h)
    if quote.market == SPOT:
        known = overridden(interruption_of(quote.offer), terms.interruption or InterruptionOverride())
        base = spot_tariff(quote.usd_per_h, known, nodes)
    disk_usd_per_h = (billing.disk_usd_per_gb_month or 0.0) * terms.held_bytes / GB / _MONTH_H
    term_s = quote.offer.term_s or 0.0
    tariff = replace(
        base,
        usd_per_h=base.usd_per_h + disk_usd_per_h,
        startup_s=terms.setup_s + terms.download_s,
        increment_s=billing.increment_s,
        minimum_s=max(billing.minimum_s, term_s),
    )
    tariff = _times(tariff, 1.0 + terms.tax_frac, nodes * terms.machines)
    return replace(tariff, fixed_usd=tariff.fixed_usd + terms.machines * _egress_usd(quote, terms))


def _times(tariff: Tariff, rate: float, machines: int) -> Tariff:
    factor = rate * machines
    return replace(
        tariff,
        usd_per_h=tariff.usd_per_h * factor,
        fixed_usd=tariff.fixed_usd * factor,
        capital_usd=tariff.capital_usd * factor,
    )


def _egress_usd(quote: Quote, terms: Terms) -> float:
    """What the provider where the data lie asks for letting them go to another one."""
    home = terms.data_at.partition("/")[0]
    if not home or home == quote.offer.provider:
        return 0.0
    rate = terms.billing.get(home, Billing()).egress_usd_per_gb
    return (1.0 + terms.tax_frac) * (rate or 0.0) * terms.data_bytes / GB
