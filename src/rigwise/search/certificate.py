"""A second opinion on a plan: derive everything again, and believe nothing the search said.

The candidates and their bounds come from ``question``. Each part of the certificate's cover is
held against those bounds, and every candidate that was said to be estimated is estimated again,
with and without recompute. Recompute counts where a recipe does not fit without it: no recipe is
quicker with it, which is checked one by one.

What a certificate proves: under this estimate no candidate is better. What it does not: that
the estimate is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.search.question import Block, Place, Question
from rigwise.search.types import KEEP, REASONS, RECOMPUTE, Array, Certificate, CoverEntry, FleetEstimate, State

_SLACK = 1e-9
_MOST_AT_ONCE = 2_000_000


def check(certificate: Certificate, question: Question, blocks: Mapping[State, Block]) -> Iterator[str]:
    """What is wrong with a certificate; nothing if it proves what it says.

    Args:
        certificate: The proof.
        question: The job put to its model.
        blocks: The candidates, from ``question.candidates``.
    """
    below = _parts_below(question, blocks)
    yield from _disjoint_and_complete(certificate, below)
    estimated = [p for entry in certificate.cover if entry.verdict == "estimated" for p in below.get(entry.state, [])]
    twins = [(e.state[:3], KEEP) for e in certificate.cover if e.state[3:] == (RECOMPUTE,) and e.state[:3] in blocks]
    found = _estimates(question, blocks, list(dict.fromkeys([*estimated, *twins])))
    yield from _inadmissible(blocks, found)
    looked_at = set(estimated)
    for entry in certificate.cover:
        if entry.state not in below:
            yield f"{words(entry.state)} is no candidate"
        elif entry.verdict == "estimated":
            yield from _differs(entry, min(found[part].best for part in below[entry.state]))
        elif entry.state[3:] == (RECOMPUTE,) and entry.verdict == "bound":
            if (entry.state[:3], KEEP) not in looked_at and not certificate.stopped:
                yield f"{words(entry.state)} is bounded by recipes that were not estimated"
            yield from _too_low(certificate, entry, found[entry.state[:3], KEEP].relaxed)
        else:
            yield from _wrongly_cut(certificate, entry, [blocks[s] for s, _ in below[entry.state]])
    yield from _wrong_counts(question, blocks, below, certificate)
    yield from _wrong_totals(question, min((found[part].best for part in estimated), default=inf), certificate)


#: A block's recipes that keep activations, or those that compute them again.
_Part = tuple[State, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the estimates of a part say.

    Attributes:
        best: Least objective of what fits; with recompute, of what does not fit without.
        relaxed: Least objective of what does not fit, if memory were no limit.
        p50_s: Time of each recipe.
        fits: Whether memory is enough for each.
    """

    best: float
    relaxed: float
    p50_s: Array
    fits: NDArray[np.bool_]

    @property
    def quickest_s(self) -> float:
        """Least time of all."""
        return float(self.p50_s[~np.isnan(self.p50_s)].min(initial=inf))


# The cover


def _parts_below(question: Question, blocks: Mapping[State, Block]) -> dict[State, list[_Part]]:
    """The parts of the candidate tree under each of its states."""
    below: dict[State, list[_Part]] = {(): []}
    kinds = (KEEP,) if question.task.recomputes == ("none",) else (KEEP, RECOMPUTE)
    for state in blocks:
        for kind in kinds:
            for length in range(5):
                below.setdefault((*state, kind)[:length], []).append((state, kind))
    return below


def _disjoint_and_complete(certificate: Certificate, below: Mapping[State, list[_Part]]) -> Iterator[str]:
    seen = Counter(part for entry in certificate.cover for part in below.get(entry.state, []))
    for part in below[()]:
        if seen[part] != 1:
            yield f"{words((*part[0], part[1]))} is covered {seen[part]} times"


def _inadmissible(blocks: Mapping[State, Block], found: Mapping[_Part, _Found]) -> Iterator[str]:
    """Estimates that break what the bounds rest on."""
    for (state, kind), outcome in found.items():
        if outcome.quickest_s < blocks[state].least_s * (1 - _SLACK):
            yield f"{words((*state, kind))}: an estimate of {outcome.quickest_s:g} s is below the bound"
        keep = found.get((state, KEEP))
        if kind == RECOMPUTE and keep and (outcome.p50_s < _twins(keep.p50_s, outcome.p50_s) * (1 - _SLACK)).any():
            yield f"{words(state)}: recompute is quicker than keeping activations"


def _differs(entry: CoverEntry, expected: float) -> Iterator[str]:
    number = inf if entry.number is None else entry.number
    if not same(number, expected):
        yield f"{words(entry.state)}: {entry.verdict} says {number:g}, it is {expected:g}"


def _too_low(certificate: Certificate, entry: CoverEntry, bound: float) -> Iterator[str]:
    still_open = certificate.stopped and bound >= certificate.lower_bound * (1 - _SLACK)
    if bound * (1 + certificate.gap_frac) < certificate.best * (1 - _SLACK) and not still_open:
        yield f"{words(entry.state)}: its bound of {bound:g} does not exclude it, the best is {certificate.best:g}"
    yield from _differs(entry, bound)


def _wrongly_cut(certificate: Certificate, entry: CoverEntry, inside: list[Block]) -> Iterator[str]:
    """What is wrong with a part of the cover that was not looked at."""
    bounds = [block.bounded_in(entry.state) for block in inside]
    if entry.verdict == "bound":
        yield from _too_low(certificate, entry, min((n for verdict, n in bounds if not verdict), default=inf))
    elif entry.verdict in REASONS and all(verdict == entry.verdict for verdict, _ in bounds):
        yield from _differs(entry, min(number for _, number in bounds))
    else:
        yield f"{words(entry.state)} is not ruled out by {entry.verdict}"


def _wrong_counts(
    question: Question, blocks: Mapping[State, Block], below: Mapping[State, list[_Part]], certificate: Certificate
) -> Iterator[str]:
    """What is wrong with the numbers of leaves."""
    counts = Counter(dict.fromkeys(("estimated", *REASONS), 0))
    for entry in certificate.cover:
        for state, kind in below.get(entry.state, []):
            block = blocks[state]
            limit, _ = block.bounded_in(entry.state)
            verdict = "estimated" if entry.verdict == "estimated" else limit or "bound"
            leaves = len(question.recipes(block.family, block.place.machine, kind))
            counts[verdict] += leaves * len(block.place.prices)
    said = {"candidates": certificate.candidates, "estimated": certificate.estimated, **certificate.pruned}
    for name, number in {"candidates": counts.total(), **counts}.items():
        if said.get(name) != number:
            yield f"{said.get(name)} leaves are said to be {name}, there are {number}"


def _wrong_totals(question: Question, best: float, certificate: Certificate) -> Iterator[str]:
    """What is wrong with the figures at the head of the certificate."""
    bounds = [entry.number for entry in certificate.cover if entry.verdict == "bound" and entry.number is not None]
    lower_bound = min([best, *bounds])
    gap = best / lower_bound - 1 if lower_bound > 0 else float(best > 0)
    for name, value, expected in (
        ("best", certificate.best, best),
        ("lower bound", certificate.lower_bound, lower_bound),
        ("gap", 1 + certificate.gap_frac, 1 + gap),
    ):
        if not same(value, expected):
            yield f"the {name} is said to be {value:g}, it is {expected:g}"
    if gap > question.job.gap_frac + _SLACK and not certificate.stopped:
        yield f"the gap is {gap:g}, the job allows {question.job.gap_frac:g}"
    if certificate.objective != question.job.minimize:
        yield f"the objective is {certificate.objective}, the job's is {question.job.minimize}"


# The estimates, again


def _estimates(question: Question, blocks: Mapping[State, Block], parts: list[_Part]) -> dict[_Part, _Found]:
    """What the estimator says of every recipe of these parts."""
    task, world = question.task, question.world
    alike: dict[tuple[object, ...], list[_Part]] = {}
    for part in sorted(parts, key=lambda part: part[1] != KEEP):
        machine = blocks[part[0]].place.machine
        alike.setdefault((blocks[part[0]].family, machine.count, machine.nodes, part[1]), []).append(part)
    found: dict[_Part, _Found] = {}
    for members in alike.values():
        inside = [blocks[state] for state, _ in members]
        recipes = question.recipes(inside[0].family, inside[0].place.machine, members[0][1])
        machines = [block.place.machine for block in inside]
        fleet = world.physics.estimate_recipes(task.case, recipes, machines, world.model)
        for i, part in enumerate(members):
            found[part] = _best_of(question, inside[i].place, fleet, i, found.get((part[0], KEEP)))
    return found


def _twins(of_keep: NDArray[Any], again: Array) -> NDArray[Any]:
    """Of each recipe with recompute, what is said of the one without: those of one recipe stand together."""
    return np.repeat(of_keep, len(again) // max(len(of_keep), 1))


def _best_of(
    question: Question, place: Place, fleet: FleetEstimate, machine: int, keep: _Found | None = None
) -> _Found:
    """The smallest allowed values over the recipes and prices of a place, whether memory is a limit or not.

    Of recipes with recompute only those count that do not fit as they are in ``keep``.
    """
    task, (tariff, grams) = question.task, place.row(question.world)
    p50_s, p90_s = (task.steps * np.asarray(times)[:, machine] for times in (fleet.step_p50_s, fleet.step_p90_s))
    late_s = question.late(p50_s, p90_s)
    energy_j = task.steps * task.machines * np.asarray(fleet.energy_p50_j)[:, machine]
    limit_s, best = min(question.deadline_s, place.limit_s), np.full(len(p50_s), inf)
    for rows in np.array_split(np.arange(len(p50_s)), len(p50_s) * len(grams) // _MOST_AT_ONCE + 1):
        shown_s, last_s, spent_j = (column[rows, None] for column in (p50_s, late_s, energy_j))
        spent_j = spent_j * tariff.time_factor
        allowed = (tariff.wall_s(last_s) <= limit_s) & (tariff.outlay_usd(last_s) <= question.budget_usd)
        value = question.value(tariff.cost_usd(shown_s), tariff.wall_s(shown_s), spent_j, spent_j / 3.6e6 * grams)
        best[rows] = np.where(allowed & ~np.isnan(value), value, inf).min(axis=1, initial=inf)
    fits = np.asarray(fleet.fit_probability)[:, machine] >= question.job.confidence
    counts = fits & ~_twins(keep.fits, p50_s) if keep else fits
    return _Found(
        best=float(best[counts].min(initial=inf)),
        relaxed=float(best[~fits].min(initial=inf)),
        p50_s=p50_s,
        fits=fits,
    )


def same(one: float, other: float) -> bool:
    """Whether two figures are the same, but for rounding."""
    return isclose(one, other, rel_tol=_SLACK, abs_tol=1e-9)


def words(state: State) -> str:
    """A state for people."""
    return " / ".join(state) or "the whole tree"
