"""``rigwise plan``: what to rent or use for a job, proven; ``rigwise plan verify`` proves it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from rigwise.cli.application import APPLICATION_SCHEMA, application_at, plan_application_file, verify_application
from rigwise.cli.in_force import bring_in_force, calibration_option
from rigwise.cli.output import answer_options, console, print_json, write_output
from rigwise.cli.plan_job import expanded, is_job_file, job_at, write_example
from rigwise.cli.plan_options import job_options
from rigwise.cli.plan_serving import (
    SERVING_SCHEMA,
    output_as_tokens,
    plan_serving_job,
    serving_at,
    verify_serving_document,
)
from rigwise.cli.plan_spot import check_flags, explain_spot_plan
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.cli.report_option import checked_report, write_report
from rigwise.cli.search_watch import watching
from rigwise.errors import InfeasibleError, InvalidInputError, UnsupportedError

#: What an explanation says of the job.
_IMPLIED: dict[str, dict[str, Any]] = {"choice": {}, "change": {}, "spot": {}, "buying": {"buy": True}}

#: Documents that ``verify`` names and does not know.
_UNPROVEN = {"rigwise.plans/1": "the plans of several jobs"}

EXAMPLES = """\b
Examples:
  rigwise plan resnet50 --task train --samples 128e6 --deadline 12h
  rigwise plan llama-3.1-8b --method lora --tokens 20M --seq 2048 --budget '$100'
  rigwise plan job.toml --output plan.json
  rigwise plan app.toml --minimize latency
  rigwise plan llama-3.1-8b --task serve --rate 20/s --prompt 2k --output 300 --ttft 500ms --tpot 40ms
  rigwise plan --init job.toml
  rigwise plan jobs/*.toml --jobs 4 --json
  rigwise plan jobs/*.toml --share --own machines.toml --deadline 7d
  rigwise plan verify plan.json
"""


@click.command("plan", epilog=EXAMPLES)
@click.argument("target", nargs=-1, metavar="MODEL | JOB.toml ... | APP.toml | verify PLAN.json")
@click.option("--init", is_flag=True, help="Print a job file with every key explained, or write it to a new file.")
@job_options
@click.option("--output", metavar="FILE", help="Write the JSON document to a file as well.")
@click.option("--report", metavar="FILE.html", help="Write a self-contained HTML page.", callback=checked_report)
@plot_option
@click.option(
    "--explain",
    type=click.Choice(tuple(_IMPLIED)),
    help="Instead: why this plan, and as many devices; what would change it; what interruptions do to the best spot"
    " plan; when the best machine to buy pays.",
)
@click.option("--trace", metavar="FILE", help="With --explain spot: your own record of when there was capacity.")
@click.option("--load", help="With --explain buying: jobs of each week, '3,0,10' say, or a file of them.")
@click.option("--share", is_flag=True, help="Plan several jobs together on the machines you have; see --own.")
@click.option("--engine", help="Where several jobs are planned: process, ray or ray:ADDRESS.  [default: process]")
@click.option("--jobs", type=click.IntRange(1, 1024), help="How many at once.  [default: one for each processor]")
@calibration_option
@answer_options
def command(
    *, target: tuple[str, ...], init: bool, own: str | None, output: str | None, report: str | None, **flags: Any
) -> int:
    """What to rent or use for a job, the cheapest that keeps the limits, and the proof.

    For example: rigwise plan resnet50 --samples 128e6 --deadline 12h
    """
    as_json, quiet, engine, jobs = (flags.pop(name) for name in ("as_json", "quiet", "engine", "jobs"))
    share = flags.pop("share")
    explain, trace, load = flags.pop("explain"), flags.pop("trace"), flags.pop("load")
    asked = (("explain", explain), ("trace", trace), ("load", load))
    explained = [name for name, value in asked if value is not None]
    bring_in_force(flags.pop("calibration"))
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    output = output_as_tokens(given, output)
    written = {name: path for name, path in (("own", own), ("output", output), ("report", report)) if path is not None}
    if init:
        without_plot("an example")
        return _init(target, [*given, *written, *explained], quiet=quiet)
    if not target:
        raise click.UsageError("Missing argument: a MODEL, job files, or verify PLAN.json; --init prints an example")
    if target[0] == "verify":
        without_plot("a proof")
        return _verify(target[1:], [*given, *(["own"] if own else []), *explained], as_json=as_json)
    targets = expanded(target)
    others = {"--report": report, "--engine": engine, "--jobs": jobs, "others beside it": len(targets) > 1}
    check_flags(explain, (trace, load), {"--share": share, **others})
    if share or len(targets) > 1 or engine or jobs:
        several = _shared if share else _many
        return several(targets, given, written, (engine, jobs), as_json=as_json, quiet=quiet)
    if explain:
        _require_job(explain, targets[0], given, own)
        how = {"output": output, "as_json": as_json, "quiet": quiet}
        implied = {} if Path(targets[0]).is_file() else _IMPLIED[explain]
        return _explained(explain, job_at(targets[0], {**implied, **given}, own), trace or load, how)
    other = _other_kind(targets[0], given, {**written, "as_json": as_json, "quiet": quiet})
    if other is not None:
        return other
    job = job_at(targets[0], given, own)
    answer = _answer(job, as_json=as_json, quiet=quiet)
    draw(answer[0], quiet=quiet)
    if output:
        write_output(output, _json_text(answer[0]), quiet=quiet)
    write_report(partial(_page, answer[0]), quiet=quiet)
    if as_json:
        print_json(answer[0])
    else:
        console().print(answer[1](brief=quiet), end="", markup=False, soft_wrap=True)
    return 0


def _many(*arguments: Any, **how: Any) -> int:
    from rigwise.cli.plan_many import plan_many

    return plan_many(*arguments, **how)


def _shared(
    targets: tuple[str, ...], given: dict[str, Any], written: dict[str, Any], where: tuple[Any, Any], **how: bool
) -> int:
    from rigwise.cli.plan_shared import plan_shared_jobs

    for_many = {name: value for name, value in zip(("engine", "jobs"), where, strict=True) if value}
    return plan_shared_jobs(targets, given, {**written, **for_many}, _world, **how)


def _require_job(explain: str, target: str, given: dict[str, Any], own: str | None) -> None:
    """Refuse to explain an application or a serving fleet."""
    if (Path(target).is_file() and application_at(target)) or serving_at(target, given, own):
        raise InvalidInputError(f"--explain {explain} explains a job, not an application or a serving fleet")


def _explained(what: str, job: Any, detail: str | None, how: dict[str, Any]) -> int:
    """Print what was asked about a job in place of its plan."""
    if what == "buying":
        from rigwise.cli.plan_buying import explain_buying

        return explain_buying(job, _world, detail, **how)
    if what in ("choice", "change"):
        from rigwise.cli.plan_explain import explain_answer

        return explain_answer(what, job, _world, **how)
    return explain_spot_plan(job, _world, detail, **how)


def _other_kind(target: str, given: dict[str, Any], how: dict[str, Any]) -> int | None:
    """Plan an application or a serving fleet; None if the target asks for neither."""
    application = application_at(target) if Path(target).is_file() else None
    if application:
        return plan_application_file(application, {**given, **how})
    serving = serving_at(target, given, how.get("own"))
    return plan_serving_job(serving, how) if serving else None


def _answer(job: Any, *, as_json: bool, quiet: bool) -> tuple[dict[str, Any], Callable[..., str]]:
    """The document that answers a job, and what writes it as text.

    Raises:
        InfeasibleError: Nothing keeps the limits; the document that says so is printed first, if one was asked for.
    """
    from rigwise.search.plan import document, infeasible_document, plan
    from rigwise.workload.job import StagedJob

    try:
        if isinstance(job, StagedJob):
            return _staged_answer(job, quiet=quiet)
        from rigwise.report.plan_text import plan_text

        with watching(job.minimize, quiet=quiet) as watch:
            result = plan(job, replace(_world(job.model), stop=watch))
        return document(result), partial(plan_text, result)
    except InfeasibleError as error:
        if as_json:
            from rigwise.search.staged import staged_infeasible

            print_json((staged_infeasible if isinstance(job, StagedJob) else infeasible_document)(job, error))
        raise


def _staged_answer(job: Any, *, quiet: bool) -> tuple[dict[str, Any], Callable[..., str]]:
    from math import inf

    from rigwise.report.staged_text import staged_text
    from rigwise.search.staged import plan_staged, staged_document

    with watching(job.minimize, quiet=quiet) as watch:
        # what is best of one stage says little of the whole, so the line says no figures
        staged = plan_staged(job, lambda model: replace(_world(model), stop=lambda best, bound: watch(inf, 0.0)))
    return staged_document(staged), partial(staged_text, staged)


def _init(target: tuple[str, ...], flags: list[str], *, quiet: bool) -> int:
    if len(target) > 1 or flags or (target and not is_job_file(target[0])):
        raise InvalidInputError("plan --init takes no flags and at most one .toml file to write", hint="job.toml, say")
    write_example(target[0] if target else None, quiet=quiet)
    return 0


def _world(model: str, day: Any = None) -> Any:
    from datetime import date

    from rigwise.search.plan import catalogue_world

    return catalogue_world(model, day or date.today())


def _verify(paths: tuple[str, ...], flags: list[str], *, as_json: bool) -> int:
    """Prove a plan again; 1 if it does not hold."""
    if len(paths) != 1 or flags:
        raise InvalidInputError(
            "plan verify takes one plan file and no other flags", hint="rigwise plan verify PLAN.json"
        )
    from rigwise.edge import parse_json, read_text
    from rigwise.search.plan import read_document, verify

    answer = parse_json(read_text(paths[0]), paths[0])
    schema = answer.get("schema") if isinstance(answer, dict) else None
    if isinstance(schema, str) and schema in _UNPROVEN:
        raise UnsupportedError(f"{paths[0]} holds {_UNPROVEN[schema]}", hint="verify them one by one")
    if schema == APPLICATION_SCHEMA:
        return verify_application(answer, paths[0], as_json=as_json)
    if schema == SERVING_SCHEMA:
        return verify_serving_document(answer, paths[0], as_json=as_json)
    if schema == "rigwise.plan.staged/1":
        from rigwise.search.staged import read_staged, verify_staged

        staged = read_staged(answer, paths[0])
        faults = verify_staged(staged, partial(_world, day=staged.today))
        held = f"{paths[0]}: no other chain of stages is better"
    elif schema == "rigwise.plan.shared/1":
        from rigwise.cli.plan_shared import verify_shared_document

        faults, held = verify_shared_document(answer, paths[0], _world)
    else:
        claim = read_document(answer, paths[0])
        faults = verify(claim, _world(claim.job.model, claim.today))
        held = f"{paths[0]}: the certificate holds for all {claim.certificate.candidates:,} candidates"
    if as_json:
        print_json({"schema": "rigwise.plan.verify/1", "holds": not faults, "faults": faults})
    else:
        click.echo("\n".join(faults) or held)
    return 1 if faults else 0


def _json_text(answer: Any) -> str:
    import json

    from rigwise.edge import as_plain

    return json.dumps(as_plain(answer), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _page(answer: dict[str, Any], command: str) -> str:
    """The report."""
    from rigwise.report.evidence import with_evidence
    from rigwise.report.plan_page import plan_page
    from rigwise.report.staged_page import staged_page

    return (
        staged_page(answer, command=command)
        if "stages" in answer
        else plan_page(with_evidence(answer), command=command)
    )
