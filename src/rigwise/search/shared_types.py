"""What the search for jobs that share machines and its checker have in common: words, and no way of working."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from rigwise.market.offers import SUBSCRIPTION, Quote
from rigwise.search.types import Plan, Quantiles
from rigwise.workload.job import Job

SCHEMA = "rigwise.plan.shared/1"
#: In place of the index of a machine: rented, from the start.
RENT = -1
#: Sums of jobs hold rounding errors; a deadline that is exceeded by less is kept.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to do one job.

    Attributes:
        machine: Index of an owned machine, or ``RENT``.
        number: Of the objective if it starts at once.
        run_s: Median time for which it holds the machine.
        late_s: The same, kept with the confidence of the jobs. Both 0 if it is rented.
    """

    machine: int
    number: float
    run_s: float = 0.0
    late_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One of the jobs, as far as it matters to the others.

    Attributes:
        deadline_s: From now, None for none.
        wait_per_s: What a second of waiting adds to the objective.
        options: The ways to do it by machine, the rented one first; no other of a machine matches one in everything.
    """

    deadline_s: float | None
    wait_per_s: float
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipliers:
    """Prices of what is scarce, by which a bound of the rest is worked out; any that are not negative will do.

    Attributes:
        time: Of a second of each machine until each deadline ``[machines][deadlines]``.
        place: Of being the last on a machine, the last but one and so on ``[machines][places]``.
    """

    time: tuple[tuple[float, ...], ...]
    place: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCover:
    """One part of the tree of choices.

    Attributes:
        state: Options of the first jobs of the order.
        verdict: ``estimated``, ``bound`` or ``dominated``.
        number: The least number below, a bound of it, or what the choices add up to.
        by: Of a dominated state the one that is nowhere worse and goes on in the same way.
    """

    state: tuple[int, ...]
    verdict: str
    number: float
    by: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCertificate:
    """Why no other way to share the machines is better.

    Attributes:
        objective: What is minimised, at the median, added up over the jobs.
        best, lower_bound, gap_frac: As in ``Certificate``.
        works: The jobs with their options.
        order: The order in which their options are chosen, as indices of jobs.
        worth: For the bounds, what each job of the order is taken to be worth; any worths will do.
        grid: Where waiting costs nothing, into how many steps the bounds divide the time until the last deadline.
        multipliers: Where machines can do too many sets of jobs in place of worths, after so many choices.
        expanded: States that were expanded.
        wall_s: Time of the search.
        stopped: Whether it was ended before it had closed the gap that was asked for.
        cover: Every choice that is not ruled out by a deadline once; equal jobs and machines stand for each other.
    """

    objective: str
    best: float
    lower_bound: float
    gap_frac: float
    works: tuple[Work, ...]
    order: tuple[int, ...]
    worth: tuple[float, ...] = ()
    grid: int = 1
    multipliers: tuple[Multipliers, ...] = ()
    expanded: int
    wall_s: float
    stopped: bool = False
    cover: tuple[SharedCover, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedJob:
    """A job and what it is called."""

    name: str
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedJobs:
    """Jobs that are planned together.

    Attributes:
        jobs: In the order in which they were asked.
        deadline_s: Of all of them, None for none; each keeps its own as well.
        gap_frac: A plan at most this much worse than the best will do.
    """

    jobs: tuple[NamedJob, ...]
    deadline_s: float | None = None
    gap_frac: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPlan:
    """One job of the answer.

    Attributes:
        name: As in the question.
        machine: The owned machine that it runs on, empty if it is rented.
        place: 1 is the first on its machine; 0 if it is rented.
        start_s, end_s: From now; those before it are early or late together with it.
        plan: Where and how it runs; its own time only.
    """

    name: str
    machine: str
    place: int
    start_s: Quantiles
    end_s: Quantiles
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedResult:
    """The answer to jobs that share machines: plans in the order of the jobs, and the end of the last of them."""

    question: SharedJobs
    today: str
    machines: tuple[str, ...]
    assumed: tuple[str, ...]
    plans: tuple[SharedPlan, ...]
    cost_usd: Quantiles
    end_s: Quantiles
    energy_j: float | None
    certificate: SharedCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedClaim:
    """What of an answer is to be proven again."""

    question: SharedJobs
    today: date
    machines: tuple[str, ...]
    plans: tuple[SharedPlan, ...]
    cost_usd: Quantiles
    end_s: Quantiles
    certificate: SharedCertificate


def several_can_have(quote: Quote) -> bool:
    """Whether several jobs can rent it at once: sessions and fees of an account are there once."""
    limited = quote.offer.session_cap_s or quote.offer.weekly_quota_s
    return quote.market != SUBSCRIPTION and not limited


def deadlines_of(works: Sequence[Work]) -> tuple[float, ...]:
    """The deadlines that any job has, in order."""
    return tuple(sorted({work.deadline_s for work in works if work.deadline_s is not None}))
