"""``plan`` and ``show`` for a file that describes an application: parse, call, print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plot_option import draw
from rigwise.cli.report_option import command_line, without_folders, write_report
from rigwise.errors import InfeasibleError, InvalidInputError

if TYPE_CHECKING:
    from rigwise.application.plan import ApplicationPlan
    from rigwise.application.types import Application

#: Of the document that ``plan`` writes for an application.
APPLICATION_SCHEMA = "rigwise.application/1"


def application_at(target: str) -> Application | None:
    """The application that a word of the command line names; None if it is something else.

    Raises:
        RigwiseError: It is an application file with a fault.
    """
    if not target.lower().endswith(".toml"):
        return None
    from rigwise.edge import parse_toml, read_text

    tables = parse_toml(read_text(target), target)
    if not {"component", "application"} & set(tables):
        return None
    from rigwise.application.reader import application_from_tables

    return application_from_tables(tables, target)


def plan_application_file(application: Application, flags: dict[str, Any]) -> int:
    """Plan an application: the best placements, or exit code 1 if none keeps the limits.

    Args:
        application: From ``application_at``.
        flags: Those of ``rigwise plan`` that were given.
    """
    from rigwise.application.document import application_document, infeasible_document, with_objective
    from rigwise.application.plan import plan_application

    own = {name: flags.pop(name, None) for name in ("minimize", "top", "output", "as_json", "quiet")}
    flags.pop("report", None)
    if flags:
        _refuse(list(flags), application)
    application = with_objective(application, own["minimize"], own["top"])
    try:
        plan = plan_application(application)
    except InfeasibleError as error:
        if own["as_json"]:
            print_json(infeasible_document(application, error))
        raise
    document = application_document(plan)
    draw(document, quiet=own["quiet"])
    if own["output"]:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_output(own["output"], text, quiet=own["quiet"])
    write_report(lambda command: _page(plan, command), quiet=own["quiet"])
    if own["as_json"]:
        print_json(document)
    else:
        from rigwise.report.application_text import application_text

        _echo(application_text(plan, brief=own["quiet"]))
    return 0


def _refuse(names: list[str], application: Application) -> NoReturn:
    context = click.get_current_context()
    option_of = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = ", ".join(option_of.get(name, name) for name in names)
    raise InvalidInputError(f"{given} means nothing for the application {application.where}", hint="leave it out")


def show_application_file(application: Application, files: dict[str, str], *, as_json: bool, quiet: bool) -> None:
    """Draw an application with its best placement, pinned components where they are pinned.

    Args:
        application: From ``application_at``.
        files: ``dot`` and ``html``: what to write where.
        as_json: Print the document instead of the drawing.
        quiet: The drawing only.
    """
    context = click.get_current_context()
    for name in context.params.keys() - {"model", "dot", "html", "as_json", "quiet"}:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            _refuse([name], application)
    from rigwise.application.document import application_document
    from rigwise.application.plan import plan_application
    from rigwise.report.application_draw import application_dot, application_drawing

    plan = plan_application(application)
    if as_json:
        print_json(application_document(plan))
    else:
        _echo(application_drawing(plan, brief=quiet))
    for kind, path in files.items():
        page = application_dot(plan) if kind == "dot" else without_folders(_page(plan, command_line()))
        write_output(path, page, quiet=quiet)


def verify_application(document: Any, path: str, *, as_json: bool) -> int:
    """Prove a document again; 1 if it does not hold."""
    from rigwise.application.document import read_claim, verify_claim

    claim = read_claim(document, path)
    faults = verify_claim(claim)
    if as_json:
        print_json({"schema": "rigwise.plan.verify/1", "holds": not faults, "faults": faults})
    else:
        number = claim.certificate.candidates
        held = f"{path}: the certificate holds for " + (f"all {number:,} placements" if number > 1 else "1 placement")
        click.echo("\n".join(faults) or held)
    return 1 if faults else 0


def _page(plan: ApplicationPlan, command: str) -> str:
    from rigwise.report.application_page import application_page

    return application_page(plan, command=command)


def _echo(text: str) -> None:
    console().print(text, end="", markup=False, soft_wrap=True)
