"""``rigwise predict``: one case from flags, or a file of cases."""

from __future__ import annotations

from typing import Any

import click

from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.in_force import bring_in_force, calibration_option, measured_option
from rigwise.cli.output import answer_options, console, print_json
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.errors import InvalidInputError

EXAMPLES = """\b
Examples:
  rigwise predict resnet50 --device rtx-4090 --batch 64
  rigwise predict llama-3.1-8b --device l40s --explain serving --batch 1,8,32
  rigwise predict gpt2 --device rtx-3090 --batch 64 --count 1,2,4,8 --explain scaling
"""


@click.command("predict", epilog=EXAMPLES)
@click.argument("model", required=False)
@click.option("--device", help="Catalogue id or common name.")
@click.option("--cases", type=click.Path(), help="A .jsonl file, one case on a line; answers in the same order.")
@click.option(
    "--explain",
    type=click.Choice(("scaling", "serving", "memory")),
    help="A longer answer: lists in --count (scaling), --batch and --context (serving); what stands when (memory).",
)
@click.option("--weak", is_flag=True, help="With --explain scaling: keep the batch of each device, not the whole.")
@click.option("--price", type=float, help="Dollars an hour for all devices; else the cheapest offer's.")
@calibration_option
@measured_option
@plot_option
@case_options
@answer_options
def command(model: str | None, device: str | None, cases: str | None, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Step time, memory, energy and throughput of MODEL on a device, with an interval."""
    bring_in_force(flags.pop("calibration"), flags.pop("measured"), [device] if device else [], model or "")
    explain, price = flags.pop("explain"), flags.pop("price")
    if price is not None and explain != "serving":
        raise InvalidInputError("--price is for --explain serving", hint="rigwise plan prices a whole job")
    if cases:
        without_plot("a file of cases")
        return _answer_file(cases)
    if not model or not device:
        raise InvalidInputError("predict needs a model and a device", hint="rigwise predict resnet50 --device rtx-4090")
    if explain == "scaling":
        from rigwise.cli.scaling import explain_scaling

        return explain_scaling(model, device, flags, as_json=as_json, quiet=quiet)
    if flags.pop("weak"):
        raise InvalidInputError("--weak is for --explain scaling")
    if explain == "serving":
        from rigwise.cli.serving import explain_serving

        return explain_serving(model, device, {**flags, "price": price}, as_json=as_json, quiet=quiet)
    if explain == "memory":
        from rigwise.cli.memory import explain_memory

        return explain_memory(model, device, flags, as_json=as_json, quiet=quiet)
    from rigwise.estimate.predict import predict, predict_document

    prediction = predict(case_from(model, device, flags))
    draw(lambda: _roofline(prediction), quiet=quiet)
    if as_json:
        print_json(predict_document(prediction))
        return 0
    from rigwise.report.prediction import prediction_text

    console().print(prediction_text(prediction, brief=quiet), end="", markup=False)
    return 0


def _roofline(prediction: Any) -> Any:
    """The roofline with every operator of the step."""
    from rigwise.estimate.predict import predict_document
    from rigwise.graph.load import load_model
    from rigwise.report.figures.operators import operator_rows
    from rigwise.report.figures.roofline import roofline
    from rigwise.report.step_times import timed_step

    step = timed_step(prediction.case, load_model(prediction.case.model))
    return roofline(predict_document(prediction), operator_rows(step))


def _answer_file(path: str) -> int:
    """One result a line, whatever happens to each; 1 if any case could not be answered."""
    from rigwise.estimate.cases import answer_cases

    failed = False
    for answer in answer_cases(path):
        failed = failed or "error" in answer
        print_json(answer, indent=None)
    return 1 if failed else 0
