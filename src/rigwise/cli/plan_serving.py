"""``rigwise plan --task serve``: which fleet serves a load, proven; and its ``verify``."""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plan_options import flag_of, tables_of
from rigwise.cli.plot_option import draw
from rigwise.cli.report_option import write_report
from rigwise.errors import InfeasibleError, InvalidInputError

if TYPE_CHECKING:
    from rigwise.search.types import World
    from rigwise.workload.serving_load import ServingJob

SERVING_SCHEMA = "rigwise.plan.serving/1"


def output_as_tokens(given: dict[str, Any], output: str | None) -> str | None:
    """The file that ``--output`` names; when serving, a count of tokens there moves to ``output_tokens``.

    Raises:
        InvalidInputError: The tokens are given twice.
    """
    from rigwise.units import parse_count

    if output is None or given.get("task") != "serve":
        return output
    try:
        parse_count(output)
    except InvalidInputError:
        return output
    if "output_tokens" in given:
        raise InvalidInputError(
            f"--output {output} and --output-tokens {given['output_tokens']} both give a number of tokens",
            hint="a file to write needs a name that is no number",
        )
    given["output_tokens"] = output
    return None


def serving_at(target: str, given: dict[str, Any], own: str | None) -> ServingJob | None:
    """The serving job of a file, or of a model and flags; None if it is another job.

    Raises:
        RigwiseError: It is one and cannot be read.
    """
    from rigwise.cli.plan_job import is_job_file, outside
    from rigwise.edge import parse_toml, read_text
    from rigwise.workload.job import COMMAND_LINE
    from rigwise.workload.job_file import owned_from_toml, with_owned
    from rigwise.workload.serving_file import is_serving, serving_job_from_tables
    from rigwise.workload.serving_load import ServingJob

    from_file = is_job_file(target)
    tables = parse_toml(read_text(target), target) if from_file else tables_of(target, given)
    if not is_serving(tables):
        return None
    if from_file and given:
        names = ", ".join(flag_of(name) for name in given)
        raise InvalidInputError(f"{names} cannot be combined with a job file", hint=f"write them into {target}")
    where, folder = (target, Path(target).parent) if from_file else (COMMAND_LINE, Path())
    request = serving_job_from_tables(tables, where, outside(folder))
    if own is None:
        return request
    return ServingJob(load=request.load, job=with_owned(request.job, owned_from_toml(read_text(own), own), own))


def plan_serving_job(request: ServingJob, how: dict[str, Any]) -> int:
    """Print the plans.

    Args:
        request: The serving job.
        how: ``as_json``, ``quiet``; ``output``: a file for the document, if any.

    Raises:
        InfeasibleError: There is no plan; with ``as_json`` the document says so first.
    """
    from rigwise.search.serving_answer import answer_serving, infeasible_serving_document, serving_plan_document

    try:
        result = answer_serving(request, _world(request.job.model, date.today()))
    except InfeasibleError as error:
        if how["as_json"]:
            print_json(infeasible_serving_document(request, error))
        raise
    document = serving_plan_document(result)
    draw(document, quiet=how["quiet"])
    write_report(partial(_page, document), quiet=how["quiet"])
    if "output" in how:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_output(how["output"], text, quiet=how["quiet"])
    if how["as_json"]:
        print_json(document)
    else:
        from rigwise.report.serving_plan_text import serving_plan_text

        console().print(serving_plan_text(result, brief=how["quiet"]), end="", markup=False, soft_wrap=True)
    return 0


def _page(document: dict[str, Any], command: str) -> str:
    from rigwise.edge import as_plain
    from rigwise.report.evidence import with_sources
    from rigwise.report.serving_page import serving_page

    return serving_page(with_sources(as_plain(document)), command=command)


def verify_serving_document(document: Any, path: str, *, as_json: bool) -> int:
    """Prove a document again; 1 if it does not hold."""
    from rigwise.search.serving_answer import day_of, read_serving_document, verify_serving

    claim = read_serving_document(document, path)
    faults = verify_serving(claim, _world(claim.job.job.model, day_of(claim, path)))
    if as_json:
        print_json({"schema": "rigwise.plan.verify/1", "holds": not faults, "faults": faults})
    else:
        held = f"{path}: the certificate holds for all {claim.certificate.candidates:,} candidates"
        click.echo("\n".join(faults) or held)
    return 1 if faults else 0


def _world(model: str, day: date) -> World:
    from rigwise.search.plan import catalogue_world

    return catalogue_world(model, day)
