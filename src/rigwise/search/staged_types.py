"""What the search for stages and its checker share: the words of the answer, and no way of working."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from rigwise.search.types import Plan, Quantiles
from rigwise.workload.job import StagedJob

SCHEMA = "rigwise.plan.staged/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the answer.

    Attributes:
        name, stay: As in the job.
        plan: Where and how it runs.
        move_s, move_usd: What it took to get there from the stage before.
    """

    name: str
    stay: bool
    plan: Plan
    move_s: float
    move_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCertificate:
    """Why no other chain is better.

    Attributes:
        objective: What is minimised, at the median.
        best, lower_bound, gap_frac: As in ``Certificate``.
        listed: Leaves of each stage that were told apart.
        unlisted: The least objective that a leaf not listed can have, by stage; None if all are listed.
        labels: Chains, whole or not, that were looked at.
        wall_s: Time of the search.
        stopped: Whether it was ended before the gap was closed.
    """

    objective: str
    best: float
    lower_bound: float
    gap_frac: float
    listed: tuple[int, ...]
    unlisted: tuple[float | None, ...]
    labels: int
    wall_s: float
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedResult:
    """The answer to a job of several stages. ``energy_j`` is None where that of a stage is not known."""

    job: StagedJob
    today: str
    assumed: tuple[str, ...]
    stages: tuple[StagePlan, ...]
    time_s: Quantiles
    cost_usd: Quantiles
    energy_j: float | None
    certificate: StagedCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedClaim:
    """What of an answer is to be proven again."""

    job: StagedJob
    today: date
    stages: tuple[StagePlan, ...]
    time_s: Quantiles
    cost_usd: Quantiles
    certificate: StagedCertificate
