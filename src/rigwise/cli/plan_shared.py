"""``rigwise plan --share``: several jobs on the machines that one has, planned together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from rigwise.cli.output import console, print_json, write_output
from rigwise.cli.plan_job import jobs_at
from rigwise.cli.plan_options import flag_of
from rigwise.cli.plot_option import draw
from rigwise.cli.report_option import write_report
from rigwise.cli.search_watch import watching
from rigwise.errors import InfeasibleError, InvalidInputError, RigwiseError

#: Flags of a job that hold for all of them together.
_OF_ALL = ("deadline", "gap")
_WHERE = "command line"


def plan_shared_jobs(
    targets: tuple[str, ...],
    given: dict[str, Any],
    written: dict[str, str],
    world_of: Callable[[str], Any],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Plan jobs that share the machines one has.

    Args:
        targets: Job files.
        given: Flags that describe a job: ``--deadline`` and ``--gap`` hold for all of them.
        written: Files of ``--own``, ``--output`` and ``--report``.
        world_of: The world of a model.
        as_json: Print one JSON document.
        quiet: Print the answer only.

    Raises:
        RigwiseError: A job cannot be read, the flags belong to a single job, or there is no plan.
    """
    from rigwise.report.shared_text import shared_text
    from rigwise.search.shared import plan_shared, shared_document, shared_infeasible

    question = _question(targets, given, written)
    try:
        with watching(question.jobs[0].job.minimize, quiet=quiet) as watch:
            result = plan_shared(question, world_of, stop=watch)
    except InfeasibleError as error:
        if as_json:
            print_json(shared_infeasible(question, error))
        raise
    document = shared_document(result)
    draw(document, quiet=quiet)
    write_report(partial(_page, document), quiet=quiet)
    if "output" in written:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_output(written["output"], text, quiet=quiet)
    if as_json:
        print_json(document)
    else:
        console().print(shared_text(result, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0


def _page(document: dict[str, Any], command: str) -> str:
    from rigwise.report.shared_page import shared_page

    return shared_page(document, command=command)


def _question(targets: tuple[str, ...], given: dict[str, Any], written: dict[str, str]) -> Any:
    others = [name for name in [*given, *written] if name not in (*_OF_ALL, "own", "output", "report")]
    if others:
        names = ", ".join(map(flag_of, others))
        raise InvalidInputError(f"{names} cannot be combined with --share", hint="write it into the job files")
    return shared_question(jobs_at(targets, written.get("own")), given)


def shared_question(named: Iterable[tuple[str, Any]], given: dict[str, Any]) -> Any:
    """The jobs that share machines.

    Args:
        named: Names and jobs, or what is wrong with one.
        given: ``deadline`` and ``gap`` of all of them together, as they are written.

    Raises:
        RigwiseError: A job cannot be read, cannot share, or a limit means nothing.
    """
    from rigwise.search.shared_types import NamedJob, SharedJobs
    from rigwise.units import parse_fraction, parse_seconds
    from rigwise.workload.job import Job, check_job

    jobs = []
    for name, job in named:
        if isinstance(job, RigwiseError):
            raise job
        if not isinstance(job, Job):
            raise InvalidInputError(f"{name}: only jobs of one stage can share machines", hint="plan it by itself")
        jobs.append(NamedJob(name=name, job=job))
    deadline_s = parse_seconds(given["deadline"]) if "deadline" in given else None
    gap_frac = parse_fraction(given["gap"]) if "gap" in given else max((one.job.gap_frac for one in jobs), default=0.0)
    limits = replace(jobs[0].job, deadline_s=deadline_s, gap_frac=gap_frac)
    check_job(limits, _WHERE)
    return SharedJobs(jobs=tuple(jobs), deadline_s=deadline_s, gap_frac=gap_frac)


def verify_shared_document(answer: Any, where: str, world_of: Callable[..., Any]) -> tuple[list[str], str]:
    """What is wrong with the document of ``--share``, and what to say if nothing is.

    Raises:
        RigwiseError: It cannot be read.
    """
    from rigwise.search.shared import read_shared, verify_shared

    claim = read_shared(answer, where)
    faults = verify_shared(claim, partial(world_of, day=claim.today))
    return faults, f"{where}: no other way to share the machines is better"
