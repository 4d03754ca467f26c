"""``rigwise compare``: one model on several devices, side by side."""

from __future__ import annotations

from typing import Any

import click

from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.in_force import bring_in_force, calibration_option, measured_option
from rigwise.cli.output import answer_options, print_json, print_table
from rigwise.cli.plot_option import draw, plot_option
from rigwise.cli.report_option import is_report_asked, report_option, write_report
from rigwise.errors import InvalidInputError


@click.command("compare")
@click.argument("model")
@click.option("--device", "names", multiple=True, help="A device; give the flag several times, or a,b,c.")
@calibration_option
@measured_option
@plot_option
@report_option("Write the comparison as a self-contained HTML page.")
@case_options
@answer_options
def command(model: str, names: tuple[str, ...], as_json: bool, quiet: bool, **flags: Any) -> int:
    """Step time, throughput, memory and energy of MODEL on several devices, quickest first.

    For example: rigwise compare llama-3.1-8b --device l40s,h100-sxm5-80gb --task decode --batch 8
    """
    devices = [name.strip() for text in names for name in text.split(",") if name.strip()]
    if len(devices) < 2:
        raise InvalidInputError("compare needs at least two devices", hint="--device t4 --device l4, or --device t4,l4")
    bring_in_force(flags.pop("calibration"), flags.pop("measured"), devices, model)
    from rigwise.estimate.compare import compare, compare_document

    answers = compare([case_from(model, device, flags) for device in devices])
    document = compare_document(answers)
    has_answer = any(answer.prediction for answer in answers)
    if has_answer:
        draw(document, quiet=quiet)
        _report(document, quiet=quiet)
    if as_json:
        print_json(document)
    else:
        from rigwise.report.prediction import COMPARE_COLUMNS, COMPARE_RIGHT, compare_notes, compare_rows

        print_table(COMPARE_COLUMNS, compare_rows(answers), right=COMPARE_RIGHT)
        for note in compare_notes(answers):
            print(note)
    return 0 if has_answer else 1


def _report(document: dict[str, Any], *, quiet: bool) -> None:
    if not is_report_asked():
        return
    from datetime import date

    from rigwise.report.compare_page import compare_page
    from rigwise.report.evidence import with_prices

    told = with_prices(document, date.today())
    write_report(lambda command: compare_page(told, command=command), quiet=quiet)
