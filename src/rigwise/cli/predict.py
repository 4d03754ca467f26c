"""``rigwise predict``: one case from flags, or a file of cases."""

from __future__ import annotations

from typing import Any

import click

from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.output import answer_options, console, print_json
from rigwise.errors import InvalidInputError


@click.command("predict")
@click.argument("model", required=False)
@click.option("--device", help="Catalogue id or common name.")
@click.option("--cases", type=click.Path(), help="A .jsonl file, one case on a line; answers in the same order.")
@case_options
@answer_options
def command(model: str | None, device: str | None, cases: str | None, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Step time, memory, energy and throughput of MODEL on a device, with an interval.

    For example: rigwise predict resnet50 --device rtx-4090 --batch 64
    """
    if cases:
        return _answer_file(cases)
    if not model or not device:
        raise InvalidInputError("predict needs a model and a device", hint="rigwise predict resnet50 --device rtx-4090")
    from rigwise.estimate.predict import predict, predict_document

    prediction = predict(case_from(model, device, flags))
    if as_json:
        print_json(predict_document(prediction))
        return 0
    from rigwise.report.prediction import prediction_text

    console().print(prediction_text(prediction, brief=quiet), end="", markup=False)
    return 0


def _answer_file(path: str) -> int:
    """One result a line, whatever happens to each; 1 if any case could not be answered."""
    from rigwise.estimate.cases import answer_cases

    failed = False
    for answer in answer_cases(path):
        failed = failed or "error" in answer
        print_json(answer, indent=None)
    return 1 if failed else 0
