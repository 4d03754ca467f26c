"""From a job to its plans: the question put to the search, and the answer put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import inf
from typing import Any

from rigwise.edge import as_plain, parse
from rigwise.errors import InfeasibleError, InvalidInputError, MissingFactError, UnknownNameError
from rigwise.graph.graph import Model
from rigwise.market.carbon import grams_per_kwh
from rigwise.market.offers import Quote, Rules, Selection, owned_quote, refusal, select
from rigwise.market.subscription import subscription_quotes
from rigwise.market.terms import Terms, to_know
from rigwise.market.to_buy import purchases_for
from rigwise.market.upgrade import owned_tariff
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, Least, least, reasons
from rigwise.search.certificate import check
from rigwise.search.claims import check_plans
from rigwise.search.company import in_company
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import Exhaustive, is_quicker
from rigwise.search.explain import advice, plan_of, with_reasons
from rigwise.search.frontier import frontier
from rigwise.search.pause import without_collector
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.question import Question, candidates
from rigwise.search.relax import infeasible, nothing_to_rent
from rigwise.search.space import Surroundings, build_space
from rigwise.search.types import KEEP, REASONS, Certificate, CoverEntry, Plan, PlanResult, State, World
from rigwise.workload.choices import settle
from rigwise.workload.job import Job, check_job
from rigwise.workload.untrusted import refuse_code

SCHEMA = "rigwise.plan/1"
_NOTHING = 1e-9


@without_collector()
def plan(job: Job, world: World) -> PlanResult:
    """The best ways to do a job, with the proof that they are.

    Best under the estimate, that is: at the median, among candidates that keep every limit with
    the job's confidence.

    Raises:
        InfeasibleError: No candidate keeps the limits; says which limit to move and how far.
        RigwiseError: The job names something unknown, or means nothing for its model.
    """
    started_s = world.clock_s()
    selection = all_quotes(job, world)
    quotes = selection.quotes
    if not quotes:
        raise nothing_to_rent(selection.excluded)
    space = build_space(settle(job, world.model), quotes, surroundings(job, world))
    floor, goal = least(space, world.physics), Goal.of(job)
    problem = PlanProblem(space, floor, Estimates(space, world.physics), goal)
    search: AStar[State, Leaf] | Exhaustive = AStar(problem, (), gap_frac=job.gap_frac, stop=world.stop)
    if is_quicker(space.task, job.minimize):
        search = Exhaustive(space, problem.estimates, goal)
        problem.leaves = [leaf for _, leaf in search.leaves]
    ranked = _ranking(search, job.top)
    if not ranked and search.stopped:
        raise KeyboardInterrupt
    if not ranked:
        raise infeasible(space, floor, problem.estimates, goal)
    best = goal.untied(ranked[0][0], ranked[0][1].cost_usd)
    certificate = _certificate(problem, search, best, world.clock_s() - started_s)
    result = _answer(problem, floor, [leaf for _, leaf in ranked], certificate, world)
    result = replace(result, excluded=selection.excluded)
    return replace(result, advice=advice(result, goal, _beside(problem, ranked[0][1], Terms.of(job, world.billing))))


def _beside(problem: PlanProblem, leaf: Leaf, terms: Terms) -> tuple[str, ...]:
    """What to know of the price of a leaf."""
    space, estimates = problem.space, problem.estimates
    step_s = estimates.table(leaf.family).columns["step_p50_s"][leaf.row, estimates.machine_of_site[leaf.site]]
    quote, nodes = space.quotes[leaf.quote], space.sites[leaf.site].machine.nodes
    return to_know(quote, terms, nodes, space.task.steps * float(step_s))


def _answer(
    problem: PlanProblem, floor: Least, ranked: Sequence[Leaf], certificate: Certificate, world: World
) -> PlanResult:
    """The ranked leaves as plans, with the ends and the frontier beside them."""
    space, estimates, job = problem.space, problem.estimates, problem.space.task.job
    problem.leaves.sort(key=problem.rank)  # of leaves that are alike the same one everywhere
    front = frontier(problem, floor, problem.leaves, energy=job.frontier_energy, stop=world.stop)
    ends = front
    if job.frontier_energy:  # which leaves out what it is not known of
        ends = frontier(problem, floor, [*problem.leaves, *front], stop=world.stop)
    cheapest, fastest = (plan_of(space, estimates, _end(name, problem, ranked, ends)) for name in ("cost", "time"))
    company = in_company(problem, ranked, front, [*problem.leaves, *ends])
    plans = with_reasons(company.ranked, fastest, space, problem.goal)
    return PlanResult(
        job=job,
        today=world.today.isoformat(),
        assumed=(*space.task.assumed, *Terms.of(job, world.billing).assumed),
        plans=plans,
        certificate=certificate,
        cheapest=cheapest,
        fastest=fastest,
        frontier=company.frontier,
        excluded={},
        fallbacks=company.fallbacks,
        advice=(),
    )


def usable_offers(job: Job, world: World) -> Selection:
    """The offers that the job allows and the estimator can judge."""

    def unfit(identifier: str) -> str:
        try:
            missing = world.device(identifier).missing()
        except UnknownNameError:
            return "a device that the catalogue does not have"
        return "a device whose figures are incomplete" if missing else ""

    rules = Rules(
        providers=job.providers,
        regions=job.regions,
        devices=tuple(world.device(name).id for name in job.devices),
        spot=job.spot,
        max_age_s=job.max_price_age_s,
    )
    selection = select(world.offers, rules, world.today, unfit)
    paid_monthly = subscription_quotes(world.subscriptions, world.offers, rules, world.today, unfit)
    kept, refused = _sorted_out(
        [*selection.quotes, *paid_monthly.quotes], lambda quote: _abroad(job, world, quote) or refusal(job, quote)
    )
    excluded = Counter(selection.excluded) + Counter(paid_monthly.excluded) + refused
    return Selection(quotes=kept, excluded=dict(sorted(excluded.items())))


def _abroad(job: Job, world: World, quote: Quote) -> str:
    """Why a quote does not lie in the countries that a job must not leave; empty if it does."""
    if not job.countries:
        return ""
    country = world.country(quote.offer)
    if not country:
        return "a region whose country is not known"
    return "" if country in job.countries else "another country"


def all_quotes(job: Job, world: World) -> Selection:
    """What stands there, what can be bought, and what can be rented; and how much may not, by reason."""
    to_rent = usable_offers(job, world)
    if not job.buy:
        return replace(to_rent, quotes=(*owned_machines(job, world), *to_rent.quotes))
    to_buy = world.to_buy(job)
    wanted, refused = _sorted_out([bought.quote for bought in to_buy.quotes], lambda quote: refusal(job, quote))
    excluded = Counter(to_rent.excluded) + Counter(to_buy.excluded) + refused
    quotes = (*owned_machines(job, world), *wanted, *to_rent.quotes)
    return Selection(quotes=quotes, excluded=dict(sorted(excluded.items())))


def _sorted_out(quotes: Iterable[Quote], why_not: Callable[[Quote], str]) -> tuple[tuple[Quote, ...], Counter[str]]:
    """The quotes that nothing speaks against, and how many others there are, by reason."""
    kept: list[Quote] = []
    refused: Counter[str] = Counter()
    for quote in quotes:
        why = why_not(quote)
        if why:
            refused[why] += 1
        else:
            kept.append(quote)
    return tuple(kept), refused


def surroundings(job: Job, world: World) -> Surroundings:
    """What turns the quotes of a job into machines and tariffs."""
    terms = Terms.of(job, world.billing)
    return Surroundings(device=world.device, terms=terms, grams_per_kwh=world.grams_per_kwh)


def owned_machines(job: Job, world: World) -> tuple[Quote, ...]:
    """The machines that already stand there, as quotes.

    Raises:
        MissingFactError: A figure that the estimate needs is not known of one of them.
    """
    quotes = []
    for machine in job.owned:
        device = world.device(machine.device)
        if device.missing():
            raise MissingFactError(
                f"owned machine {machine.name!r}: no {' and no '.join(device.missing())} of {device.id}",
                hint="rigwise devices --incomplete lists what is missing",
            )
        if machine.usd_per_kwh is not None and device.tdp_w is None:
            raise MissingFactError(
                f"owned machine {machine.name!r}: no power limit of {device.id} to count electricity with",
                hint="leave usd_per_kwh out and give usd_per_h",
            )
        tariff = owned_tariff(machine, machine.count * (device.tdp_w or 0.0)) if machine.usd_per_kwh else None
        home = job.countries[0] if len(job.countries) == 1 else ""
        quotes.append(owned_quote(machine, device.id, tariff, home))
    return tuple(quotes)


def catalogue_world(model: str | Model, today: date) -> World:
    """The bundled catalogue and the calibrated estimator, for one model, which may be loaded already.

    Raises:
        RigwiseError: The model cannot be loaded.
    """
    from rigwise.estimate import fleet
    from rigwise.facts import catalogue
    from rigwise.facts.billing import billing
    from rigwise.facts.electricity import country_code
    from rigwise.facts.subscription import subscriptions
    from rigwise.graph.load import load_model
    from rigwise.machine.this import resolve_device

    return World(
        offers=catalogue.offers(),
        subscriptions=subscriptions(),
        device=resolve_device,
        model=load_model(model) if isinstance(model, str) else model,
        today=today,
        physics=fleet,
        billing=billing(),
        grams_per_kwh=lambda quote: grams_per_kwh(quote.offer),
        country=lambda offer: country_code(offer.provider, offer.region),
        to_buy=lambda job: purchases_for(job, catalogue.parts(), lambda name: catalogue.resolve_device(name).id, today),
    )


def document(result: PlanResult) -> dict[str, Any]:
    """The answer as ``rigwise plan --json`` prints it."""
    excluded = [{"reason": reason, "count": number} for reason, number in result.excluded.items()]
    return {"schema": SCHEMA, **as_plain(result), "excluded": excluded}


def infeasible_document(job: Job, error: InfeasibleError) -> dict[str, Any]:
    """The answer where there is no plan: the reason in place of one."""
    return {"schema": SCHEMA, "job": as_plain(job), "plans": [], "infeasible": error.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What of a plan document is to be proven again."""

    job: Job
    today: date
    plans: tuple[Plan, ...]
    certificate: Certificate


def read_document(answer: Any, where: str) -> Claim:
    """Read back what ``document`` wrote.

    Raises:
        InvalidInputError: It is no plan document, holds no plan, or would have us run code.
    """
    if not isinstance(answer, dict) or answer.get("schema") != SCHEMA:
        raise InvalidInputError(
            f"{where} is no plan: it has no schema {SCHEMA}", hint="rigwise plan --output writes one"
        )
    if not answer.get("plans"):
        raise InvalidInputError(f"{where} holds no plan to verify")
    claim = parse({key: answer.get(key) for key in ("job", "today", "plans", "certificate")}, Claim, where)
    refuse_code(claim.job.model, where)
    return claim


def verify(claim: Claim, world: World) -> list[str]:
    """What is wrong with a plan document; nothing if it proves what it says."""
    check_job(claim.job, "the job")
    question = Question.of(claim.job, world)
    quotes = all_quotes(claim.job, world).quotes
    blocks = candidates(question, quotes)
    proof = check(claim.certificate, question, blocks)
    return [*proof, *check_plans(claim.plans, claim.certificate, question, blocks)]


def _ranking(search: Iterable[tuple[float, Leaf]], top: int) -> list[tuple[float, Leaf]]:
    """The best leaf of each of the ``top`` best offers."""
    ranked: dict[tuple[int, int], tuple[float, Leaf]] = {}
    for value, leaf in search:
        ranked.setdefault((leaf.site, leaf.quote), (value, leaf))
        if len(ranked) == top:
            break
    return list(ranked.values())


def _end(objective: str, problem: PlanProblem, ranked: Sequence[Leaf], front: Sequence[Leaf]) -> Leaf:
    """The cheapest or the fastest leaf: one end of the frontier of cost and time."""
    if objective == problem.goal.objective:
        return ranked[0]
    axes = (("cost_usd", "time_s"), ("time_s", "cost_usd"))[objective == "time"]
    return min([*front, *ranked], key=lambda leaf: tuple(getattr(leaf, axis) for axis in axes))


def _certificate(
    problem: PlanProblem, search: AStar[State, Leaf] | Exhaustive, best: float, wall_s: float
) -> Certificate:
    covered, best = search.cover(), _figure(best)
    counts = _counts(problem, [(part.state, part.verdict) for part in covered])
    lower_bound = min(best, _figure(search.lower_bound))
    return Certificate(
        objective=problem.goal.objective,
        best=best,
        lower_bound=lower_bound,
        gap_frac=best / lower_bound - 1 if lower_bound > 0 else 0.0 if best == 0 else 1.0,
        candidates=counts.total(),
        expanded=search.expanded,
        estimated=counts["estimated"],
        pruned={reason: counts[reason] for reason in REASONS},
        wall_s=wall_s,
        method="astar" if isinstance(search, AStar) else "exhaustive",
        stopped=search.stopped,
        reasons=reasons(problem.space, problem.goal, best),
        cover=tuple(
            CoverEntry(
                state=part.state, verdict=part.verdict, number=None if part.number == inf else _figure(part.number)
            )
            for part in covered
        ),
    )


def _figure(value: float) -> float:
    """A value to print: what an hour counts beside the cost, to settle ties, is no money."""
    return 0.0 if value < _NOTHING else value


def _counts(problem: PlanProblem, parts: Iterable[tuple[State, str]]) -> Counter[str]:
    """Leaves by what became of them. A part that is bounded may hold sites that a limit excludes."""
    counts: Counter[str] = Counter({"estimated": 0, **dict.fromkeys(REASONS, 0)})
    sites, task = problem.space.sites, problem.space.task
    number: dict[tuple[int, int], int] = {}
    whole = [(str(family),) for family in task.families]
    for state, verdict in ((s, verdict) for part, verdict in parts for s in ([part] if part else whole)):
        family, below = problem.sites_below(state)
        verdicts = problem.bounds_of(state).verdict
        for index in below.tolist():
            machine = sites[index].machine
            shape = (machine.count, machine.nodes)
            if shape not in number:  # as many in every family
                number[shape] = len(problem.space.recipes(family, machine))
            recipes = number[shape]
            if len(state) == 4:
                kept = recipes // len(task.recomputes)
                recipes = kept if state[3] == KEEP else recipes - kept
            limit = int(verdicts[index])
            reason = "estimated" if verdict == "estimated" else "bound" if limit == -1 else REASONS[limit]
            counts[reason] += recipes * sites[index].prices
    return counts
