"""Plan many jobs at once: each is a question of its own, so they are spread over processes as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from rigwise.errors import InfeasibleError, RigwiseError, RunError
from rigwise.estimate.calibration import Learned, calibrated_with, load_calibration
from rigwise.execute.spread import Engine, spread
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model, zoo_names
from rigwise.search.plan import catalogue_world, document, infeasible_document, plan
from rigwise.search.types import World
from rigwise.workload.job import Job

SCHEMA = "rigwise.plans/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One job with all that another process needs to answer as this one would.

    Attributes:
        job: What is asked.
        today: Prices are as old as this day makes them.
        model: The model, None for one of the zoo, which is read over there.
        learned: What the user measured.
    """

    job: Job
    today: date
    model: Model | None
    learned: Learned | None


def plans_document(named: Sequence[tuple[str, Job | RigwiseError]], today: date, engine: Engine) -> dict[str, Any]:
    """All answers as ``rigwise plan A.toml B.toml --json`` prints them; ``failed`` tells whether one is missing."""
    return {"schema": SCHEMA, "results": list(answers(named, today, engine))}


def answers(
    named: Sequence[tuple[str, Job | RigwiseError]], today: date, engine: Engine
) -> Iterator[dict[str, Any]]:
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


def is_answered(answer: dict[str, Any]) -> bool:
    """Whether an answer holds a plan."""
    return "error" not in answer and "infeasible" not in answer


def _question(job: Job | RigwiseError, today: date, learned: Learned | None) -> _Question | RigwiseError:
    if isinstance(job, RigwiseError):
        return job
    try:
        model = None if job.model.lower() in zoo_names() else load_model(job.model)
    except RigwiseError as error:
        return error
    return _Question(job=job, today=today, model=model, learned=learned)


def _error(error: RigwiseError) -> dict[str, Any]:
    return {"error": error.as_dict()}


def _answer(question: _Question) -> dict[str, Any]:
    """The document that answers a question, in whatever process."""
    job = question.job
    with calibrated_with(question.learned):
        try:
            return document(plan(job, _world(question)))
        except InfeasibleError as error:
            return infeasible_document(job, error)
        except RigwiseError as error:
            return _error(error)


def _world(question: _Question) -> World:
    return _zoo_world(question.job.model, question.today) if question.model is None else catalogue_world(
        question.model, question.today
    )


@lru_cache(maxsize=8)
def _zoo_world(model: str, today: date) -> World:
    return catalogue_world(model, today)
