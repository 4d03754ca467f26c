"""What of the answer of ``rigwise rig build`` is proven again: the question in full, the parts, the figures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Any

from rigwise.edge import parse
from rigwise.errors import InvalidInputError
from rigwise.rig.options import Wish
from rigwise.rig.types import Feed, Rig
from rigwise.workload.job import Job, check_job
from rigwise.workload.untrusted import refuse_code

BUILD_SCHEMA = "rigwise.rig.build/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as a document holds it: everything that the answer depends on beside tables and estimator.

    Attributes:
        job: What "fast" means.
        minimize: ``time`` or ``cost``.
        budget_usd, deadline_s: Limits, None for none.
        mains, wish, owned, feed: As in ``build.Ask``.
    """

    job: Job
    minimize: str
    budget_usd: float | None
    deadline_s: float | None
    mains: str
    wish: Wish
    owned: Rig | None
    feed: Feed

    @property
    def most_usd(self) -> float:
        """The budget, infinite for none."""
        return inf if self.budget_usd is None else self.budget_usd

    @property
    def within_s(self) -> float:
        """The deadline, infinite for none."""
        return inf if self.deadline_s is None else self.deadline_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPart:
    """One part of the answer, as it is named and what is paid for it."""

    kind: str
    name: str
    action: str
    price_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedFinding:
    """What a rule is said to say of the build."""

    rule: str
    severity: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedProof:
    """The figures of the certificate."""

    objective: str
    best: float
    lower_bound: float
    candidates: int
    estimated: int
    pruned: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedFurther:
    """What more money is said to buy."""

    total_usd: float
    more_usd: float
    samples_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClaim:
    """An answer, as far as it is proven again. ``parts`` are compared as they are written."""

    question: Asked
    total_usd: float
    samples_per_s: float | None
    time_s: float | None
    chosen: tuple[ClaimedPart, ...]
    parts: list[dict[str, Any]]
    findings: tuple[ClaimedFinding, ...]
    certificate: ClaimedProof
    further: ClaimedFurther | None


#: Of these keys a document tells more than is proven.
_KINDS: dict[str, type] = {
    "findings": ClaimedFinding,
    "chosen": ClaimedPart,
    "certificate": ClaimedProof,
    "further": ClaimedFurther,
}


def read_claim(answer: Any, where: str) -> BuildClaim:
    """Read back what ``rigwise rig build --json`` wrote.

    Raises:
        InvalidInputError: It is no such document, lacks the question, or would have us run code.
    """
    if not isinstance(answer, dict) or answer.get("schema") != BUILD_SCHEMA:
        raise InvalidInputError(
            f"{where} is no build: it has no schema {BUILD_SCHEMA}", hint="rigwise rig build --output writes one"
        )
    if not isinstance(answer.get("question"), dict):
        raise InvalidInputError(f"{where} does not hold its question", hint="build it again with this version")
    speed = answer.get("speed")
    plain: dict[str, Any] = {field.name: answer.get(field.name) for field in fields(BuildClaim)}
    plain["samples_per_s"] = speed.get("samples_per_s") if isinstance(speed, dict) else None
    for name, kind in _KINDS.items():
        one = plain[name]
        plain[name] = [_only(each, kind) for each in one] if isinstance(one, list) else _only(one, kind)
    claim = parse(plain, BuildClaim, where)
    refuse_code(claim.question.job.model, where)
    check_job(claim.question.job, where)
    return claim


def _only(one: Any, kind: type) -> Any:
    """Of a table the keys that are proven."""
    if not isinstance(one, dict):
        return one
    return {field.name: one[field.name] for field in fields(kind) if field.name in one}
