"""Plan many jobs at once: each is a question of its own, so they are spread over processes as they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from rigwise.errors import InfeasibleError, RigwiseError, RunError
from rigwise.estimate.calibration import calibrated_with, load_calibration
from rigwise.estimate.learned import Learned
from rigwise.execute.spread import Engine, spread
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model, zoo_names
from rigwise.search.plan import catalogue_world, document, infeasible_document, plan
from rigwise.search.serving_answer import answer_serving, infeasible_serving_document, serving_plan_document
from rigwise.search.staged import plan_staged, staged_document, staged_infeasible
from rigwise.search.types import World
from rigwise.workload.job import Job, StagedJob
from rigwise.workload.serving_load import ServingJob

SCHEMA = "rigwise.plans/1"
#: A job, or what is wrong with its file.
Asked = Job | StagedJob | ServingJob | RigwiseError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One job with all that another process needs to answer as this one would.

    Attributes:
        job: What is asked.
        today: Prices are as old as this day makes them.
        models: The models that are not of the zoo, which is read over there.
        learned: What the user measured.
    """

    job: Job | StagedJob | ServingJob
    today: date
    models: Mapping[str, Model]
    learned: Learned | None


def answers(named: Sequence[tuple[str, Asked]], today: date, engine: Engine) -> Iterator[dict[str, Any]]:
    """One document for each job in their order: a plan, why there is none, or an error.

    Args:
        named: Files and the jobs in them, or what is wrong with one.
        today: Prices are as old as this day makes them.
        engine: Where the work is done.

    Raises:
        RigwiseError: The engine cannot be used.
    """
    learned = load_calibration().learned
    asked = [_question(job, today, learned) for _, job in named]
    found = spread(_answer, [one for one in asked if isinstance(one, _Question)], engine)
    for (name, _), one in zip(named, asked, strict=True):
        answer = next(found) if isinstance(one, _Question) else _error(one)
        yield {"file": name, **(_error(answer) if isinstance(answer, RunError) else answer)}
    next(found, None)  # nothing more is asked, so the processes end


def is_answered(answer: Mapping[str, Any]) -> bool:
    """Whether an answer holds a plan."""
    return "error" not in answer and "infeasible" not in answer


def _question(job: Asked, today: date, learned: Learned | None) -> _Question | RigwiseError:
    if isinstance(job, RigwiseError):
        return job
    names = _models_of(job)
    try:
        models = {name: load_model(name) for name in sorted(names) if name.lower() not in zoo_names()}
    except RigwiseError as error:
        return error
    return _Question(job=job, today=today, models=models, learned=learned)


def _models_of(job: Job | StagedJob | ServingJob) -> set[str]:
    if isinstance(job, StagedJob):
        return {stage.job.model for stage in job.stages}
    return {job.job.model if isinstance(job, ServingJob) else job.model}


def _error(error: RigwiseError) -> dict[str, Any]:
    return {"error": error.as_dict()}


def _answer(question: _Question) -> dict[str, Any]:
    """The document that answers a question, in whatever process."""

    def world_of(model: str) -> World:
        given = question.models.get(model)
        return _zoo_world(model, question.today) if given is None else catalogue_world(given, question.today)

    with calibrated_with(question.learned):
        try:
            return plan_document(question.job, world_of)
        except RigwiseError as error:
            return _error(error)


def plan_document(job: Job | StagedJob | ServingJob, world_of: Callable[[str], World]) -> dict[str, Any]:
    """The plan of a job, or why there is none, as it is printed of the job alone.

    Raises:
        RigwiseError: The job means nothing for its model.
    """
    try:
        if isinstance(job, StagedJob):
            return staged_document(plan_staged(job, world_of))
        if isinstance(job, ServingJob):
            return serving_plan_document(answer_serving(job, world_of(job.job.model)))
        return document(plan(job, world_of(job.model)))
    except InfeasibleError as error:
        if isinstance(job, StagedJob):
            return staged_infeasible(job, error)
        if isinstance(job, ServingJob):
            return infeasible_serving_document(job, error)
        return infeasible_document(job, error)


@lru_cache(maxsize=8)
def _zoo_world(model: str, today: date) -> World:
    return catalogue_world(model, today)
