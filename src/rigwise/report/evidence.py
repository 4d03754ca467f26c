"""What a plan rests on, looked up again for its report: what binds each plan, and where each figure was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rigwise.edge import parse
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.predict import predict
from rigwise.facts import catalogue
from rigwise.graph.load import load_model
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
    rows = [{"figure": figure, "source": source} for figure, source in _sources(document["plans"])]
    return {**document, "plans": plans, "sources": rows}


def _case(job: Document, plan: Document) -> Case:
    """One step of the plan."""
    fields = {name: job[name] for name in _OF_JOB} | {name: plan[name] for name in _OF_PLAN}
    fields["batch"] = plan["micro_batch"] * plan["accumulation"] * (plan["parallel"]["data"] or 1)
    return parse(fields, Case, f"plan {plan['rank']}")


def _sources(plans: list[Document]) -> Iterator[tuple[str, str]]:
    """Where the devices' figures, the prices and the constants come from, each once."""
    for device in dict.fromkeys(plan["device"] for plan in plans):
        for source in catalogue.cited(catalogue.device(device).source):
            yield device, source
    offers = {(offer.provider, offer.instance, offer.region, offer.as_of): offer for offer in catalogue.offers()}
    for plan in plans:
        offer = offers.get((plan["provider"], plan["instance"], plan["region"], plan["price_date"]))
        for source in catalogue.cited(offer.source if offer else ""):
            yield f"price of plan {plan['rank']}, {plan['price_date']}", source
    calibration = load_calibration()
    for table, source in calibration.sources.items():
        yield f"{table.replace('_', ' ')} constants, {calibration.name}", source
