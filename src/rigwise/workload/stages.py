"""Read a job of several stages: what each stage does not say itself it has from the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from rigwise.edge import parse, parse_toml
from rigwise.errors import InvalidInputError
from rigwise.workload.job import Job, OwnedMachine, Stage, StagedJob, check_owned
from rigwise.workload.job_file import Outside, job_from_file, job_from_tables
from rigwise.workload.job_tables import ConstraintsTable, JobFile, StagedFile, StageTable, WorkloadTable

_MAX_STAGES = 50
_ALONE = Outside()


def any_job_from_toml(text: str, where: str, outside: Outside = _ALONE) -> Job | StagedJob:
    """Read a job file of one stage or several.

    Raises:
        InvalidInputError: Not TOML, an unknown key or a value that means nothing; names file and key.
        UnsupportedError: Something that is not planned yet.
    """
    tables = parse_toml(text, where)
    return staged_from_tables(tables, where, outside) if "stage" in tables else job_from_tables(tables, where, outside)


def staged_from_tables(tables: Mapping[str, Any], where: str, outside: Outside = _ALONE) -> StagedJob:
    """Read the tables of a job of several stages; same errors as ``any_job_from_toml``."""
    if "workload" in tables:
        raise InvalidInputError(f"{where}: both [workload] and [[stage]]", hint="write each workload as a [[stage]]")
    file = parse(dict(tables), StagedFile, where)
    if not 1 <= len(file.stage) <= _MAX_STAGES:
        raise InvalidInputError(f"{where}: {len(file.stage)} stages", hint=f"write 1 to {_MAX_STAGES}")
    whole = _whole(file, where, outside)
    stages = tuple(_stage(file, index, where, outside) for index in range(len(file.stage)))
    names = [stage.name for stage in stages]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidInputError(f"{where}: two stages are called {twice!r}")
    if stages[0].stay:
        raise InvalidInputError(f"{where}: stage {names[0]!r} is the first and cannot stay", hint="leave stay out")
    return StagedJob(
        stages=stages,
        deadline_s=whole.deadline_s,
        budget_usd=whole.budget_usd,
        minimize=whole.minimize,
        confidence=whole.confidence,
    )


def _whole(file: StagedFile, where: str, outside: Outside) -> Job:
    """The limits and the aim of all stages together, read as those of a job are."""
    return job_from_file(_file(file, file.stage[0], file.constraints), where, outside)


def _stage(file: StagedFile, index: int, where: str, outside: Outside) -> Stage:
    table = file.stage[index]
    name = table.name or f"stage {index + 1}"
    try:
        job = job_from_file(_file(file, table, _own_limits(file, table)), where, outside)
    except InvalidInputError as error:
        message = error.message.removeprefix(f"{where}: ")
        raise InvalidInputError(f"{where}: stage {name!r}: {message}", hint=error.hint) from None
    return Stage(name=name, job=job, stay=table.stay)


def _file(file: StagedFile, table: StageTable, constraints: ConstraintsTable) -> JobFile:
    workload = WorkloadTable(**{f.name: getattr(table, f.name) for f in fields(WorkloadTable)})
    return JobFile(
        workload=workload, data=table.data, constraints=constraints, market=file.market, objective=file.objective
    )


def _own_limits(file: StagedFile, table: StageTable) -> ConstraintsTable:
    """What a stage must keep: its own limits, and those of the whole that are not sums over stages."""
    shared = replace(file.constraints, deadline=None, budget=None)
    if table.constraints is None:
        return shared
    plain = ConstraintsTable()
    changed = {
        f.name: value
        for f in fields(ConstraintsTable)
        if (value := getattr(table.constraints, f.name)) != getattr(plain, f.name)
    }
    return replace(shared, **changed)


def with_owned_everywhere(job: StagedJob, owned: tuple[OwnedMachine, ...], where: str) -> StagedJob:
    """The stages with more machines that already stand there."""
    stages = tuple(
        replace(stage, job=replace(stage.job, owned=check_owned(stage.job.owned + owned, where)))
        for stage in job.stages
    )
    return replace(job, stages=stages)
