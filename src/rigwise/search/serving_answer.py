"""From a serving job to its document and back: the catalogue, the estimator and the checker put together."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from rigwise.edge import as_plain, parse
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.estimate import serving_curve
from rigwise.market.offers import Quote
from rigwise.search.plan import owned_machines, usable_offers
from rigwise.search.serving import plan_serving
from rigwise.search.serving_certificate import check_serving
from rigwise.search.serving_types import ServingClaim, ServingResult
from rigwise.search.types import World
from rigwise.workload.job import check_job
from rigwise.workload.serving_load import ServingJob, check_load

SCHEMA = "rigwise.plan.serving/1"
_CODE = re.compile(r"[\w.]+:\w+")


def answer_serving(request: ServingJob, world: World) -> ServingResult:
    """The cheapest ways to serve, with the proof.

    Raises:
        InfeasibleError: None keeps the limits.
        RigwiseError: The job names something unknown, or means nothing for its model.
    """
    quotes, excluded = _prices(request, world)
    return plan_serving(request, world, serving_curve, quotes, excluded)


def _prices(request: ServingJob, world: World) -> tuple[tuple[Quote, ...], dict[str, int]]:
    selection = usable_offers(request.job, world)
    return (*owned_machines(request.job, world), *selection.quotes), dict(selection.excluded)


def serving_plan_document(result: ServingResult) -> dict[str, Any]:
    """The answer as ``rigwise plan --task serve --json`` prints it."""
    excluded = [{"reason": reason, "count": number} for reason, number in sorted(result.excluded.items())]
    return {"schema": SCHEMA, **as_plain(result), "excluded": excluded}


def infeasible_serving_document(request: ServingJob, error: InfeasibleError) -> dict[str, Any]:
    """The answer where there is no plan: the reason in place of one."""
    return {"schema": SCHEMA, "job": as_plain(request), "plans": [], "infeasible": error.as_dict()}


def read_serving_document(answer: Any, where: str) -> ServingClaim:
    """Read back what ``serving_plan_document`` wrote.

    Raises:
        InvalidInputError: It is no such document, holds no plan, or would have us run code.
    """
    if not isinstance(answer, dict) or answer.get("schema") != SCHEMA:
        raise InvalidInputError(f"{where} is no serving plan: it has no schema {SCHEMA}")
    if not answer.get("plans"):
        raise InvalidInputError(f"{where} holds no plan to verify")
    claim = parse({key: answer.get(key) for key in ("job", "today", "plans", "certificate")}, ServingClaim, where)
    if _CODE.fullmatch(claim.job.job.model):
        raise InvalidInputError(
            f"{where}: job.model is code to run: {claim.job.job.model}", hint="capture it to a .rwg file and plan that"
        )
    return claim


def day_of(claim: ServingClaim, where: str) -> date:
    """The day whose prices a claim rests on.

    Raises:
        InvalidInputError: It is no date.
    """
    try:
        return date.fromisoformat(claim.today)
    except ValueError:
        raise InvalidInputError(f"{where}: today is {claim.today!r}", hint="a date such as 2026-08-01") from None


def verify_serving(claim: ServingClaim, world: World) -> list[str]:
    """What is wrong with a document; nothing if it proves what it says."""
    check_job(claim.job.job, "the job")
    check_load(claim.job.load, "the job")
    quotes, _ = _prices(claim.job, world)
    return check_serving(claim, world, serving_curve, quotes)
