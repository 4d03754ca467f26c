"""What limits the time of each plan: a plan document with the fractions of a prediction added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.edge import parse
from rigwise.estimate.predict import predict
from rigwise.graph.load import load_model
from rigwise.workload.case import Case

#: What a case takes from the job, and what from the plan.
_OF_JOB = ("model", "task", "seq", "context", "image_size", "method", "lora_rank", "optimizer")
_OF_PLAN = ("device", "count", "nodes", "dtype", "layout", "mode", "recompute", "parallel")


def with_binding(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, each plan with ``binds``: compute, memory, launch, network, input, in sum 1.

    Args:
        document: A ``rigwise.plan/1`` document.

    Raises:
        RigwiseError: The catalogue or the models are others than when it was written.
    """
    model = load_model(document["job"]["model"])
    plans = []
    for plan in document["plans"]:
        fields = {name: document["job"][name] for name in _OF_JOB} | {name: plan[name] for name in _OF_PLAN}
        fields["batch"] = plan["micro_batch"] * plan["accumulation"] * (plan["parallel"]["data"] or 1)
        prediction = predict(parse(fields, Case, f"plan {plan['rank']}"), model)
        plans.append({**plan, "binds": dict(prediction.binds)})
    return {**document, "plans": plans}
