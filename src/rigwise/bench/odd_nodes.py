"""Which nodes of a fleet are unlike the others, and by which evidence.

Nodes of one make (the same CPU and GPUs by name) are compared. Figures are compared where they measured the same:
the deviation of a node is how much worse it is than the median of its make, on a logarithmic scale, over a robust
standard deviation: 1.4826 times the median absolute deviation of that figure, but no less than that of the typical
figure of the fleet and no less than 1 %. It is evidence where it exceeds both a threshold that counts how many
nodes and figures were looked at, and a least loss that matters. A further figure, ``all figures``, is the
median loss of a node over its figures: it finds the node that is a little slow in everything.

Source: Iglewicz & Hoaglin, "How to Detect and Handle Outliers", ASQC, 1993 (median and median deviation); the
threshold is the normal law's for one false alarm in a hundred fleets (Bonferroni), times a margin because noise has
heavier tails than the normal law.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

from rigwise.measurement.compare import better, key_of
from rigwise.measurement.records import Record

#: Fewer nodes of one make are not compared.
LEAST_NODES = 4
#: A figure that is worse by less, and a node that is worse by less over all of its figures, is like the others.
LEAST_LOSS_FRAC, LEAST_OVERALL_FRAC = 0.05, 0.03
#: False alarms of a fleet without odd nodes and with normal noise.
_ALARM_P = 0.01
_MARGIN = 1.5
#: The noise of a figure is not smaller, and no memory differs by less without a reason.
_LEAST_NOISE, _LEAST_MEMORY_FRAC = 0.01, 0.01
OVERALL = "all figures"
#: What is counted of a machine: nodes of one make have the same.
PROCESSORS, GPUS, MEMORY, GPU_MEMORY = COUNTS = ("processors", "GPUs", "memory", "memory of a GPU")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a node is unlike the others.

    Attributes:
        figure: What was measured, or what of the machine it is.
        value, p50: Of the node, and the median of its make; None where it has no such figure.
        unit: Of both.
        loss_frac: How much slower than the median: 0.2 is a fifth less of a rate, or of the speed behind a time.
        z: The same in robust standard deviations.
        bound: What those had to exceed.
        nodes: How many were compared.
        state: Of the node while it measured: ``ok``, ``busy``, ``throttled``; empty where that is not known.
        words: Why a figure is missing.
    """

    figure: str
    value: float | None = None
    p50: float | None = None
    unit: str = ""
    loss_frac: float = 0.0
    z: float = 0.0
    bound: float = 0.0
    nodes: int = 0
    state: str = ""
    words: str = ""

    @property
    def is_figure(self) -> bool:
        """Whether it was measured, and can be measured again."""
        return self.figure not in COUNTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One node that measured.

    Attributes:
        snapshot: JSON text of its machine.
        records: Its figures.
        skipped: Figures it could not take, and why.
        complete: Whether it came to its end: only then is a missing figure evidence.
    """

    snapshot: str
    records: tuple[Record, ...]
    skipped: Mapping[str, str]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What is compared of a machine.

    Attributes:
        make: Names of its CPU and its kinds of GPU, for people.
        amount: Of processors, GPUs, memory: those of one make have the same.
    """

    make: str
    amount: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One figure over the nodes that have it: losses against the median as logarithms, positive is worse."""

    name: str
    unit: str
    measured: Mapping[str, float]
    log_ratio: Mapping[str, float]
    spread: float


def odd_nodes(fleet: Mapping[str, Measured]) -> dict[str, tuple[Evidence, ...]]:
    """Evidence by node, the strongest first; nodes without any are left out."""
    makes: dict[str, dict[str, Measured]] = {}
    parts = {name: hardware(node.snapshot) for name, node in fleet.items()}
    for name, node in fleet.items():
        makes.setdefault(parts[name].make, {})[name] = node
    found: dict[str, list[Evidence]] = {}
    for nodes in makes.values():
        if len(nodes) < LEAST_NODES:
            continue
        pieces = [*_of_hardware({name: parts[name] for name in nodes}), *_missing(nodes), *_slow(nodes)]
        for name, evidence in pieces:
            found.setdefault(name, []).append(evidence)
    return {name: tuple(sorted(of, key=lambda one: -one.loss_frac)) for name, of in found.items()}


def threshold(nodes: int, figures: int) -> float:
    """Robust standard deviations that one of so many nodes exceeds in one of so many figures, were all alike.

    >>> round(threshold(8, 45), 1), round(threshold(1000, 45), 1)
    (6.0, 7.6)
    """
    return _MARGIN * NormalDist().inv_cdf(1 - _ALARM_P / max(2, nodes * figures))


def hardware(snapshot: str) -> Hardware:
    """What of a machine is compared with others.

    >>> hardware('{"cpu": {"name": {"value": "EPYC"}}, "gpus": [{"name": {"value": "H100"}}]}').make
    'EPYC, H100'
    """
    found = json.loads(snapshot) if snapshot else {}
    cards = [card for card in found.get("gpus") or () if isinstance(card, dict)]
    names = sorted({str(_value(card, "name") or "unknown GPU") for card in cards})
    counts = {
        PROCESSORS: _value(found.get("limits"), "usable_cpus"),
        GPUS: len(cards) if cards else None,
        MEMORY: _value(found.get("memory"), "total_bytes"),
        GPU_MEMORY: min((_number(_value(card, "memory_bytes")) for card in cards), default=None),
    }
    make = ", ".join([str(_value(found.get("cpu"), "name") or "unknown CPU"), *names])
    return Hardware(make=make, amount={name: _number(value) for name, value in counts.items() if _number(value)})


def _value(section: Any, key: str) -> Any:
    one = section.get(key) if isinstance(section, dict) else None
    return one.get("value") if isinstance(one, dict) else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _of_hardware(nodes: Mapping[str, Hardware]) -> Iterable[tuple[str, Evidence]]:
    """Nodes that show less of something than most of their make do."""
    for what in dict.fromkeys(name for node in nodes.values() for name in node.amount):
        middle = median(node.amount.get(what, 0.0) for node in nodes.values())
        for name, node in nodes.items():
            count = node.amount.get(what, 0.0)
            if count < middle * (1 - _LEAST_MEMORY_FRAC):
                loss = 1 - count / middle
                yield name, Evidence(figure=what, value=count, p50=middle, loss_frac=loss, nodes=len(nodes))


def _missing(nodes: Mapping[str, Measured]) -> Iterable[tuple[str, Evidence]]:
    """Figures that a node could not take and more than half of the others could."""
    had: dict[str, int] = {}
    for node in nodes.values():
        for figure in {record.name for record in node.records}:
            had[figure] = had.get(figure, 0) + 1
    for name, node in nodes.items():
        own = {record.name for record in node.records}
        for figure in sorted(set(had) - own) if node.complete else ():
            if had[figure] > len(nodes) / 2:
                why = _why(figure, node.skipped)
                yield name, Evidence(figure=figure, loss_frac=1.0, nodes=had[figure], words=why)


def _why(figure: str, skipped: Mapping[str, str]) -> str:
    """Why a figure is missing: its own reason, or that of the benchmark it belongs to."""
    word = figure
    while word not in skipped and "." in word:
        word = word.rpartition(".")[0]
    return skipped.get(word) or "it is missing, without a reason"


def _slow(nodes: Mapping[str, Measured]) -> Iterable[tuple[str, Evidence]]:
    rows = _rows(nodes)
    if not rows:
        return
    typical = median(row.spread for row in rows)
    status = {(name, r.name): str(r.tags.get("status", "ok")) for name, node in nodes.items() for r in node.records}
    for row in [*rows, *_overall(nodes, rows)]:
        noise = max(row.spread, _LEAST_NOISE, 0.0 if row.name == OVERALL else typical)
        limit = threshold(len(row.measured), len(rows) + 1)
        least = LEAST_OVERALL_FRAC if row.name == OVERALL else LEAST_LOSS_FRAC
        for name, loss in row.log_ratio.items():
            lost = 1 - math.exp(-loss)
            if loss / noise > limit and lost > least:
                yield (
                    name,
                    Evidence(
                        figure=row.name,
                        value=row.measured[name],
                        p50=median(row.measured.values()),
                        unit=row.unit,
                        loss_frac=lost,
                        z=loss / noise,
                        bound=limit,
                        nodes=len(row.measured),
                        state=status.get((name, row.name), ""),
                    ),
                )


def _rows(nodes: Mapping[str, Measured]) -> list[_Row]:
    """Figures that enough nodes measured alike."""
    of: dict[Any, dict[str, Record]] = {}
    for name, node in nodes.items():
        for record in node.records:
            of.setdefault(key_of(record, frozenset({"device"})), {})[name] = record
    found = []
    for (_, figure, unit, _), records in of.items():
        values = {name: record.value for name, record in records.items()}
        if len(values) < LEAST_NODES or min(values.values()) <= 0:
            continue
        middle = math.log(median(values.values()))
        is_worse_larger = better(unit, 2.0) != "better"  # of errors, too, more is worse
        sign = 1 if is_worse_larger else -1
        losses = {name: sign * (math.log(value) - middle) for name, value in values.items()}
        found.append(_Row(name=figure, unit=unit, measured=values, log_ratio=losses, spread=_noise(losses.values())))
    return found


def _overall(nodes: Mapping[str, Measured], rows: Sequence[_Row]) -> Iterable[_Row]:
    """The median loss of each node over its figures, as one more figure: its speed over that of the median node."""
    losses = {name: [row.log_ratio[name] for row in rows if name in row.log_ratio] for name in nodes}
    middle = {name: median(of) for name, of in losses.items() if 2 * len(of) > len(rows)}
    if len(middle) >= LEAST_NODES:
        centre = median(middle.values())
        moved = {name: loss - centre for name, loss in middle.items()}
        speeds = {name: math.exp(-loss) for name, loss in moved.items()}
        yield _Row(name=OVERALL, unit="", measured=speeds, log_ratio=moved, spread=_noise(moved.values()))


def _noise(losses: Iterable[float]) -> float:
    """Robust standard deviation of values whose median is 0."""
    return 1.4826 * median(abs(loss) for loss in losses)
