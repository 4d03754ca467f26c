"""What the search and its checker share: the words they use, and no way of working.

The checker derives candidates, bounds and values with code of its own; that both fill these
types is all they have in common.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.billing import Billing
from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.facts.subscription import Subscription
from rigwise.graph.graph import Model
from rigwise.machine.machine import Machine
from rigwise.market.offers import Quote
from rigwise.market.shelf import Purchases
from rigwise.shown import Shown
from rigwise.workload.case import Case, Parallel
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe
from rigwise.workload.recipes import Recipes

Array = NDArray[np.float64]

#: A state by the names of the choices made: family, device class, site, and whether activations
#: are kept or computed again. The empty one is the root.
State = tuple[str, ...]
KEEP, RECOMPUTE = "keep", "recompute"

#: Ways in which leaves can be ruled out unseen, in the order in which they are tried.
REASONS = ("memory", "deadline", "budget", "bound")


class FleetEstimate(Protocol):
    """What the search needs of an estimate: arrays over machines, nan where one cannot run the recipe."""

    @property
    def step_p10_s(self) -> Array:
        """Time of one step, a tenth of outcomes below."""

    @property
    def step_p50_s(self) -> Array:
        """Median time of one step."""

    @property
    def step_p90_s(self) -> Array:
        """Time of one step, a tenth of outcomes above."""

    @property
    def memory_p50_bytes(self) -> Array:
        """Peak memory of the fullest device."""

    @property
    def memory_capacity_bytes(self) -> Array:
        """What the device has."""

    @property
    def fit_probability(self) -> Array:
        """Probability that the one is below the other."""

    @property
    def energy_p50_j(self) -> Array:
        """Energy of one step over all devices; nan where nothing is known of it."""


class Physics(Protocol):
    """The estimator, as a module or an object: ``rigwise.estimate.fleet``, or a toy in a test.

    It may have ``least_family_s(case, family, machines, recipes, model)`` as well: a lower bound of the time of a
    step ``[machines]`` over all recipes of a family that each machine has, nan where there is none; ;
    ``least_steps(least, places)``: ``least_step_s`` and ``least_energy_j`` of pairs of a device and a count; and
    ``kept_figures(case, family, model)``: a dictionary that lasts beyond a search, for figures by machine.
    """

    def estimate_fleet(
        self, case: Case, recipe: Recipe, machines: Sequence[Machine], model: Model | None = None
    ) -> FleetEstimate:
        """One recipe on many machines."""

    def estimate_recipes(
        self,
        case: Case,
        recipes: Recipes,
        machines: Sequence[Machine],
        model: Model | None = None,
        wanted: NDArray[np.bool_] | None = None,
    ) -> FleetEstimate:
        """Several recipes on many machines ``[recipes, machines]``; of pairs that are not wanted nan will do."""

    def least_work(self, case: Case, dtype: str, model: Model | None = None) -> Any:
        """What one step cannot do without in a number format."""

    def least_step_s(self, least: Any, device: Device, count: int = 1) -> float:
        """Lower bound of the time of that work, nan where the device lacks the format."""

    def least_energy_j(self, least: Any, device: Device, count: int = 1) -> float:
        """Lower bound of the energy of that work over all devices, 0 where nothing is known of it."""

    def least_memory_bytes(self, case: Case, dtype: str, count: int, model: Model | None = None) -> float:
        """Lower bound of the memory of one device of ``count``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything a plan depends on beside the job.

    Attributes:
        offers: Rows of the catalogue, faults and all.
        device: Looks a device up by catalogue id or common name.
        model: The job's model.
        today: Prices are as old as this day makes them.
        physics: The estimator.
        billing: How providers bill, where it is known.
        subscriptions: Plans of notebooks.
        grams_per_kwh: Carbon intensity of the electricity of a quote, nan where it is not known.
        country: Country of an offer's region, two letters; empty where it is not known.
        to_buy: What can be bought for a job.
        stop: Asked often, with the best value found and the bound of what is open: whether to end the search there.
        clock_s: A clock, for the time the search took.
    """

    offers: Sequence[Offer]
    device: Callable[[str], Device]
    model: Model
    today: date
    physics: Physics
    billing: Mapping[str, Billing] = field(default_factory=dict)
    subscriptions: Sequence[Subscription] = ()
    grams_per_kwh: Callable[[Quote], float] = field(default=lambda _: np.nan)
    country: Callable[[Offer], str] = field(default=lambda _: "")
    to_buy: Callable[[Job], Purchases] = field(default=lambda _: Purchases(quotes=(), excluded={}))
    stop: Callable[[float, float], bool] = field(default=lambda best, bound: False)
    clock_s: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """A tenth of outcomes lies below ``p10``, half below ``p50``, a tenth above ``p90``."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to do the job. Field by field as ``rigwise plan --json`` prints it.

    Attributes:
        rank: 1 is the best; 0 outside a ranking.
        kind: ``rent``, ``own`` or ``buy``.
        provider, instance, region, market: The offer; ``market`` is on-demand, spot, reserved or owned.
        device: Catalogue id; of several possible variants the slowest.
        variants: All of them, where the provider does not say which.
        count, nodes: Devices that work, over all nodes; whole instances that are rented.
        idle: Devices that are rented and have nothing to do.
        usd_per_h: Price of all instances together.
        dtype, layout, mode, micro_batch, accumulation, recompute, parallel: How each step is computed.
        time_s, cost_usd, energy_j: Of the whole job.
        machines: Of these at once, for the runs of a sweep.
        cost_terms: What the median cost is made of.
        capital_usd: Money that must be at hand beside the cost and comes back: the resale of what is bought.
        carbon_g: Carbon dioxide of the electricity, None where nothing is known of it.
        memory_bytes, memory_capacity_bytes, fit_probability: Of the fullest device.
        price_date: Day of the price, empty for owned machines.
        p_best: Probability of being the best of all that were estimated, one for each machine.
        p_ahead: Probability of being better than the first plan.
        expected_regret_usd: How much cheaper the cheapest of them would be on average, in hindsight.
        why: Sentences.
    """

    rank: int = 0
    kind: str
    provider: str
    instance: str
    region: str
    market: str
    device: str
    variants: tuple[str, ...] = ()
    count: int
    nodes: int
    idle: int = 0
    usd_per_h: float
    dtype: str
    layout: str
    mode: str
    micro_batch: int
    accumulation: int
    recompute: str
    parallel: Parallel
    time_s: Quantiles
    cost_usd: Quantiles
    cost_terms: Mapping[str, float]
    energy_j: float | None
    carbon_g: float | None = None
    capital_usd: float = 0.0
    machines: int = 1
    memory_bytes: float
    memory_capacity_bytes: float
    fit_probability: float
    price_date: str
    p_best: float = 0.0
    p_ahead: float = 0.0
    expected_regret_usd: float = 0.0
    why: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it is, in words."""
        region = f" {self.region}" if self.region else ""
        return f"{self.provider} {self.instance}{region}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverEntry:
    """One part of the candidate tree and what became of it.

    Attributes:
        state: Names of the choices made.
        verdict: ``estimated``, or one of ``REASONS``.
        number: Best value found (None if no leaf is feasible), or the bound that rules the part out.
    """

    state: State
    verdict: str
    number: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Why the first plan is the best one: what was estimated, and what rules out everything else.

    Attributes:
        objective: ``cost``, ``time``, ``energy``, ``carbon`` or ``weights``, at the median.
        best: Its value: dollars, seconds, joules or grams.
        lower_bound: No candidate has a smaller value.
        gap_frac: ``best / lower_bound - 1``.
        candidates: Leaves in all; ``estimated`` and the counts of ``pruned`` add up to it.
        expanded: States that were expanded.
        wall_s: Time of the search.
        method: ``astar`` or ``exhaustive``.
        stopped: Whether the search was ended before it had closed the gap that was asked for.
        reasons: What each verdict means here, with the figures it rests on.
        cover: Every candidate once.
    """

    objective: str
    best: float
    lower_bound: float
    gap_frac: float
    candidates: int
    expanded: int
    estimated: int
    pruned: Mapping[str, int]
    wall_s: float
    method: str
    stopped: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    cover: tuple[CoverEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult(Shown):
    """The answer to a job. ``plans[0]`` is the best; ``frontier`` runs from the cheapest to the fastest."""

    job: Job
    today: str
    assumed: tuple[str, ...]
    plans: tuple[Plan, ...]
    certificate: Certificate
    cheapest: Plan
    fastest: Plan
    frontier: tuple[Plan, ...]
    excluded: Mapping[str, int]
    fallbacks: tuple[Plan, ...]
    advice: tuple[str, ...]


def site_name(machine: Machine, have: int, limit_s: float, owner: str) -> str:
    """What tells equal machines of one device class apart in a state: a label, and no more.

    >>> site_name(Machine(device=None, count=16, nodes=2, link="nvlink", inter_node_bytes_per_s=5e10), 8, np.inf, "")
    '2 x 8 nvlink 50GB/s'
    """
    used = machine.devices_per_node
    parts = [f"{machine.nodes} x {used}", f"of {have}" if have > used else "", machine.link]
    if machine.inter_node_bytes_per_s is not None:
        parts.append(f"{machine.inter_node_bytes_per_s / 1e9:.12g}GB/s")
    if limit_s != np.inf:
        parts.append(f"up to {limit_s / 3600:.12g}h")
    parts.append(f"owned {owner}" if owner else "")
    return " ".join(part for part in parts if part)
