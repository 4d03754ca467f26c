"""What the search for a serving fleet and its checker share: words, and no way of working."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rigwise.estimate.serving_curve import Curves, Floors
from rigwise.estimate.serving_step import Replica
from rigwise.graph.graph import Model
from rigwise.machine.machine import Machine
from rigwise.search.types import Quantiles
from rigwise.workload.case import Parallel
from rigwise.workload.serving_load import Serving, ServingJob

#: A state by the names of the choices made: format, device class, instance, devices of a replica.
ServingState = tuple[str, str, str, int]

#: Ways in which a state is ruled out unseen, in the order in which they are tried.
REASONS = ("memory", "ttft", "tpot", "limits", "bound")


def instance_name(have: int, link: str, owner: str) -> str:
    """What tells equal instances of one device class apart in a state: a label, and no more.

    >>> instance_name(8, "nvlink", ""), instance_name(1, "", "box")
    ('8 nvlink', '1 owned box')
    """
    return " ".join(part for part in (str(have), link, f"owned {owner}" if owner else "") if part)


class ServingPhysics(Protocol):
    """The estimator, as a module or an object: ``rigwise.estimate.serving_curve``, or a toy in a test."""

    def tensor_sizes(self, model: Model) -> tuple[int, ...]:
        """Devices of which a replica can be made."""

    def check_servable(self, model: Model, load: Serving) -> None:
        """Raise where the model cannot take the requests at all."""

    def replica_floors(self, replica: Replica, machines: Sequence[Machine]) -> Floors:
        """Bounds of a replica on many instances; nan where one cannot run it."""

    def replica_curves(self, replica: Replica, machines: Sequence[Machine]) -> Curves:
        """Estimates of a replica on many instances; nan where one cannot run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the replicas of a plan work. Times are quantiles of the estimate at ``sequences`` at one time.

    Attributes:
        replicas: Equal copies of the model among all instances.
        rate_per_s: Requests in a second of each; ``most_rate_per_s``: the most it takes within the
            limits, with the job's confidence.
        load_frac: The one over the other.
        sequences, most_sequences: At one time in each replica, on average; the most that fit its memory.
        ttft_s, tpot_s: Time to the first token; mean time for each one after it, None without one.
        decode_step_s, prefill_s: One step of ``sequences``; one prompt.
        prefill_frac: Share of the time that goes to prompts.
        request_s: Median time of a whole request.
        output_tokens_per_s: Of all replicas.
        limits_probability: Chance that both limits are kept at this rate.
        up_frac: Part of the time that an instance of spot capacity serves.
        usd_per_million_tokens: Prompt and output tokens together; ``input`` and ``output`` by the time
            that each takes.
    """

    replicas: int
    rate_per_s: float
    most_rate_per_s: float
    load_frac: float
    sequences: float
    most_sequences: int
    ttft_s: Quantiles
    tpot_s: Quantiles | None
    decode_step_s: Quantiles
    prefill_s: Quantiles
    prefill_frac: float
    request_s: float
    output_tokens_per_s: float
    limits_probability: float
    up_frac: float
    usd_per_million_tokens: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """One way to serve. Field by field as ``rigwise plan --task serve --json`` prints it.

    Attributes:
        rank, kind, provider, instance, region, market, device, variants, idle, price_date: As of a ``Plan``.
        count, nodes: Devices that work; instances.
        usd_per_h: Price of all instances together.
        dtype, parallel: Of each replica.
        time_s: The load's duration, as it was asked for.
        cost_usd: Of the load's duration; the price is certain, so the quantiles are equal.
        memory_bytes, memory_capacity_bytes, fit_probability: Of a device at its fullest.
        serving: How the replicas work.
        p_best: Chance of being the cheapest of the plans shown, each sized by how quick its device really is.
        expected_regret_usd: How much cheaper the cheapest of them would be on average, so sized.
        why: Sentences.
    """

    rank: int
    kind: str
    provider: str
    instance: str
    region: str
    market: str
    device: str
    variants: tuple[str, ...]
    count: int
    nodes: int
    idle: int
    usd_per_h: float
    dtype: str
    parallel: Parallel
    time_s: Quantiles
    cost_usd: Quantiles
    memory_bytes: float
    memory_capacity_bytes: float
    fit_probability: float
    price_date: str
    serving: Figures
    p_best: float = 0.0
    expected_regret_usd: float = 0.0
    why: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it is, in words."""
        region = f" {self.region}" if self.region else ""
        return f"{self.provider} {self.instance}{region}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCover:
    """One state and what became of it.

    Attributes:
        state: The choices made.
        verdict: ``estimated``, or one of ``REASONS``.
        number: Least cost found or bounded; the bytes or seconds that a limit excludes; None for none.
    """

    state: ServingState
    verdict: str
    number: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCertificate:
    """Why the first plan is the cheapest: every state, with what was found or what rules it out.

    Attributes:
        objective: ``cost``, of the load's duration.
        best, lower_bound, gap_frac: Dollars of the first plan; no candidate costs less; 0.
        candidates: Prices of all states; ``estimated`` and the counts of ``pruned`` add up to it.
        method: ``exhaustive``: whatever the bounds leave is estimated.
        wall_s: Time of the search.
        reasons: What each verdict means.
        cover: Every state once.
    """

    objective: str
    best: float
    lower_bound: float
    gap_frac: float
    candidates: int
    estimated: int
    pruned: Mapping[str, int]
    method: str
    wall_s: float
    reasons: Mapping[str, str]
    cover: tuple[ServingCover, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult:
    """The answer to a serving job; ``plans[0]`` is the cheapest, ``fallbacks`` are the next three."""

    job: ServingJob
    today: str
    assumed: tuple[str, ...]
    plans: tuple[ServingPlan, ...]
    certificate: ServingCertificate
    fallbacks: tuple[ServingPlan, ...]
    excluded: Mapping[str, int]
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingClaim:
    """What of a document is to be proven again."""

    job: ServingJob
    today: str
    plans: tuple[ServingPlan, ...]
    certificate: ServingCertificate


MEANING = {
    "memory": "weights and one request do not fit a device",
    "ttft": "no step and prompt can be that quick",
    "tpot": "no decode step of one request can be that quick",
    "limits": "the instances that it needs at best exceed the budget, a cap, a quota or what is owned",
    "bound": "the instances that it needs at best cost no less than the last plan shown",
}

ASSUMED = (
    "the steady state at an even rate, without queues and the long waits that they make",
    "every request has the same prompt and output length",
    "no two prompts share a beginning",
    "prompts and decode steps run one after the other, so weights are read for each",
    "a request holds the cache of its whole length from the start",
)
