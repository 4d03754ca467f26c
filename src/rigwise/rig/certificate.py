"""A second opinion on a build: derive the choices again, and look for a better one with code of its own.

Parts, prices, rules and the estimator are the question, and are shared; nothing of the search is. Each choice of cards
that could be better is taken in turn, and the cheapest computer around it is looked for kind by kind, the board first;
a partial choice is given up when a rule refuses it, or when the cheapest parts of the other kinds make it too dear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf, isclose, prod
from typing import Any

from rigwise.graph.load import load_model
from rigwise.rig.check import RULES, check, judged, parts_of
from rigwise.rig.claim import BuildClaim, ClaimedPart
from rigwise.rig.judged import Given, Rule
from rigwise.rig.options import Option, new_options, setups_of, upgrade_options
from rigwise.rig.power import load_w
from rigwise.rig.speed import speeds
from rigwise.rig.types import KINDS, PROBLEM, UNKNOWN, WARNING, Demand, Rig
from rigwise.workload.choices import Task, settle

_SLACK = 1e-9
#: A dollar counts as this share of the time, so that of equally fast builds the cheaper is better.
_TIE_PER_USD = 1e-9
#: Cards dearer than this many budgets are no choice.
_FAR_BEYOND = 3.0
#: The order in which kinds are chosen here.
_ORDER = ("gpu", "motherboard", "cpu", "ram", "case", "cpu_cooler", "psu", "storage")

Estimator = Any


def verify_build(claim: BuildClaim, estimator: Estimator = speeds) -> list[str]:
    """What is wrong with a build; nothing if it proves what it says."""
    job = claim.question.job
    return list(_faults(claim, _Builds(claim, settle(job, load_model(job.model)), estimator)))


class _Builds:
    """All builds that a question allows.

    Attributes:
        options: By kind.
        demands: What the job makes of each option of cards.
    """

    def __init__(self, claim: BuildClaim, task: Task, estimator: Estimator) -> None:
        asked = claim.question
        self.asked, self.task = asked, task
        owned = asked.owned
        found = new_options(asked.wish) if owned is None else upgrade_options(owned, asked.wish)
        near = tuple(o for o in found["gpu"] if o.price_usd <= _FAR_BEYOND * asked.most_usd)
        self.options: Mapping[str, Sequence[Option]] = {**found, "gpu": near}
        known = estimator(task, setups_of(self.options), task.job.confidence)
        self.demands = [_demand(option, known.get(option.setup), task.job.model) for option in near]
        self._base = replace(owned or Rig(), feed=asked.feed if owned is None else owned.feed)
        before = check(owned, Given(mains=asked.mains)) if owned else ()
        self._tolerated = {f.rule for f in before if f.severity == WARNING}
        self._trusted_w = load_w(owned) if owned else None
        self._known: dict[tuple[object, ...], str] = {}

    def time_s(self, cards: int) -> float:
        """Of one sample."""
        demand = self.demands[cards]
        return 1 / demand.samples_per_s if demand and demand.samples_per_s else inf

    def too_slow(self, cards: int) -> bool:
        """Whether cards miss the deadline in more than one of ten outcomes, or cannot run the job in time at all."""
        demand, most_s = self.demands[cards], self.asked.within_s / self.task.samples
        slow_s = 1 / demand.slow_per_s if demand and demand.slow_per_s else self.time_s(cards)
        return (slow_s if self.time_s(cards) < inf else inf) > most_s

    def rig(self, choice: Mapping[str, int]) -> Rig:
        """The computer of a choice; kinds that are open are empty."""
        parts: dict[str, Any] = {k: self.options[k][choice[k]].parts if k in choice else () for k in KINDS}
        return replace(self._base, **parts)

    def given(self, cards: int) -> Given:
        """What the rules know beside the parts."""
        return Given(mains=self.asked.mains, demand=self.demands[cards])

    def refusal(self, choice: Mapping[str, int], kind: str) -> str:
        """The rule about a kind and others that are chosen that refuses them, empty if none does."""
        for rule in RULES:
            if kind in rule.scope and rule.scope <= choice.keys():
                key = (rule.name, *sorted((k, choice[k]) for k in rule.scope))
                if key not in self._known:
                    self._known[key] = rule.name if self._refuses(rule, {k: choice[k] for k in rule.scope}) else ""
                if self._known[key]:
                    return rule.name
        return ""

    def cheapest_usd(self, cards: int, most_usd: float) -> float:
        """The least cost of a build around some cards that no rule refuses; infinite if that is above the most."""
        least = {kind: min((o.price_usd for o in self.options[kind]), default=inf) for kind in KINDS}
        rest = [sum(least[kind] for kind in _ORDER[depth:]) for depth in range(len(_ORDER) + 1)]
        best = most_usd

        def go_on(choice: dict[str, int], spent_usd: float) -> None:
            nonlocal best
            depth = len(choice)
            if depth == len(_ORDER):
                best = min(best, spent_usd)
                found.append(spent_usd)
                return
            kind = _ORDER[depth]
            for index, option in enumerate(self.options[kind]):
                if spent_usd + option.price_usd + rest[depth + 1] > best * (1 + _SLACK):
                    break
                further = {**choice, kind: index}
                if not self.refusal(further, kind):
                    go_on(further, spent_usd + option.price_usd)

        found: list[float] = []
        first = {"gpu": cards}
        if not self.refusal(first, "gpu"):
            go_on(first, self.options["gpu"][cards].price_usd)
        return min(found, default=inf)

    def _refuses(self, rule: Rule, choice: Mapping[str, int]) -> bool:
        given = self.given(choice["gpu"]) if "gpu" in choice else Given(mains=self.asked.mains)
        finding = judged(rule, self.rig(choice), given)
        if finding is None:
            return False
        if finding.severity == UNKNOWN and finding.rule == "supply-load" and self._trusted_w is not None:
            drawn_w = finding.evidence.get("load_w")
            return isinstance(drawn_w, int | float) and drawn_w > self._trusted_w * (1 + 1e-6)
        return finding.severity == PROBLEM or (finding.severity == WARNING and finding.rule not in self._tolerated)


def _demand(option: Option, speed: Any, model: str) -> Demand | None:
    if option.setup and speed is not None:
        return Demand(
            model=model,
            samples_per_s=speed.samples_per_s,
            slow_per_s=speed.low_per_s,
            fit_probability=speed.fit_probability,
        )
    return Demand(model=model, samples_per_s=None, fit_probability=0.0) if option.parts else None


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return isclose(one, other, rel_tol=_SLACK, abs_tol=1e-9)


def _faults(claim: BuildClaim, builds: _Builds) -> Iterator[str]:
    choice = _choice(claim.chosen, builds)
    if isinstance(choice, str):
        yield choice
        return
    yield from _wrong_build(claim, builds, choice)
    yield from _wrong_figures(claim, builds, choice["gpu"])
    yield from _better(claim, builds)
    yield from _wrong_further(claim, builds, choice["gpu"])


def _choice(chosen: Sequence[ClaimedPart], builds: _Builds) -> dict[str, int] | str:
    """The options that the parts are, or what is wrong with them."""
    if [part.kind for part in chosen] != list(KINDS):
        return f"a build has one choice of each of {', '.join(KINDS)}"
    choice = {}
    for part in chosen:
        alike = [
            i
            for i, option in enumerate(builds.options[part.kind])
            if (option.name, option.action) == (part.name, part.action) and _same(option.price_usd, part.price_usd)
        ]
        if not alike:
            return f"{part.kind}: {part.name} for {part.price_usd:g} dollars is no choice"
        choice[part.kind] = alike[0]
    return choice


def _wrong_build(claim: BuildClaim, builds: _Builds, choice: Mapping[str, int]) -> Iterator[str]:
    """What is wrong with the parts: a rule, their sum, or what is said of them."""
    from rigwise.edge import as_plain

    for kind in KINDS:
        if rule := builds.refusal(choice, kind):
            yield f"the rule {rule} refuses the build"
            break
    total_usd = sum(builds.options[kind][index].price_usd for kind, index in choice.items())
    if not _same(claim.total_usd, total_usd):
        yield f"the parts cost {total_usd:g} dollars, not {claim.total_usd:g}"
    if total_usd > builds.asked.most_usd * (1 + _SLACK):
        yield f"the parts cost {total_usd:g} dollars, the budget is {builds.asked.most_usd:g}"
    rig = builds.rig(choice)
    if as_plain(parts_of(rig)) != claim.parts:
        yield "the figures of the parts are not those of the table"
    found = [(f.rule, f.severity, f.found) for f in check(rig, builds.given(choice["gpu"]))]
    if found != [(f.rule, f.severity, f.found) for f in claim.findings]:
        yield "the rules say something else of the build"


def _wrong_figures(claim: BuildClaim, builds: _Builds, cards: int) -> Iterator[str]:
    """What is wrong with the speed and the figures of the certificate."""
    demand, time_s, proof = builds.demands[cards], builds.time_s(cards), claim.certificate
    if not _same(claim.samples_per_s, demand.samples_per_s if demand else None):
        yield f"the cards take {1 / time_s:g} samples a second, not {claim.samples_per_s}"
    if not _same(claim.time_s, time_s * builds.task.samples if time_s < inf else None):
        yield f"the job takes {time_s * builds.task.samples:g} s"
    if builds.too_slow(cards):
        yield "the cards do not keep the deadline"
    value = _value(claim, time_s, claim.total_usd)
    if not _same(proof.best, value) or not _same(proof.lower_bound, value):
        yield f"best and bound are {proof.best:g} and {proof.lower_bound:g}, the build has {value:g}"
    if proof.objective != builds.asked.minimize:
        yield f"the objective is {proof.objective}, {builds.asked.minimize} was asked for"
    candidates = prod(len(builds.options[kind]) for kind in KINDS)
    if proof.candidates != candidates or proof.estimated + sum(proof.pruned.values()) != candidates:
        yield f"there are {candidates} builds, said to be {proof.candidates}"


def _value(claim: BuildClaim, time_s: float, cost_usd: float) -> float:
    return cost_usd if claim.question.minimize == "cost" else time_s * (1 + _TIE_PER_USD * cost_usd)


def _better(claim: BuildClaim, builds: _Builds) -> Iterator[str]:
    """A build that is better than the one claimed."""
    best = claim.certificate.best
    for cards, option in enumerate(builds.options["gpu"]):
        time_s = builds.time_s(cards)
        if builds.too_slow(cards) or _value(claim, time_s, option.price_usd) >= best:
            continue
        most_usd = min(builds.asked.most_usd, best if claim.question.minimize == "cost" else inf)
        cost_usd = builds.cheapest_usd(cards, most_usd)
        value, cheaper = _value(claim, time_s, cost_usd), cost_usd < claim.total_usd - 0.005
        if value < best * (1 - _SLACK) or (
            cheaper and claim.time_s is not None and time_s * builds.task.samples <= claim.time_s
        ):
            yield f"a build with {option.name} has {value:g}, the best is said to have {claim.certificate.best:g}"
            return


def _wrong_further(claim: BuildClaim, builds: _Builds, cards: int) -> Iterator[str]:
    """What is wrong with what more money buys: the cheapest build that is faster."""
    further = claim.further
    if further is None:
        return
    below_s = builds.time_s(cards) * (1 - 1e-6)
    faster = [i for i in range(len(builds.options["gpu"])) if builds.time_s(i) < below_s and not builds.too_slow(i)]
    least = inf
    for index in sorted(faster, key=lambda i: builds.options["gpu"][i].price_usd):
        least = min(least, builds.cheapest_usd(index, least))
    if not (_same(further.total_usd, least) and _same(further.more_usd, least - claim.total_usd)):
        yield f"the cheapest build that is faster costs {least:g} dollars, not {further.total_usd:g}"
    if further.samples_per_s * builds.time_s(cards) <= 1:
        yield "what more money buys is not faster"
