"""What an answer rests on, looked up again for its report: what binds, what it costs, where each figure was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from rigwise.edge import as_plain, parse
from rigwise.errors import UnknownNameError
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.predict import predict
from rigwise.facts import catalogue
from rigwise.facts.subscription import subscriptions
from rigwise.graph.load import load_model
from rigwise.report.serving_price import usual_price
from rigwise.workload.case import Case

Document = Mapping[str, Any]

#: What a case takes from the job, and what from the plan.
_OF_JOB = ("model", "task", "seq", "context", "image_size", "method", "lora_rank", "optimizer")
_OF_PLAN = ("device", "count", "nodes", "dtype", "layout", "mode", "recompute", "parallel")


def with_evidence(document: Document) -> dict[str, Any]:
    """The document with more keys: ``binds`` and ``provenance`` of each plan, and ``sources``.

    ``binds`` are the fractions of a prediction: compute, memory, launch, network, input.
    ``sources`` are rows of ``figure`` and ``source``.

    Args:
        document: A ``rigwise.plan/1`` document.

    Raises:
        RigwiseError: The catalogue or the models are others than when it was written.
    """
    model = load_model(document["job"]["model"])
    plans = []
    for plan in document["plans"]:
        prediction = predict(_case(document["job"], plan), model)
        plans.append({**plan, "binds": dict(prediction.binds), "provenance": prediction.provenance})
    return {**with_sources(document), "plans": plans}


def with_sources(document: Document) -> dict[str, Any]:
    """A document with ``plans`` and ``sources``: where devices, prices and constants were read."""
    return {**document, "sources": sources_of([(f"plan {plan['rank']}", plan) for plan in document["plans"]])}


def sources_of(plans: Sequence[tuple[str, Document]]) -> list[dict[str, str]]:
    """Where the figures of plans were read, as rows of ``figure`` and ``source``.

    Args:
        plans: What each is called, and its device, offer and day.
    """
    return [{"figure": figure, "source": source} for figure, source in _sources(plans)]


def with_prices(document: Document, today: date) -> dict[str, Any]:
    """A ``rigwise.compare/1`` document with ``prices``, one for each result or null, ``sources`` and ``today``.

    A price is that of the cheapest offer on demand; a machine that nobody rents out has none.
    """
    offers = catalogue.offers()
    prices = [_price(answer, offers, today) for answer in document["results"]]
    devices = dict.fromkeys(answer["device"] for answer in document["results"])
    rows = [{"figure": figure, "source": source} for figure, source in _of_devices(devices)]
    for answer, price in zip(document["results"], prices, strict=True):
        rows += [{"figure": f"price of {answer['device']}", "source": price["basis"]}] if price else []
    rows += [{"figure": figure, "source": source} for figure, source in _of_constants()]
    return {**document, "prices": prices, "sources": rows, "today": today.isoformat()}


def _price(answer: Document, offers: Iterable[Any], today: date) -> dict[str, Any] | None:
    if "step_time_s" not in answer:
        return None
    case = answer["case"]
    group = min(case["parallel"]["tensor"] * case["parallel"]["pipeline"], case["count"] // case["nodes"])
    price = usual_price(answer["device"], case["count"], group, offers, today)
    found: dict[str, Any] | None = as_plain(price)
    return found


def _case(job: Document, plan: Document) -> Case:
    """One step of the plan."""
    fields = {name: job[name] for name in _OF_JOB} | {name: plan[name] for name in _OF_PLAN}
    fields["batch"] = plan["micro_batch"] * plan["accumulation"] * (plan["parallel"]["data"] or 1)
    return parse(fields, Case, f"plan {plan['rank']}")


def _sources(plans: Sequence[tuple[str, Document]]) -> Iterator[tuple[str, str]]:
    """Where the devices' figures, the prices and the constants come from, each once."""
    yield from _of_devices(dict.fromkeys(plan["device"] for _, plan in plans))
    offers = {(offer.provider, offer.instance, offer.region, offer.as_of): offer for offer in catalogue.offers()}
    notebooks = {(one.provider, one.name, one.as_of): one.source for one in subscriptions()}
    for name, plan in plans:
        offer = offers.get((plan["provider"], plan["instance"], plan["region"], plan["price_date"]))
        notebook = notebooks.get((plan["provider"], plan["instance"], plan["price_date"]))
        for source in catalogue.cited(offer.source) if offer else filter(None, [notebook]):
            yield f"price of {name}, {plan['price_date']}", source
    yield from _of_constants()


def _of_devices(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            found = catalogue.device(name)
        except UnknownNameError:
            yield name, "read from the machine itself"
            continue
        for source in catalogue.cited(found.source):
            yield name, source


def _of_constants() -> Iterator[tuple[str, str]]:
    calibration = load_calibration()
    for table, source in calibration.sources.items():
        yield f"{table.replace('_', ' ')} constants, {calibration.name}", source
