"""The JSON document of an application's answer, and reading it back to prove it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from rigwise.application.answer import answer, check_placement
from rigwise.application.certificate import check_placements
from rigwise.application.costs import cost
from rigwise.application.plan import ApplicationPlan, Move, value_of
from rigwise.application.reader import application_from_tables
from rigwise.application.types import Application
from rigwise.edge import as_plain, parse
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.search.types import Certificate

SCHEMA = "rigwise.application/1"

#: A model of this form is code to run.
_CODE = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What of a document is proven again."""

    name: str
    application: dict[str, Any]
    placements: tuple[dict[str, Any], ...]
    certificate: Certificate
    weights: dict[str, float]


def with_objective(application: Application, optimize: str | None, top: int | None) -> Application:
    """The application with another objective or number of placements, in its tables too."""
    asked = {key: value for key, value in (("optimize", optimize), ("top", top)) if value is not None}
    tables = {**application.tables, "objective": {**application.tables.get("objective", {}), **asked}}
    return replace(application_from_tables(tables, application.where), name=application.name) if asked else application


def application_document(plan: ApplicationPlan) -> dict[str, Any]:
    """The document ``rigwise.application/1``; keys in docs/reference/json.md."""
    costed = plan.costed
    application = costed.application
    document: dict[str, Any] = as_plain(
        {
            "schema": SCHEMA,
            "name": application.name,
            "optimize": application.optimize,
            "offered_per_s": costed.offered_per_s,
            "placements": [{"rank": rank, **as_plain(found)} for rank, found in enumerate(plan.answers, 1)],
            "services": costed.services,
            "refused": costed.refused,
            "moves": [_move(move) for move in plan.moves],
            "certificate": plan.certificate,
            "weights": plan.weights,
            "assumed": application.assumed,
            "application": application.tables,
        }
    )
    return document


def infeasible_document(application: Application, error: InfeasibleError) -> dict[str, Any]:
    """The document where no placement keeps the limits."""
    return {
        "schema": SCHEMA,
        "name": application.name,
        "optimize": application.optimize,
        "placements": [],
        "infeasible": error.as_dict(),
        "application": as_plain(dict(application.tables)),
    }


def _move(move: Move) -> dict[str, Any]:
    found = move.answer
    return {
        "component": move.component,
        "place": move.place,
        "allowed": move.allowed,
        "throughput_per_s": found and found.throughput_per_s,
        "capacity_per_s": found and found.capacity_per_s,
        "latency_s": found and found.latency_s,
        "bottleneck": found and found.bottleneck,
        "usd_per_h": found and found.usd_per_h,
        "why_not": move.why_not,
    }


def read_claim(document: Any, where: str) -> Claim:
    """Read back what ``application_document`` wrote.

    Raises:
        InvalidInputError: It is no such document, holds no placement, or would have us run code.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InvalidInputError(f"{where} is no plan: it has no schema {SCHEMA}")
    if not document.get("placements"):
        raise InvalidInputError(f"{where} holds no placement to verify")
    keys = ("name", "application", "placements", "certificate", "weights")
    claim = parse({key: document.get(key) for key in keys}, Claim, where)
    components = claim.application.get("component")
    for name, table in components.items() if isinstance(components, dict) else ():
        model = table.get("model") if isinstance(table, dict) else None
        if isinstance(model, dict) and _CODE.fullmatch(str(model.get("name"))):
            raise InvalidInputError(
                f"{where}: the model of component.{name} is code to run: {model['name']}",
                hint="capture it to a .rwg file and plan that",
            )
    return claim


def verify_claim(claim: Claim) -> list[str]:
    """What is wrong with a document; nothing if its first placement is proven to be the best.

    Raises:
        RigwiseError: Its application cannot be read.
    """
    costed = cost(application_from_tables(claim.application, claim.name))
    faults = list(check_placements(claim.certificate, costed, claim.weights))
    before = -inf
    for rank, stated in enumerate(claim.placements, 1):
        placement = stated.get("placement")
        if not isinstance(placement, Mapping):
            return [*faults, f"placement {rank} names no places"]
        try:
            check_placement(costed, placement)
        except InvalidInputError as error:
            return [*faults, f"placement {rank}: {error.message}"]
        pinned = [name for name in costed.allowed if placement[name] not in costed.allowed[name]]
        faults += [f"placement {rank}: {name} is not pinned to {placement[name]}" for name in pinned]
        found = answer(costed, placement)
        value = value_of(costed, found)
        if rank == 1 and not _near(value, claim.certificate.best):
            faults.append(f"placement 1 has {value:g}, the certificate proves {claim.certificate.best:g}")
        if value < before * (1 - 1e-8):
            faults.append(f"placement {rank} is better than the one before it")
        before = value
        for key in ("throughput_per_s", "capacity_per_s", "latency_s"):
            faults += [
                f"placement {rank}: {key} is {said!r}, not {true:g}"
                for said, true in _pairs(stated.get(key), getattr(found, key))
                if not _near(said, true)
            ]
    return faults


def _pairs(said: Any, true: Mapping[str, float]) -> list[tuple[Any, float]]:
    return [(said.get(q) if isinstance(said, Mapping) else None, value) for q, value in true.items()]


def _near(one: Any, other: float) -> bool:
    return isinstance(one, int | float) and abs(one - other) <= 1e-8 * abs(other)
