"""What could stand in the place of a machine: a few devices of the catalogue at the same work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from rigwise.edge import as_plain
from rigwise.errors import RigwiseError
from rigwise.estimate.compare import compare, compare_document
from rigwise.estimate.predict import predict
from rigwise.facts import catalogue
from rigwise.facts.device import Device
from rigwise.facts.part import Part
from rigwise.graph.load import load_model
from rigwise.report.evidence import with_prices
from rigwise.report.serving_price import usual_price
from rigwise.workload.case import Case

#: The work that all are asked for: a batch that a machine of so much memory holds and that keeps it busy.
_MODEL = "resnet50"
_BATCH_FROM_BYTES = ((40e9, 256), (12e9, 128), (0.0, 32))
#: What a slot gives a card without a cable of its own, where no card stands there yet.
#: Source: PCI Express Card Electromechanical Specification, a card of full height: 75 W.
SLOT_W = 75.0
_POWER_FRAC = 1.05


def instead_of(device: Device, name: str, today: date) -> dict[str, Any]:
    """A comparison of a machine with what could stand there, as ``with_prices`` makes it, with more keys.

    ``this`` is the id of the machine; ``chosen`` says of each other device why it was chosen; ``buy`` holds the
    price of those that are sold as cards. Which devices are estimated is chosen by their bounds: the time in which
    neither arithmetic nor memory traffic of the same step can be beaten.

    Args:
        device: The machine as a device.
        name: What a case calls it: ``this``, or the path of a snapshot.
        today: For prices.

    Raises:
        RigwiseError: The machine tells too little of itself for a prediction.
    """
    dtype = _format(device)
    model = load_model(_MODEL)
    held = device.memory_bytes or 0.0 if device.kind != "cpu" else 0.0
    batch = next(batch for least, batch in _BATCH_FROM_BYTES if held >= least)
    case = Case(model=_MODEL, device=name, batch=batch, dtype=dtype)
    own = predict(case, model)
    cards = {part.device: part for part in catalogue.parts() if part.category == "gpu" and _price(part)}
    others = [one for one in catalogue.devices() if one.id != device.id and _could_be(one, device, dtype)]
    bounds = {one.id: max(own.flops / one.peak(_arithmetic(dtype)), own.moved_bytes / _rate(one)) for one in others}
    rents = _rents(others, today)
    chosen = dict(_chosen(others, bounds, (cards, rents), device))
    cases = [case, *(Case(model=_MODEL, device=one, batch=batch, dtype=dtype) for one in chosen)]
    told = with_prices(as_plain(compare_document(compare(cases))), today)
    buy = {one: {"usd": _price(cards[one]), "as_of": cards[one].as_of} for one in chosen if one in cards}
    told["sources"] += [
        {"figure": f"price of {one} as a card", "source": source}
        for one in buy
        for source in catalogue.cited(cards[one].source)
    ]
    return {**told, "this": device.id, "chosen": chosen, "buy": buy}


def _format(device: Device) -> str:
    """The quickest usual format of training that the device computes in."""
    is_gpu = device.kind != "cpu"
    matrix = device.peak_flops_per_s
    return "amp-bf16" if is_gpu and "bf16_acc32" in matrix else "amp-fp16" if "fp16_acc32" in matrix else "fp32"


def _arithmetic(dtype: str) -> str:
    return dtype.removeprefix("amp-")


def _rate(device: Device) -> float:
    return device.memory_bytes_per_s or 1.0


def _could_be(one: Device, device: Device, dtype: str) -> bool:
    """Whether a device is a card that can do the work and holds what the machine held."""
    is_card = one.kind == "gpu" and one.segment != "mobile" and not one.missing()
    held = device.memory_bytes or 0.0
    enough = device.kind == "cpu" or (one.memory_bytes or 0.0) >= held
    return is_card and enough and one.computes(_arithmetic(dtype))


def _price(part: Part) -> float | None:
    return part.street_median_usd or part.street_low_usd


def _chosen(
    others: Sequence[Device],
    bounds: Mapping[str, float],
    prices: tuple[Mapping[str, Part], Mapping[str, float]],
    device: Device,
) -> Iterator[tuple[str, str]]:
    """Devices by id with the reason, each once: the first reason stays."""
    cards, rents = prices
    power_w = SLOT_W if device.kind == "cpu" else device.tdp_w
    frugal = [one for one in others if power_w and one.tdp_w and one.tdp_w <= _POWER_FRAC * power_w]
    sold = [one for one in others if one.id in cards]
    found: dict[str, str] = {}

    def take(among: Sequence[Device], worth: Callable[[Device], float], why: str) -> None:
        left = [one for one in among if one.id not in found]
        if left:
            found[min(left, key=worth).id] = why

    def dollars(one: Device) -> float:
        return (_price(cards[one.id]) or 0.0) * bounds[one.id]

    most = f"{power_w:.0f} W" if power_w else ""
    take(frugal, lambda one: bounds[one.id], f"the quickest of at most {most}")
    take(sold, dollars, "the most for its price as a card")
    take([one for one in sold if one.id in rents], lambda one: bounds[one.id], "the quickest that is sold and rented")
    take(
        [one for one in others if one.id in rents],
        lambda one: rents[one.id] * bounds[one.id],
        "the cheapest work for rent",
    )
    take([one for one in others if one.id in rents], lambda one: bounds[one.id], "the quickest for rent")
    yield from found.items()


def _rents(others: Sequence[Device], today: date) -> dict[str, float]:
    """Dollars an hour of the devices that are rented out."""
    offers = catalogue.offers()
    found = {one.id: usual_price(one.id, 1, 1, offers, today) for one in others}
    return {name: price.usd_per_h for name, price in found.items() if price}


def try_instead(device: Callable[[], Device], name: str, today: date) -> tuple[dict[str, Any] | None, str]:
    """What ``instead_of`` answers, or None and why there is no answer."""
    try:
        return instead_of(device(), name, today), ""
    except RigwiseError as error:
        return None, error.message
