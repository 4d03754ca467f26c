"""``rigwise predict --explain serving``: prompts, tokens and dollars by batch and context."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rigwise.cli.case_options import case_from
from rigwise.cli.output import console, print_json
from rigwise.cli.plot_option import draw
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.estimate.serving import Price
    from rigwise.workload.case import Case


def explain_serving(model: str, device: str, flags: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Print the answer for every batch and context that the flags list."""
    from rigwise.estimate.serving import (
        DEFAULT_BATCHES,
        ServingQuestion,
        serve,
        serving_document,
    )

    if _given("task"):
        raise InvalidInputError("--explain serving asks for prefill and decode both", hint="leave --task away")
    case = _as_served(case_from(model, device, {**flags, "batch": 1, "context": None, "task": "decode"}))
    question = ServingQuestion(
        case=case,
        batches=flags["batch"] if _given("batch") else DEFAULT_BATCHES,
        contexts=flags["context"] or (),
        prompt=case.seq,
        price=_price(case, flags["price"]),
    )
    serving = serve(question)
    draw(serving_document(serving), quiet=quiet)
    if as_json:
        print_json(serving_document(serving))
        return 0
    from rigwise.report.serving import serving_text

    console().print(serving_text(serving, brief=quiet), end="", markup=False)
    return 0


def _given(flag: str) -> bool:
    return click.get_current_context().get_parameter_source(flag) is not ParameterSource.DEFAULT


def _as_served(case: Case) -> Case:
    """A serving runtime, and its fused operators, unless the flags name others."""
    from rigwise.estimate.serving import DEFAULT_RUNTIME

    runtime = case.runtime if _given("runtime") else DEFAULT_RUNTIME
    return replace(case, runtime=runtime, mode=case.mode if _given("mode") else "compiled")


def _price(case: Case, usd_per_h: float | None) -> Price | None:
    from datetime import date

    from rigwise.estimate.serving import Price
    from rigwise.facts.catalogue import offers
    from rigwise.machine.this import resolve_device
    from rigwise.report.serving_price import usual_price

    if usd_per_h is not None:
        return Price(usd_per_h=usd_per_h, basis="as given")
    group = min(case.parallel.tensor * case.parallel.pipeline, case.count // case.nodes)
    return usual_price(resolve_device(case.device).id, case.count, group, offers(), date.today())
