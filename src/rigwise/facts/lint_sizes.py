"""Rules on what one row says an instance holds. Each returns what it found, in words, or nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rigwise.units import GB, GIB

if TYPE_CHECKING:
    from rigwise.facts.lint import Known
    from rigwise.facts.offer import Offer

#: A provider's label may leave out what the driver keeps, or round; beyond this it is another device or unit.
MEMORY_TOLERANCE_FRAC = 0.16
#: How near to GB / GiB a ratio must be to come from mixing them up.
UNIT_TOLERANCE_FRAC = 0.003
#: Devices on one SXM baseboard.
SXM_BASEBOARD = 8
#: A host with less memory than this part of its accelerators' cannot feed them: it is sold apart.
HOST_MEMORY_FRAC = 0.5
#: Machine types that come with accelerators, under a price of their own that is that of the host.
#: Source: Google Cloud, GPU machine types.
_GCP_HOST = re.compile(r"^(a2|a3|a4|a4x|g2|g4)-")
#: One marketplace's instances in SkyPilot's catalogue: count, device, then vCPUs and MiB rounded to a bucket.
#: Source: SkyPilot catalogue v8 and v9, vast.
_BUCKET = re.compile(r"^(?:vastv\d+-)?\d+x-.+-(\d+)-(\d+)$")


def blank_count(offer: Offer, known: Known) -> str:
    """Without the number of accelerators nothing is known of any one of them."""
    if offer.accel_count is None:
        return "number of accelerators is blank"
    return "number of accelerators is zero" if offer.accel_count == 0 and offer.accelerator else ""


def fraction(offer: Offer, known: Known) -> str:
    """A share of a device: its peak and memory are shares too, which no plan here can use."""
    count = offer.accel_count
    return f"{count:g} of an accelerator" if count is not None and 0 < count < 1 else ""


def impossible_count(offer: Offer, known: Known) -> str:
    """A computer holds one baseboard or two whole ones; 12 comes from the digits of an instance's name."""
    count = offer.accel_count or 0
    if any("sxm" in device for device in offer.devices) and count > SXM_BASEBOARD and count % SXM_BASEBOARD:
        return f"{count:g} accelerators on baseboards of {SXM_BASEBOARD}"
    return ""


def unknown_device(offer: Offer, known: Known) -> str:
    """A device that the catalogue has no figures of: nothing can be estimated for it."""
    return f"{offer.accelerator} is not in the catalogue" if not offer.device and offer.accelerator else ""


def unknown_variant(offer: Offer, known: Known) -> str:
    """One name for several cards: A100 is 40 or 80 GB, H100 is PCIe or SXM."""
    return f"{offer.accelerator} may be {' or '.join(offer.devices)}" if len(offer.devices) > 1 else ""


def _ratio(offer: Offer, known: Known) -> float | None:
    """Memory that the row states over that of the nearest device it may have; None where either is unknown."""
    label, count = offer.accel_memory_bytes, offer.accel_count
    of_device = [d.memory_bytes for name in offer.devices if (d := known.devices.get(name)) and d.memory_bytes]
    if label is None or not of_device or (count is not None and count < 1):
        return None
    return min((label / size for size in of_device), key=lambda r: abs(r - 1))


def memory(offer: Offer, known: Known) -> str:
    """Memory of one accelerator against that of the device: another unit, all together, or another device."""
    ratio, label, count = _ratio(offer, known), offer.accel_memory_bytes or 0, offer.accel_count or 1
    if ratio is None or abs(ratio - 1) <= MEMORY_TOLERANCE_FRAC:
        return ""
    if not ratio:
        return "0 GiB: a blank written as zero"
    found = f"{label / GIB:.4g} GiB for a device of {label / ratio / GIB:.4g}"
    meanings = ((1 / 1024, "MiB for GiB"), (1024.0, "GiB for MiB"), (count, "all together"))
    for factor, meaning in (*meanings, (count**2, "multiplied by the count twice")):
        if factor != 1 and abs(ratio / factor - 1) <= MEMORY_TOLERANCE_FRAC:
            return f"{found}: {meaning}"
    return found


def gb_as_gib(offer: Offer, known: Known) -> str:
    """Cards are marketed in GB and have as many GiB; converting the label takes or adds seven per cent."""
    ratio = _ratio(offer, known)
    return is_mixed_up(ratio) if ratio is not None else ""


def is_mixed_up(ratio: float) -> str:
    """In words how GB and GiB were mixed up, nothing where they were not.

    >>> is_mixed_up(0.9313), is_mixed_up(1.0)
    ('7 % too little: GB taken for 1e9 bytes', '')
    """
    if abs(ratio / (GB / GIB) - 1) <= UNIT_TOLERANCE_FRAC:
        return "7 % too little: GB taken for 1e9 bytes"
    return "7 % too much: GB taken for GiB" if abs(ratio / (GIB / GB) - 1) <= UNIT_TOLERANCE_FRAC else ""


def host_alone(offer: Offer, known: Known) -> str:
    """A machine type that comes with accelerators, in a row without them: half of an instance."""
    if offer.provider == "gcp" and _GCP_HOST.match(offer.instance) and not offer.accelerator:
        return f"{offer.instance} without its accelerators, whose price is to be added"
    return ""


def accelerator_alone(offer: Offer, known: Known) -> str:
    """An accelerator in no instance, with no host: the other half. A TPU has its host with it."""
    if offer.accelerator and not offer.instance and not offer.vcpus and "tpu" not in offer.device:
        return f"{offer.accelerator} without a host, whose price is to be added"
    return ""


def host_apart(offer: Offer, known: Known) -> str:
    """Too little memory for the accelerators: it is priced apart, and this price is with the least of it."""
    sizes = [d.memory_bytes for name in offer.devices if (d := known.devices.get(name)) and d.memory_bytes]
    if not sizes or not offer.accel_count or not offer.memory_bytes or bucketed(offer, known):
        return ""
    all_bytes = min(sizes) * offer.accel_count
    if offer.memory_bytes >= HOST_MEMORY_FRAC * all_bytes:
        return ""
    return f"{offer.memory_bytes / GIB:.4g} GiB of memory for {all_bytes / GIB:.4g} of accelerators"


def bucketed(offer: Offer, known: Known) -> str:
    """One row for many machines: its price is that of the cheapest, its vCPUs and memory those of none."""
    if offer.provider == "vast" and (match := _BUCKET.match(offer.instance)):
        return f"stands for machines of {match.group(1)} vCPUs and {int(match.group(2)) / 1024:g} GiB or more"
    return ""
