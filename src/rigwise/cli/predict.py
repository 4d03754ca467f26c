"""``rigwise predict``: one case from flags, or a file of cases."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.in_force import bring_in_force, calibration_option, measured_option
from rigwise.cli.output import answer_options, console, print_json
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.cli.report_option import is_report_asked, report_option, without_report, write_report
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
@report_option("Write the prediction as a self-contained HTML page.")
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
        _nothing_beside_cases()
        return _answer_file(cases)
    if not model or not device:
        raise InvalidInputError("predict needs a model and a device", hint="rigwise predict resnet50 --device rtx-4090")
    if explain:
        without_report(f"--explain {explain}")
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
    _report(prediction, quiet=quiet)
    if as_json:
        print_json(predict_document(prediction))
        return 0
    from rigwise.report.prediction import prediction_text

    console().print(prediction_text(prediction, brief=quiet), end="", markup=False)
    return 0


def _nothing_beside_cases() -> None:
    """A file of cases says everything itself; a flag beside it would be forgotten silently."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        is_typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and name not in ("cases", "calibration", "measured", "as_json", "quiet"):
            words = option.opts[0] if isinstance(option, click.Option) else str(context.params[name])
            raise InvalidInputError(f"{words} does nothing beside --cases", hint="say it on the lines of the file")


def _roofline(prediction: Any) -> Any:
    """The roofline with every operator of the step."""
    from rigwise.estimate.predict import predict_document
    from rigwise.report.figures.roofline import roofline

    return roofline(predict_document(prediction), _operators(prediction))


def _operators(prediction: Any) -> Any:
    from rigwise.graph.load import load_model
    from rigwise.report.figures.operators import operator_rows
    from rigwise.report.step_times import timed_step

    return operator_rows(timed_step(prediction.case, load_model(prediction.case.model)))


def _report(prediction: Any, *, quiet: bool) -> None:
    if not is_report_asked():
        return
    from datetime import date

    from rigwise.edge import as_plain
    from rigwise.estimate.predict import predict_document
    from rigwise.report.evidence import with_prices
    from rigwise.report.predict_page import Details, predict_page

    told = with_prices({"schema": "rigwise.compare/1", "results": [predict_document(prediction)]}, date.today())
    details = Details(memory=_memory(prediction.case), operators=_operators(prediction))
    write_report(lambda command: predict_page(as_plain(told), details, command=command), quiet=quiet)


def _memory(case: Any) -> Any:
    """The course of memory; None for a step that has none."""
    from rigwise.errors import RigwiseError
    from rigwise.estimate.memory_course import memory_course, memory_document

    try:
        return memory_document(memory_course(case))
    except RigwiseError:
        return None


def _answer_file(path: str) -> int:
    """One result a line, whatever happens to each; 1 if any case could not be answered."""
    from rigwise.estimate.cases import answer_cases

    failed = False
    for answer in answer_cases(path):
        failed = failed or "error" in answer
        print_json(answer, indent=None)
    return 1 if failed else 0
