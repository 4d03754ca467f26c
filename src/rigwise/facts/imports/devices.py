"""From an accelerator's name in a price catalogue to our device ids.

Catalogues write ``RTX6000-Ada``, ``RTX_5090``, ``H100NVL`` or just ``A100``. Where a name leaves
several variants, the memory narrows them, and so does what the catalogue in the package knows of
that provider's instance; what is left stays open, as ``id|id``. A name that nothing answers to
stays unknown: a wrong device is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rigwise.facts.catalogue import bundled_offers, device, device_names
from rigwise.units import GIB

#: A memory that a catalogue states differs from the device's by what drivers keep, or by more where it was rounded.
_MEMORY_TOLERANCES_FRAC = (0.08, 0.16)
#: Words of instances or of sales that are no part of a device's name.
_WORDS = re.compile(r"(?i)\b(mega|secure|community|server|edition|workstation|vgpu|hbm\d\w*|nvlink|nvl?ink)\b")
#: Where makers' words and figures are written together.
_SEAMS = re.compile(r"(?i)(?<=\d)(?=(?:nvl|sxm|pcie|oam|ada|pro)(?:\d|\b|[^a-z]))|(?<=rtxpro)(?=\d)|(?<=rtx)(?=pro|\d)")
#: Slices of TPUs: ``v5litepod-16`` are 16 chips, ``v4-16`` are 16 cores on 8 chips.
#: Source: Google Cloud, TPU documentation, accelerator types.
_TPU = re.compile(r"(?:tpu-)?(v\d+(?:litepod|e|p|x)?)-(\d+)")
_CORES_OF_A_CHIP = {"v2": 2, "v3": 2, "v4": 2, "v5p": 2}
_MOST_VARIANTS = 6
#: How an instance's own name says which variant it holds.
_FORMS = re.compile(r"(?i)(?<![a-z])(sxm|pcie|nvl)(?![a-z])")
#: Names of a first generation, which had no number.
_FIRST = {"inferentia": "inferentia-1", "trainium": "trainium-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """What a provider's instance holds.

    Attributes:
        device: Ids joined by ``|``, empty where unknown.
        accel_count: None where unknown.
        link: ``nvlink``, ``pcie`` or empty, as the catalogue in the package knows the instance.
        inter_node_bytes_per_s: Its network, where known.
    """

    device: str
    accel_count: float | None
    link: str = ""
    inter_node_bytes_per_s: float | None = None


def sold(
    provider: str,
    instance: str,
    accelerator: str,
    count: float | None,
    memory_bytes: float | None,
    also_called: str = "",
) -> Sold:
    """The devices of an instance, and what is known of its links; ``also_called`` may say which variant it is.

    >>> sold("aws", "p5.48xlarge", "H100", 8, None).device, sold("x", "y", "A100", 1, 80 * 2.0**30).device
    ('h100-sxm5-80gb', 'a100-pcie-80gb|a100-sxm4-80gb')
    """
    tpu = _TPU.fullmatch(accelerator.lower())
    if tpu:
        generation, units = tpu.groups()
        chips = int(units) / _CORES_OF_A_CHIP.get(generation, 1)
        return Sold(device="|".join(candidates(f"tpu {generation}", None)), accel_count=_whole((count or 1) * chips))
    # Less than a GiB is a number of GiB under the heading MiB: lint names it, and the device is known all the same.
    plausible_bytes = memory_bytes * 1024 if memory_bytes and memory_bytes < GIB else memory_bytes
    found = _of_form(f"{instance} {also_called}", candidates(accelerator, plausible_bytes))
    known = _known_instances().get((provider, instance))
    if known is None or (found and not set(found) & set(known.device.split("|"))):
        return Sold(device="|".join(found), accel_count=count)
    narrowed = [identifier for identifier in known.device.split("|") if not found or identifier in found]
    same = known.accel_count == count
    return Sold(
        device="|".join(narrowed),
        accel_count=count,
        link=known.link if same else "",
        inter_node_bytes_per_s=known.inter_node_bytes_per_s if same else None,
    )


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


@cache
def _known_instances() -> Mapping[tuple[str, str], Sold]:
    known: dict[tuple[str, str], Sold] = {}
    for offer in bundled_offers():
        if offer.device and offer.instance:
            rate = offer.inter_node_bytes_per_s
            row = Sold(device=offer.device, accel_count=offer.accel_count, link=offer.link, inter_node_bytes_per_s=rate)
            known.setdefault((offer.provider, offer.instance), row)
    return known


def _of_form(words: str, found: tuple[str, ...]) -> tuple[str, ...]:
    """Of several variants, those whose form stands in the words."""
    forms = {form.lower() for form in _FORMS.findall(re.sub(r"\d", " ", words))}
    narrowed = tuple(i for i in found if any(form in i for form in forms))
    return narrowed or found


@cache
def candidates(accelerator: str, memory_bytes: float | None) -> tuple[str, ...]:
    """The devices that a name may mean, by id; none where nothing or too much answers to it.

    >>> candidates("RTX6000Ada", None), candidates("H100NVL", None)
    (('rtx-6000-ada',), ('h100-nvl-94gb',))
    """
    plain = _FIRST.get(accelerator.lower(), accelerator.replace("_", " "))
    tries = dict.fromkeys((plain, _SEAMS.sub(" ", plain), " ".join(_WORDS.sub(" ", _SEAMS.sub(" ", plain)).split())))
    for text in tries:
        found = device_names().candidates(text) if re.search(r"\d", text) else ()
        near = next(filter(None, (_near(found, memory_bytes, frac) for frac in _MEMORY_TOLERANCES_FRAC)), found)
        if 0 < len(near) <= _MOST_VARIANTS:
            return near
    return ()


def _near(found: tuple[str, ...], memory_bytes: float | None, tolerance_frac: float) -> tuple[str, ...]:
    """Of several devices, those with about this memory."""
    if not memory_bytes:
        return ()
    sizes = {i: device(i).memory_bytes for i in found}
    return tuple(i for i, size in sizes.items() if size and abs(memory_bytes / size - 1) <= tolerance_frac)
