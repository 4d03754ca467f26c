"""Whether figures changed: two machines, two times, and one series that goes on.

Figures are compared only where they measured the same thing. "Better" and "worse" need both a rank test that is
sure and a difference that matters; "same" needs an interval that leaves no room for one that does. All else is
"unclear", which says how many runs would tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from rigwise.measurement.records import FREE_TAGS, MACHINE_TAGS, Record, Tag
from rigwise.measurement.statistics import (
    Ratio,
    adjusted,
    change_point,
    modified_z,
    outlier_z,
    rank_sum_p,
    ratio_interval,
)

#: A chance of less, after the correction for many questions, counts as sure.
SURE_P = 0.05
#: A smaller difference does not matter.
MATTERS_FRAC = 0.05
#: The fewest runs on each side with which the rank test can be sure.
RUNS = 4
#: The fewest runs of which one can be called an outlier.
OUTLIER_RUNS = 8

#: What was measured: kind, name, unit, and the tags that matter.
Key = tuple[str, str, str, tuple[tuple[str, Tag], ...]]

_LESS_IS_BETTER = frozenset({"s", "J", "B", "W", "USD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure on two sides.

    Attributes:
        key: What was measured.
        runs: On the first and on the second side.
        medians: Of each side.
        ratio: How many times larger the second side is; None where a value is not above 0.
        p: Chance of so uneven ranks if nothing had changed, corrected for the number of figures.
        verdict: better, worse, changed (where neither direction is better), same, unclear.
        note: Why it is unclear.
    """

    key: Key
    runs: tuple[int, int]
    medians: tuple[float, float]
    ratio: Ratio | None
    p: float
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two sides compared.

    Attributes:
        comparisons: One for each figure that both have.
        refused: Name and reason of figures that are not comparable.
        only: Names that stand on one side alone, for each side.
        changed: Software that differs: package, versions on the first side and on the second.
    """

    comparisons: tuple[Comparison, ...]
    refused: tuple[tuple[str, str], ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    changed: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one series.

    Attributes:
        what: regression, improvement, change, outlier.
        machine_id: Where.
        key: What was measured.
        when: Of the first run after the change, or of the outlier.
        runs: Before and after the change; all runs and 1 for an outlier.
        medians: Before and after; of all runs and of the outlier.
        p: Chance of as clear a change in shuffled order, corrected for the number of series; None for an outlier.
        z: How many robust standard deviations an outlier is off; None for a change.
        changed: Software that differs between the runs on either side.
        disturbed: Of these runs, those taken on a busy machine or a throttled GPU.
    """

    what: str
    machine_id: str
    key: Key
    when: str
    runs: tuple[int, int]
    medians: tuple[float, float]
    p: float | None = None
    z: float | None = None
    changed: tuple[tuple[str, str, str], ...] = ()
    disturbed: tuple[int, int] = (0, 0)


def key_of(record: Record, ignored: frozenset[str] = frozenset()) -> Key:
    """What a record measured; tags in ``ignored`` may differ."""
    skipped = FREE_TAGS | ignored
    tags = tuple((name, value) for name, value in sorted(record.tags.items()) if name not in skipped)
    return record.kind, record.name, record.unit, tags


def better(unit: str, ratio: float) -> str:
    """Whether a figure in this unit that became ``ratio`` times as large is better, worse, or only changed.

    >>> better("s", 2.0), better("FLOP/s", 2.0), better("", 2.0)
    ('worse', 'better', 'changed')
    """
    if unit in _LESS_IS_BETTER or unit.startswith(("J/", "USD/")):
        return "better" if ratio < 1 else "worse"
    if unit.endswith("/s"):
        return "better" if ratio > 1 else "worse"
    return "changed"


def grouped(records: Iterable[Record], ignored: frozenset[str] = frozenset()) -> dict[Key, list[Record]]:
    """Records by what they measured, in the order they come."""
    found: dict[Key, list[Record]] = {}
    for record in records:
        found.setdefault(key_of(record, ignored), []).append(record)
    return found


def series(records: Iterable[Record]) -> list[tuple[str, Key, list[Record]]]:
    """Machine, what was measured, and the records of each series, by time."""
    found: dict[tuple[str, Key], list[Record]] = {}
    for record in sorted(records, key=lambda r: r.when):
        found.setdefault((record.machine_id, key_of(record)), []).append(record)
    return [(*place, one) for place, one in found.items()]


def compare_sides(first: Sequence[Record], second: Sequence[Record], *, machines: bool = False) -> Sides:
    """Every figure of the second side against the first.

    Args:
        first: Records of one machine, or of one time.
        second: Records of the other.
        machines: The sides are two machines, so that ``MACHINE_TAGS`` may differ.
    """
    ignored = MACHINE_TAGS if machines else frozenset()
    a, b = grouped(first, ignored), grouped(second, ignored)
    both = [key for key in a if key in b]
    raw = [rank_sum_p(_values(a[key]), _values(b[key])) for key in both]
    pairs = zip(both, adjusted(raw), strict=True)
    names_a, names_b = ({key[:2] for key in side} for side in (a, b))
    return Sides(
        comparisons=tuple(_compared(key, a[key], b[key], p) for key, p in pairs),
        refused=tuple(_refusals(a, b, names_a & names_b)),
        only=(_names(names_a - names_b), _names(names_b - names_a)),
        changed=software_changes(first, second),
    )


def _compared(key: Key, first: Sequence[Record], second: Sequence[Record], p: float) -> Comparison:
    a, b = _values(first), _values(second)
    ratio = ratio_interval(a, b)
    verdict, note = _verdict(key[2], ratio, p, (len(a), len(b)))
    if verdict == "unclear" and min(len(a), len(b)) < RUNS and _apart(first, second):
        note += "; p10 to p90 do not overlap, so it is worth repeating"
    runs, medians = (len(a), len(b)), (median(a), median(b))
    return Comparison(key=key, runs=runs, medians=medians, ratio=ratio, p=p, verdict=verdict, note=note)


def _verdict(unit: str, ratio: Ratio | None, p: float, runs: tuple[int, int]) -> tuple[str, str]:
    if ratio is None:
        return "unclear", "a value is not above 0"
    if min(runs) < RUNS:
        return "unclear", f"{runs[0]} and {runs[1]} runs, {RUNS} each are needed"
    if p <= SURE_P and _matters(ratio.value):
        return better(unit, ratio.value), ""
    if not (_matters(ratio.low) or _matters(ratio.high)):
        return "same", ""
    return "unclear", "the runs differ too much among themselves; more of them would tell"


def _matters(ratio: float) -> bool:
    """Whether a ratio is farther from 1 than what does not matter.

    >>> _matters(1.04), _matters(1.06), _matters(0.94)
    (False, True, True)
    """
    return ratio > 1 + MATTERS_FRAC or ratio * (1 + MATTERS_FRAC) < 1


def _apart(first: Sequence[Record], second: Sequence[Record]) -> bool:
    """Whether p10 to p90 of all runs of one side lie beside those of the other."""
    edges = []
    for side in (first, second):
        if any(record.p10 is None or record.p90 is None for record in side):
            return False
        edges.append((min(r.p10 or 0.0 for r in side), max(r.p90 or 0.0 for r in side)))
    return edges[0][1] < edges[1][0] or edges[1][1] < edges[0][0]


def _refusals(a: Iterable[Key], b: Iterable[Key], shared: set[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Figures that both sides have by name, and that are not the same thing: the nearest pair says why."""
    for name in sorted(shared):
        left, right = ([key for key in side if key[:2] == name] for side in (a, b))
        for key in left:
            if key not in right:
                yield name[1], min((difference(key, other) for other in right), key=_nearness)
        if set(left) <= set(right):
            for key in right:
                if key not in left:
                    yield name[1], min((difference(other, key) for other in left), key=_nearness)


def _nearness(words: str) -> tuple[int, str]:
    return words.count(", "), words


def difference(first: Key, second: Key) -> str:
    """Why two figures are not the same thing.

    >>> difference(("bench", "x", "s", (("n", 1),)), ("bench", "x", "s", (("n", 2),)))
    'n is 1 and 2'
    """
    found = []
    if first[2] != second[2]:
        found.append(f"unit is {first[2] or 'none'} and {second[2] or 'none'}")
    a, b = dict(first[3]), dict(second[3])
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            found.append(f"{name} is {a.get(name, 'not said')} and {b.get(name, 'not said')}")
    return ", ".join(found)


def software_changes(first: Sequence[Record], second: Sequence[Record]) -> tuple[tuple[str, str, str], ...]:
    """Packages whose versions differ between two sets of records."""
    a, b = _versions(first), _versions(second)
    shared = a.keys() & b.keys() if not (a and b) else a.keys() | b.keys()
    return tuple(
        (name, a.get(name, "none"), b.get(name, "none")) for name in sorted(shared) if a.get(name) != b.get(name)
    )


def _versions(records: Sequence[Record]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for text in {record.software for record in records if record.software}:
        for name, version in json.loads(text).items():
            found.setdefault(name, set()).add(version if isinstance(version, str) else json.dumps(version))
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def check(records: Sequence[Record]) -> tuple[tuple[Finding, ...], int]:
    """Changes of level and outliers in every series, and how many series were long enough to look at.

    A series is one figure on one machine, in the order of time. The largest change is tested; outliers are looked
    for on either side of it.
    """
    long = {(machine, key): found for machine, key, found in series(records) if len(found) >= 2 * RUNS}
    points = [change_point(_values(found), at_least=RUNS) for found in long.values()]
    chances = adjusted([p for _, p in points])
    findings: list[Finding] = []
    for (where, found), (place, _), p in zip(long.items(), points, chances, strict=True):
        change = _change(where, found, place, p)
        findings += [change] if change else []
        parts = (found[:place], found[place:]) if change else (found,)
        findings += [outlier for part in parts for outlier in _outliers(where, part)]
    return tuple(findings), len(long)


def _change(where: tuple[str, Key], found: Sequence[Record], place: int, p: float) -> Finding | None:
    before, after = found[:place], found[place:]
    ratio = ratio_interval(_values(before), _values(after)) if place else None
    if ratio is None or p > SURE_P or not _matters(ratio.value):
        return None
    words = {"worse": "regression", "better": "improvement", "changed": "change"}
    return Finding(
        what=words[better(where[1][2], ratio.value)],
        machine_id=where[0],
        key=where[1],
        when=after[0].when,
        runs=(len(before), len(after)),
        medians=(median(_values(before)), median(_values(after))),
        p=p,
        changed=software_changes(before, after),
        disturbed=(_disturbed(before), _disturbed(after)),
    )


def _outliers(where: tuple[str, Key], found: Sequence[Record]) -> list[Finding]:
    if len(found) < OUTLIER_RUNS:
        return []
    middle = median(_values(found))
    return [
        Finding(
            what="outlier",
            machine_id=where[0],
            key=where[1],
            when=record.when,
            runs=(len(found), 1),
            medians=(middle, record.value),
            z=z,
            disturbed=(_disturbed(found), _disturbed([record])),
        )
        for record, z in zip(found, modified_z(_values(found)), strict=True)
        if abs(z) > outlier_z(len(found)) and _matters(record.value / middle)
    ]


def _disturbed(records: Iterable[Record]) -> int:
    """Runs whose tag ``status`` says that others, or the heat, took part."""
    return sum(record.tags.get("status", "ok") != "ok" for record in records)


def _values(records: Sequence[Record]) -> list[float]:
    return [record.value for record in records]


def _names(found: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(name for _, name in found))
