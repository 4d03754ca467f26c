"""Read a serving job from the tables of a job file, or from flags arranged like them.

Beside its ``[workload]`` it is a job as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from rigwise.edge import parse
from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.units import parse_fraction, parse_rate, parse_seconds
from rigwise.workload.job import Job, label
from rigwise.workload.job_file import Outside, Reader, job_from_file
from rigwise.workload.job_tables import JobFile, Quantity, WorkloadTable
from rigwise.workload.serving_load import Serving, ServingJob, check_load

_NEEDED = ("rate", "prompt", "output_tokens")
_KEYS = (*_NEEDED, "ttft", "tpot", "utilisation", "duration")


def is_serving(tables: Mapping[str, Any]) -> bool:
    """Whether tables ask for serving."""
    work = tables.get("workload")
    return isinstance(work, Mapping) and work.get("task") == "serve"


def serving_job_from_tables(tables: Mapping[str, Any], where: str, outside: Outside | None = None) -> ServingJob:
    """Read the tables of a serving job.

    Raises:
        InvalidInputError: A key is unknown, missing or of no meaning here, or its value means nothing.
        UnsupportedError: An objective other than cost.
    """
    file, outside = parse(dict(tables), JobFile, where), outside or Outside()
    load = _load(file.workload, Reader(where=where, outside=outside))
    request = WorkloadTable(model=file.workload.model, task="decode", tokens=float(load.output_tokens))
    job = job_from_file(replace(file, workload=request), where, outside)
    _check_job(job, where)
    return ServingJob(load=load, job=job)


def _load(work: WorkloadTable, read: Reader) -> Serving:
    usual = WorkloadTable(model=work.model, task="serve")
    for each in fields(WorkloadTable):
        if each.name not in _KEYS and getattr(work, each.name) != getattr(usual, each.name):
            raise read.fault(f"workload.{each.name}", "means nothing when serving", "rate, prompt and output say what")
    if missing := [label(f"workload.{key}", read.where) for key in _NEEDED if getattr(work, key) is None]:
        raise InvalidInputError(
            f"{read.where}: serving needs {' and '.join(missing)}",
            hint="for example --rate 20/s --prompt 2k --output-tokens 300 --ttft 500ms --tpot 40ms",
        )
    usual_load = Serving(rate_per_s=1.0, prompt_tokens=1, output_tokens=1)
    share = read("workload.utilisation", work.utilisation, parse_fraction)
    duration_s = read("workload.duration", work.duration, parse_seconds)
    load = Serving(
        rate_per_s=read.given("workload.rate", work.rate or "", parse_rate),
        prompt_tokens=read.whole("workload.prompt", work.prompt) or 0,
        output_tokens=read.whole("workload.output_tokens", work.output_tokens) or 0,
        ttft_s=read("workload.ttft", work.ttft, _with_unit),
        tpot_s=read("workload.tpot", work.tpot, _with_unit),
        utilisation_frac=usual_load.utilisation_frac if share is None else share,
        duration_s=usual_load.duration_s if duration_s is None else duration_s,
    )
    return check_load(load, read.where)


def _with_unit(text: Quantity) -> float:
    """Seconds; a bare number would be taken for seconds, and is mostly meant to be milliseconds."""
    if isinstance(text, int | float) or text.strip()[-1:].isdigit():
        raise InvalidInputError(f"duration {text!r} has no unit", hint="write 500ms or 0.5s")
    return parse_seconds(text)


def _check_job(job: Job, where: str) -> None:
    """Refuse what a job of a certain length can ask for and a server cannot."""
    if job.minimize != "cost" or job.value_of_time_usd_per_h:
        raise UnsupportedError(
            f"{where}: serving is planned for the least cost only", hint="ttft and tpot limit the time of a request"
        )
    for key, value in (("constraints.deadline", job.deadline_s), ("data.size", job.data), ("market.buy", job.buy)):
        if value:
            raise InvalidInputError(f"{where}: {label(key, where)} means nothing when serving", hint="leave it out")
