"""What a provider asks for an instance: one dated row of the offers table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One instance type in one region at one price.

    Attributes:
        provider, instance, region: As the provider writes them, lower case; ``region`` may be empty.
        zone: Part of the region that the price is for, empty where it is for all of it. Spot prices
            differ between zones, by three to four times for one instance.
        device: Catalogue id; several ids joined by ``|`` where the provider does not say which
            variant it is (``h100-pcie-80gb|h100-sxm5-80gb``); empty where we know no such device.
        accelerator: The name the source used.
        accel_count: Accelerators of one instance, below 1 for a share of one; None where the source
            left it blank.
        accel_memory_bytes, vcpus, memory_bytes, disk_bytes: Of one accelerator; of the instance.
        link: ``nvlink``, ``pcie`` or ``""`` (unknown) between the accelerators.
        inter_node_bytes_per_s: Network of one instance, None where unknown.
        price_usd_h, spot_price_usd_h: Per hour of the whole instance; None where not offered.
        session_cap_s, weekly_quota_s: Limits of free tiers.
        term_s: Time that is paid for whether it is used or not: a reservation. None for none.
        as_of: Date of the price, ``YYYY-MM-DD``, the latest it can be when the source gives a span;
            empty where it gives none, which counts as old.
        flags: Names of the faults ``lint`` finds in the row, filled in by who asks for them.
        source: Where the row was read.
    """

    provider: str
    instance: str
    region: str
    device: str
    accelerator: str
    accel_count: float | None
    accel_memory_bytes: float | None
    vcpus: float | None
    memory_bytes: float | None
    disk_bytes: float | None
    link: str
    inter_node_bytes_per_s: float | None
    price_usd_h: float | None
    spot_price_usd_h: float | None
    as_of: str
    source: str
    session_cap_s: float | None = None
    weekly_quota_s: float | None = None
    term_s: float | None = None
    zone: str = ""
    flags: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """The catalogue ids the instance may have."""
        return tuple(self.device.split("|")) if self.device else ()
