"""A second opinion on a placement: add everything up again, and believe nothing the search said.

From the costs alone this module lists the placements, values those that were said to be
estimated, and bounds every part of the cover with code of its own. The weights of the certificate
need not be believed: any weights that are not negative and sum to at most 1 give a bound.

What a certificate proves: with these costs no placement is better. What it does not: that the
costs are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isclose, prod

from rigwise.application.costs import Costed, Loads
from rigwise.application.types import Edge
from rigwise.search.types import Certificate, CoverEntry, State

_SLACK = 1e-8
_REASONS = ("memory", "rate", "link", "bound")


def check_placements(certificate: Certificate, costed: Costed, weights: Mapping[str, float]) -> Iterator[str]:
    """What is wrong with a certificate; nothing if it proves what it says.

    Args:
        certificate: The proof; states are places of the components in the order of the application.
        costed: The application and its costs.
        weights: Resource -> weight.
    """
    choices = [list(places) for places in costed.allowed.values()]
    known = [entry for entry in certificate.cover if _exists(entry.state, choices)]
    yield from (f"{_words(e.state)} is no placement" for e in certificate.cover if not _exists(e.state, choices))
    yield from _disjoint_and_complete(known, choices)
    if any(not weight >= 0 for weight in weights.values()) or not sum(weights.values()) <= 1 + _SLACK:
        yield "the weights are negative, or sum to more than 1"
        return
    judge = _judge(costed, weights)
    best = inf
    for entry in known:
        if entry.verdict == "estimated":
            value = judge.value(entry.state) if len(entry.state) == len(choices) else None
            best = min(best, inf if value is None else value)
            yield from _differs(entry, value)
        else:
            yield from _wrongly_cut(judge, entry)
    yield from _wrong_counts(certificate, known, choices)
    yield from _wrong_totals(certificate, costed, best)


def _exists(state: State, choices: list[list[str]]) -> bool:
    return len(state) <= len(choices) and all(p in may for p, may in zip(state, choices, strict=False))


def _disjoint_and_complete(cover: list[CoverEntry], choices: list[list[str]]) -> Iterator[str]:
    """Parts of which none holds another, and that hold as many placements as there are, are all of them."""
    seen = Counter(entry.state for entry in cover)
    yield from (f"{_words(state)} is covered {number} times" for state, number in seen.items() if number > 1)
    for state in seen:
        yield from (f"{_words(state)} is covered twice" for n in range(len(state)) if state[:n] in seen)
    held = sum(_leaves(state, choices) for state in seen)
    if held != _leaves((), choices):
        yield f"the cover holds {held:,} placements, there are {_leaves((), choices):,}"


def _leaves(state: State, choices: list[list[str]]) -> int:
    return prod(len(may) for may in choices[len(state) :])


def _differs(entry: CoverEntry, value: float | None) -> Iterator[str]:
    if value is None:
        yield f"{_words(entry.state)} is said to be estimated and is no placement that keeps the limits"
    elif entry.number is None or not _same(entry.number, value):
        yield f"{_words(entry.state)}: {entry.verdict} says {entry.number}, it is {value:g}"


def _wrongly_cut(judge: _Judge, entry: CoverEntry) -> Iterator[str]:
    bounds = judge.bounds(entry.state)
    number = inf if entry.number is None else entry.number
    if entry.verdict not in _REASONS:
        yield f"{_words(entry.state)} is ruled out by {entry.verdict!r}, which is no reason"
    elif entry.verdict == "bound" and not number <= bounds["bound"] * (1 + _SLACK):
        yield f"{_words(entry.state)}: a bound of {number:g} is claimed, {bounds['bound']:g} is proven"
    elif entry.verdict != "bound" and not bounds[entry.verdict] > 1:
        yield f"{_words(entry.state)} is not ruled out by {entry.verdict}"


def _wrong_counts(certificate: Certificate, cover: list[CoverEntry], choices: list[list[str]]) -> Iterator[str]:
    counts = Counter(dict.fromkeys(("estimated", *_REASONS), 0))
    for entry in cover:
        counts[entry.verdict] += _leaves(entry.state, choices)
    said = {"candidates": certificate.candidates, "estimated": certificate.estimated, **certificate.pruned}
    for name, number in {"candidates": counts.total(), **counts}.items():
        if said.get(name) != number:
            yield f"{said.get(name)} placements are said to be {name}, there are {number}"


def _wrong_totals(certificate: Certificate, costed: Costed, best: float) -> Iterator[str]:
    numbers = [e.number for e in certificate.cover if e.verdict == "bound" and e.number is not None]
    lower = min([best, *numbers])
    for name, said, expected in (
        ("best", certificate.best, best),
        ("lower bound", certificate.lower_bound, lower),
        ("gap", 1 + certificate.gap_frac, best / lower if lower > 0 else 1.0),
    ):
        if not _same(said, expected):
            yield f"the {name} is said to be {said:g}, it is {expected:g}"
    if certificate.objective != costed.application.optimize:
        yield f"the objective is {certificate.objective}, the application's is {costed.application.optimize}"


def _same(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=_SLACK, abs_tol=1e-15)


def _words(state: State) -> str:
    return " / ".join(state) or "the whole tree"


# Values and bounds, again


def _judge(costed: Costed, weights: Mapping[str, float]) -> _Judge:
    """A forest of the edges: above each component is the last in order of those that feed it."""
    order = list(costed.services)
    feeding = {name: {edge.source for edge in costed.application.into(name)} for name in order}
    above = {name: max(before, key=order.index) if before else "" for name, before in feeding.items()}
    alone = [{f"place {place}": 1.0} for place in costed.application.places]
    return _Judge(costed, above, (weights, *alone))


@dataclass(slots=True, frozen=True)
class _Judge:
    """Adds up what is placed, and bounds what is open. Tables are filled when first asked for.

    Attributes:
        above: Component -> the one above it in the forest, empty for none.
        weightings: Weights of the resources: those of the certificate, and each place alone.
        branches, onward_s, proven, served, copied: What has been worked out before.
    """

    costed: Costed
    above: Mapping[str, str]
    weightings: tuple[Mapping[str, float], ...]
    branches: dict[tuple[str, str, int], float] = field(default_factory=dict)
    onward_s: dict[tuple[str, str], float] = field(default_factory=dict)
    proven: dict[State, dict[str, float]] = field(default_factory=dict)
    served: dict[tuple[str, str], Loads] = field(default_factory=dict)
    copied: dict[tuple[Edge, str, str], Loads | None] = field(default_factory=dict)

    def _service(self, name: str, place: str) -> Loads:
        if (name, place) not in self.served:
            self.served[name, place] = self.costed.service_load(name, place)
        return self.served[name, place]

    def _copy(self, edge: Edge, source: str, target: str) -> Loads | None:
        key = (edge, source, target)
        if key not in self.copied:
            self.copied[key] = self.costed.copy_load(edge, source, target)
        return self.copied[key]

    def value(self, state: State) -> float | None:
        """The objective of a complete placement; None if it breaks a limit."""
        found = self.bounds(state)
        return None if max(found["memory"], found["rate"], found["link"]) > 1 else found["own"]

    def bounds(self, state: State) -> dict[str, float]:
        """Bounds of all placements below a state.

        ``own`` is its own, ``bound`` the largest on the way to it; ``memory``, ``rate`` and ``link``
        say how far each limit is used, and one over 1 is broken.
        """
        if state in self.proven:
            return self.proven[state]
        placed = dict(zip(self.costed.services, state, strict=False))
        found = {"memory": self._memory_frac(placed), "link": 0.0, "rate": 0.0, "own": 0.0}
        if not self._linked(placed) or self._mean(placed, {}, 0) == inf:
            found |= {"link": inf, "own": inf}
        else:
            found |= self._objective(placed)
        before = self.bounds(state[:-1]) if state else {}
        found["bound"] = max(found["own"], before.get("bound", 0.0))
        self.proven[state] = found
        return found

    def _objective(self, placed: Mapping[str, str]) -> dict[str, float]:
        optimize = self.costed.application.optimize
        time_s = self._time_s(placed)
        if optimize == "throughput":
            return {"own": time_s}
        busy = time_s * (self.costed.offered_per_s or 0.0)
        own = self._latency_s(placed) if optimize == "latency" else self._usd(placed)
        return {"own": own, "rate": busy if busy > 1 + 1e-9 else 0.0}

    def _edges(self, placed: Mapping[str, str]) -> Iterable[tuple[Edge, str, str]]:
        for edge in self.costed.application.edges:
            if edge.source in placed and edge.target in placed:
                yield edge, placed[edge.source], placed[edge.target]

    def _linked(self, placed: Mapping[str, str]) -> bool:
        return all((a, b) in self.costed.routes for _, a, b in self._edges(placed))

    def _memory_frac(self, placed: Mapping[str, str]) -> float:
        held: dict[str, float] = {}
        for name, place in placed.items():
            held[place] = held.get(place, 0.0) + self.costed.services[name][place].memory_bytes
        limits = {name: place.memory_bytes for name, place in self.costed.application.places.items()}
        return max((use / (limits[place] or inf) for place, use in held.items()), default=0.0)

    # time of one item

    def _time_s(self, placed: Mapping[str, str]) -> float:
        loads: dict[str, float] = {}
        for name, place in placed.items():
            _add(loads, self._service(name, place))
        for edge, a, b in self._edges(placed):
            _add(loads, self._copy(edge, a, b) or {})
        bounds = [max(loads.values(), default=0.0)]
        for name, places in self.costed.allowed.items():
            if name not in placed:
                on_top = [
                    max(load + loads.get(resource, 0.0) for resource, load in self._service(name, place).items())
                    for place in places
                ]
                bounds.append(min(on_top))
        if len(placed) < len(self.costed.services):
            bounds += [self._mean(placed, loads, which) for which in range(len(self.weightings))]
        return max(bounds)

    def _mean(self, placed: Mapping[str, str], loads: Loads, which: int) -> float:
        """Weighted mean of the loads: of what is placed, and the least of each tree of the open choices."""
        mean = _weighed(loads, self.weightings[which])
        for name, above in self.above.items():
            if name not in placed and (not above or above in placed):
                mean += self._branch(name, placed.get(above, ""), which)
        return mean

    def _branch(self, name: str, place_above: str, which: int) -> float:
        """Least mean of a component, the edges into it from above, and all below it in the forest."""
        key = (name, place_above, which)
        if key not in self.branches:
            weights, above = self.weightings[which], self.above[name]
            least = inf
            for place in self.costed.allowed[name]:
                mean = _weighed(self._service(name, place), weights)
                for edge in self.costed.application.into(name) if above else ():
                    if edge.source == above:
                        loads = self._copy(edge, place_above, place)
                        mean += inf if loads is None else _weighed(loads, weights)
                mean += sum(self._branch(n, place, which) for n, parent in self.above.items() if parent == name)
                least = min(least, mean)
            self.branches[key] = least
        return self.branches[key]

    # latency and cost

    def _latency_s(self, placed: Mapping[str, str]) -> float:
        """The longest of all paths through what is placed, each going on by its shortest way."""
        ends: dict[str, float] = {}
        longest = 0.0
        for name, places in self.costed.allowed.items():
            into = self.costed.application.into(name)
            if name in placed:
                starts = [ends[e.source] + self.costed.copy_s(e, placed[e.source], placed[name]) for e in into]
                ends[name] = max(starts, default=0.0) + self._stay_s(name, placed[name])
                longest = max(longest, ends[name] + self._onward_s(name, placed[name]))
            elif not into:
                longest = max(longest, min(self._stay_s(name, p) + self._onward_s(name, p) for p in places))
        return longest

    def _stay_s(self, name: str, place: str) -> float:
        wait_s = self.costed.wait_s(name, self.costed.offered_per_s or inf)
        return self.costed.services[name][place].call_s["p50"] + wait_s

    def _onward_s(self, name: str, place: str) -> float:
        """Least time from a component's end to the end of the longest path behind it."""
        if (name, place) not in self.onward_s:
            ways = [0.0]
            for edge in self.costed.application.out_of(name):
                ways.append(
                    min(
                        (
                            self.costed.copy_s(edge, place, there)
                            + self._stay_s(edge.target, there)
                            + self._onward_s(edge.target, there)
                            for there in self.costed.allowed[edge.target]
                            if (place, there) in self.costed.routes
                        ),
                        default=inf,
                    )
                )
            self.onward_s[name, place] = max(ways)
        return self.onward_s[name, place]

    def _usd(self, placed: Mapping[str, str]) -> float:
        """The places in use, and the cheapest of those that some open component cannot do without."""
        price = {name: place.usd_per_h for name, place in self.costed.application.places.items()}
        used = set(placed.values())
        open_ones = [set(p) for name, p in self.costed.allowed.items() if name not in placed and used.isdisjoint(p)]
        more = max((min(price[place] for place in places) for places in open_ones), default=0.0)
        return sum(price[place] for place in used) + more


def _add(total: dict[str, float], loads: Loads) -> None:
    for name, load in loads.items():
        total[name] = total.get(name, 0.0) + load


def _weighed(loads: Loads, weights: Mapping[str, float]) -> float:
    return sum(load * weights.get(name, 0.0) for name, load in loads.items())
