"""Job files that a stranger wrote, in a worker: they are data, and name no file, no folder and no code.

A job that begins with a line ``# NAME.toml`` is called so; the others are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from rigwise.edge import parse_toml
from rigwise.errors import InfeasibleError, RigwiseError
from rigwise.web.questions import JOB, SHARE, FieldError, Question, check_names, flags

if TYPE_CHECKING:
    from rigwise.graph.graph import Model
    from rigwise.workload.job import Job, StagedJob
    from rigwise.workload.serving_load import ServingJob

_NAME = re.compile(r"#\s*([\w.-]{1,60}\.toml)\s*(?:\n|$)")


def jobs_document(asked: Question, model_of: Callable[[str], Model]) -> Any:
    """The document that ``rigwise plan JOB.toml ... --json`` prints of the jobs of a question.

    Args:
        asked: One with jobs.
        model_of: The model of a name, of the zoo or of an upload.

    Raises:
        RigwiseError: The only job, or one of those that share machines, cannot be planned as it stands.
    """
    from rigwise.execute.plans import SCHEMA, plan_document
    from rigwise.search.plan import catalogue_world

    today, texts = date.today(), asked.all(JOB)

    def world_of(name: str) -> Any:
        return catalogue_world(model_of(name), today)

    named = list(zip(names_of(texts), texts, strict=True))
    if flags(asked)[SHARE]:
        return _shared([(name, read_job(text, name)) for name, text in named], flags(asked), world_of)
    if len(named) == 1:
        return plan_document(read_job(texts[0], named[0][0]), world_of)
    results = []
    for name, text in named:
        try:
            found = plan_document(read_job(text, name), world_of)
        except RigwiseError as error:
            found = {"error": error.as_dict()}
        results.append({"file": name, **found})
    return {"schema": SCHEMA, "results": results}


def _shared(named: Iterable[tuple[str, Any]], given: dict[str, Any], world_of: Callable[[str], Any]) -> Any:
    from rigwise.cli.plan_shared import shared_question
    from rigwise.search.shared import plan_shared, shared_document, shared_infeasible

    limits = {name: given[name] for name in ("deadline", "gap") if given[name] is not None}
    question = shared_question(named, limits)
    try:
        return shared_document(plan_shared(question, world_of))
    except InfeasibleError as error:
        return shared_infeasible(question, error)


def names_of(texts: Sequence[str]) -> list[str]:
    r"""What each job is called; none twice.

    >>> names_of(["# tune.toml\n[workload]", "[workload]", "# tune.toml"])
    ['tune.toml', 'job 2', 'job 3']
    >>> names_of(["[workload]"])
    ['job']
    """
    found: list[str] = []
    for number, text in enumerate(texts, 1):
        match = _NAME.match(text)
        plain = f"job {number}" if len(texts) > 1 else "job"
        found.append(match[1] if match and match[1] not in found else plain)
    return found


def read_job(text: str, where: str) -> Job | StagedJob | ServingJob:
    """The job of a file that a stranger wrote.

    Raises:
        RigwiseError: It is none, or names a file, a folder or code; the message begins with ``where``.
    """
    from rigwise.cli.plan_job import money
    from rigwise.workload.job_file import Outside, job_from_tables
    from rigwise.workload.serving_file import is_serving, serving_job_from_tables
    from rigwise.workload.stages import staged_from_tables

    tables, outside = parse_toml(text, where), Outside(money=money)
    job: Job | StagedJob | ServingJob
    if is_serving(tables):
        job = serving_job_from_tables(tables, where, outside)
    elif "stage" in tables:
        job = staged_from_tables(tables, where, outside)
    else:
        job = job_from_tables(tables, where, outside)
    for one in _single(job):
        devices = [*one.devices, *(own.device for own in one.owned), *(quota.device for quota in one.quota)]
        try:
            check_names([one.model], devices)
        except FieldError as error:
            raise FieldError(f"{where}: {error.message}", hint=error.hint, field=JOB) from None
    return job


def _single(job: Job | StagedJob | ServingJob) -> Iterator[Job]:
    """The jobs of one stage that a job is made of."""
    from rigwise.workload.job import StagedJob
    from rigwise.workload.serving_load import ServingJob

    if isinstance(job, StagedJob):
        yield from (stage.job for stage in job.stages)
    else:
        yield job.job if isinstance(job, ServingJob) else job
