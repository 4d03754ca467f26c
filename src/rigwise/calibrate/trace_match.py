"""The operators of a predicted step beside those of a recorded one.

A graph keeps equal layers once; here they are laid out again, in the order in which they run. Then both sequences are
aligned by name, phase and sizes; what is left of a device's kernels by the family that their names tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, prod
from statistics import median

from rigwise.calibrate.alignment import aligned
from rigwise.calibrate.trace_names import common_name, kind_of_kernel
from rigwise.graph.op import Kind, Op, Phase
from rigwise.graph.tree import Row
from rigwise.measurement.profile.units import Unit

#: Families of which one operator may become the kernel of another: they all stream.
_STREAMS = frozenset(
    {Kind.ELEMENTWISE, Kind.NORM, Kind.SOFTMAX, Kind.REDUCE, Kind.COPY, Kind.EMBEDDING, Kind.INDEX, Kind.POOL}
)
#: Families whose kernels are few for each operator.
_HEAVY = frozenset({Kind.GEMM, Kind.CONV, Kind.ATTENTION})
#: Sizes agree where so many of the matched operators have the inputs that the case says.
_MOST_AGREE_FRAC = 0.5
_UPDATES = ("aten::_foreach_", "aten::_fused_")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the graph expects.

    Attributes:
        rows: Rows of the step that it stands for: two for a convolution's backward pass.
        name: In the common spelling.
        kind: Family.
        phase: Forward or backward.
        sizes: Elements of each input, the largest first.
        predicted_s: Its share of the rows' time.
    """

    rows: tuple[int, ...]
    name: str
    kind: Kind
    phase: Phase
    sizes: tuple[int, ...]
    predicted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Some rows of the step and what was measured of them.

    Attributes:
        rows: Indices of the rows.
        calls: That the graph expects.
        seen: Of those found in the trace.
        predicted_s, measured_s: Of the calls that were found, together.
        units: Indices of the units.
        by: How many were found by sizes and name, by name, by the name of a kernel.
    """

    rows: tuple[int, ...]
    calls: int
    seen: int
    predicted_s: float
    measured_s: float
    units: tuple[int, ...]
    by: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A predicted step beside a recorded one.

    Attributes:
        matched: What both have; the greatest difference first.
        missing: Rows of the step that the trace lacks, and their predicted time.
        extra: Operators and kernels that the graph lacks, by name: how many, and their time.
        update_s: Measured time of the optimizer's step.
        matched_frac: Of the measured time of operators without the optimizer, what was matched.
        off_sizes: Of the matched calls whose sizes were recorded, those whose sizes are not the case's, and how many
            times as many elements their largest input has (the median).
        with_sizes: Matched calls whose sizes were recorded.
    """

    matched: tuple[Matched, ...]
    missing: tuple[tuple[int, float], ...]
    extra: tuple[tuple[str, int, float], ...]
    update_s: float
    matched_frac: float
    off_sizes: tuple[int, float] = (0, 1.0)
    with_sizes: int = 0

    @property
    def sizes_agree(self) -> bool:
        """Whether the trace ran what the case says, as far as sizes tell."""
        return self.off_sizes[0] <= _MOST_AGREE_FRAC * self.with_sizes


def is_asked_for(rows: Sequence[Row]) -> Callable[[str], bool]:
    """Whether the graph of a step knows an operator by name."""
    known = {common_name(row.op.name) for row in rows}
    return lambda name: common_name(name) in known


def calls_of(rows: Sequence[Row], sizes: Mapping[str, int], micro_steps: int = 1) -> list[Call]:
    """The calls of a step in the order in which they run, equal layers laid out.

    Args:
        rows: Of the step, timed.
        sizes: Of the symbols, for one micro-batch.
        micro_steps: Passes over the graph in a step.
    """
    groups: list[tuple[int, list[Call]]] = []
    block = ""
    for index, row in enumerate(rows):
        call = _call(index, row, sizes)
        place = row.op.module.partition("*")[0] if "*" in row.op.module else block
        same = groups and groups[-1][0] == row.op.repeat and (row.op.repeat == 1 or place == block)
        block = place if row.op.repeat > 1 else ""
        if not same:
            groups.append((row.op.repeat, []))
        calls = groups[-1][1]
        if calls and _belong_together(calls[-1], call, rows):
            calls[-1] = _joined(calls[-1], call)
        else:
            calls.append(call)
    once = [call for repeat, calls in groups for _ in range(repeat) for call in calls]
    return once * micro_steps


def _call(index: int, row: Row, sizes: Mapping[str, int]) -> Call:
    elements = sorted((int(t.elements(sizes)) for t in row.op.inputs), reverse=True)
    time_s = sum(row.binds_s.values()) / max(1, row.cost.calls)
    return Call((index,), common_name(row.op.name), row.op.kind, row.op.phase, tuple(elements), time_s)


def _belong_together(before: Call, call: Call, rows: Sequence[Row]) -> bool:
    """Both gradients of a convolution or a recurrent layer are one call of the framework."""
    first, second = rows[before.rows[-1]].op, rows[call.rows[0]].op
    return (
        call.name == before.name
        and first.name.endswith("_dgrad")
        and second.name.endswith("_wgrad")
        and first.module == second.module
    )


def _joined(first: Call, second: Call) -> Call:
    sizes = tuple(sorted({*first.sizes, *second.sizes}, reverse=True))
    predicted_s = first.predicted_s + second.predicted_s
    return Call((*first.rows, *second.rows), first.name, first.kind, first.phase, sizes, predicted_s)


def compare(calls: Sequence[Call], units: Sequence[Unit]) -> Comparison:
    """Match a recorded step to the calls that a graph expects."""
    steps = [index for index, unit in enumerate(units) if not _is_update(unit)]
    asked = [index for index in steps if units[index].is_asked]
    pairs: dict[int, tuple[int, str]] = {}
    for a, b in aligned(calls, [_Seen.of(units[index]) for index in asked], _score):
        agree = _agree(calls[a].sizes, _sizes(units[asked[b]]))
        pairs[a] = (asked[b], "sizes" if agree else "name")
    _out_of_order(calls, units, asked, pairs)
    taken = {index for index, _ in pairs.values()}
    open_calls = [index for index in range(len(calls)) if index not in pairs]
    kernels = [index for index in steps if index not in taken and _is_opaque(units[index])]
    families = [_family(units[index]) for index in kernels]
    for a, b in aligned([calls[index].kind for index in open_calls], families, _family_score):
        pairs[open_calls[a]] = (kernels[b], "kernel")
    return _comparison(calls, units, steps, pairs)


def _out_of_order(
    calls: Sequence[Call], units: Sequence[Unit], asked: Sequence[int], pairs: dict[int, tuple[int, str]]
) -> None:
    """Pair what is left and equal in name, phase and sizes: branches of a network run in any order."""
    taken = {index for index, _ in pairs.values()}
    left: dict[tuple[str, bool, int], list[int]] = {}
    for index in asked:
        sizes = _sizes(units[index])
        if index not in taken and sizes:
            key = (common_name(units[index].name), units[index].is_backward, sizes[0])
            left.setdefault(key, []).append(index)
    for index, call in enumerate(calls):
        if index in pairs or not call.sizes:
            continue
        if some := left.get((call.name, call.phase is Phase.BACKWARD, call.sizes[0])):
            pairs[index] = (some.pop(0), "sizes")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What of a unit decides what it is."""

    name: str
    is_backward: bool
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, unit: Unit) -> _Seen:
        return cls(common_name(unit.name), unit.is_backward, _sizes(unit))


def _sizes(unit: Unit) -> tuple[int, ...]:
    return tuple(sorted((prod(shape) for shape in unit.shapes), reverse=True))


def _score(call: Call, seen: _Seen) -> float:
    """By name or not at all; more with the phase, and with the sizes."""
    if call.name != seen.name:
        return 0.0
    phase = 0.5 if (call.phase is Phase.BACKWARD) == seen.is_backward else 0.0
    largest = 1.0 if _agree(call.sizes, seen.sizes) else 0.0
    return 2.0 + phase + largest + (0.5 if largest and set(call.sizes) == set(seen.sizes) else 0.0)


def _agree(expected: Sequence[int], found: Sequence[int]) -> bool:
    return bool(expected and found) and expected[0] == found[0]


def _is_opaque(unit: Unit) -> bool:
    """Whether only its kernels tell what it is: a kernel alone, or what a compiler made of several operators."""
    return bool(unit.kernels) and not (unit.is_op and unit.name.startswith("aten::"))


def _is_update(unit: Unit) -> bool:
    if unit.is_update:
        return True
    by_kernel = not unit.is_op and kind_of_kernel(unit.name) is Kind.OPTIMIZER
    return by_kernel or (not unit.is_asked and unit.name.startswith(_UPDATES))


def _family(unit: Unit) -> Kind:
    kinds = [kind_of_kernel(name) for name in unit.kernels]
    heavy = [kind for kind in kinds if kind not in _STREAMS and kind is not Kind.UNKNOWN]
    return (heavy or kinds)[0]


def _family_score(expected: Kind, found: Kind) -> float:
    if expected is found and found is not Kind.UNKNOWN:
        return 2.0
    return 0.5 if expected in _STREAMS and found in _STREAMS else 0.0


class _Sum:
    """What was found of some rows, while it is added up."""

    def __init__(self) -> None:
        self.calls = 0
        self.predicted_s = self.measured_s = 0.0
        self.units: list[int] = []
        self.by: Counter[str] = Counter()


def _comparison(
    calls: Sequence[Call], units: Sequence[Unit], steps: Sequence[int], pairs: Mapping[int, tuple[int, str]]
) -> Comparison:
    sums: dict[tuple[int, ...], _Sum] = {}
    missing: dict[int, float] = {}
    for index, call in enumerate(calls):
        here = sums.setdefault(call.rows, _Sum())
        here.calls += 1
        if index not in pairs:
            missing[call.rows[0]] = missing.get(call.rows[0], 0.0) + call.predicted_s
            continue
        unit, by = pairs[index]
        here.predicted_s += call.predicted_s
        here.measured_s += units[unit].time_s
        here.units.append(unit)
        here.by[by] += 1
    matched = [_matched(rows, one) for rows, one in sums.items() if one.units]
    taken = {unit for unit, _ in pairs.values()}
    measured_s = sum(units[index].time_s for index in steps)
    inside = set(steps)
    known, off, ratio = _off_sizes(calls, units, pairs)
    return Comparison(
        matched=tuple(sorted(matched, key=lambda one: -abs(one.measured_s - one.predicted_s))),
        missing=tuple(sorted(missing.items(), key=lambda pair: -pair[1])),
        extra=_extra([units[index] for index in steps if index not in taken]),
        update_s=sum(unit.time_s for index, unit in enumerate(units) if index not in inside),
        matched_frac=sum(units[index].time_s for index in taken) / measured_s if measured_s else 0.0,
        off_sizes=(off, ratio),
        with_sizes=known,
    )


def _matched(rows: tuple[int, ...], one: _Sum) -> Matched:
    return Matched(
        rows=rows,
        calls=one.calls,
        seen=len(one.units),
        predicted_s=one.predicted_s,
        measured_s=one.measured_s,
        units=tuple(one.units),
        by=dict(one.by),
    )


def _extra(units: Sequence[Unit]) -> tuple[tuple[str, int, float], ...]:
    found: dict[str, list[float]] = {}
    for unit in units:
        found.setdefault(unit.name.removeprefix("autograd::engine::evaluate_function: "), []).append(unit.time_s)
    listed = [(name, len(times), sum(times)) for name, times in found.items()]
    return tuple(sorted(listed, key=lambda one: -one[2]))


def _off_sizes(
    calls: Sequence[Call], units: Sequence[Unit], pairs: Mapping[int, tuple[int, str]]
) -> tuple[int, int, float]:
    """Calls whose sizes are known, those of them that are not as expected, and the median ratio of the latter."""
    ratios = []
    known = 0
    for index, (unit, by) in pairs.items():
        sizes = _sizes(units[unit])
        if by == "kernel" or not sizes or not calls[index].sizes or not min(sizes[0], calls[index].sizes[0]):
            continue
        known += 1
        if sizes[0] != calls[index].sizes[0]:
            ratios.append(sizes[0] / calls[index].sizes[0])
    return known, len(ratios), median(ratios) if ratios else 1.0


def repeats(calls: Sequence[Call], units: Sequence[Unit]) -> int:
    """How many steps an unmarked trace holds, at least 1.

    By how often it runs what one step runs once; where no operator is named, by how often the kernels come again.
    """
    if not any(unit.is_asked for unit in units):
        heavy = sum(call.kind in _HEAVY for call in calls), sum(kind_of_kernel(unit.name) in _HEAVY for unit in units)
        return _rounds([unit.name for unit in units], heavy[1] / heavy[0] if all(heavy) else 1.0)
    expected = Counter((call.name, call.phase is Phase.BACKWARD) for call in calls)
    asked = (unit for unit in units if unit.is_asked and not unit.is_update)
    found = Counter((common_name(unit.name), unit.is_backward) for unit in asked)
    ratios = sorted((found[key] / count, count) for key, count in expected.items() if found[key])
    if not ratios:
        return 1
    half = sum(count for _, count in ratios) / 2
    reached = 0
    for ratio, count in ratios:
        reached += count
        if reached >= half:
            return max(1, round(ratio))
    return 1


def _rounds(names: Sequence[str], about: float) -> int:
    """How many equal parts follow each other: of the possible numbers the one nearest to what is expected."""
    counts = [count for count in range(1, len(names) + 1) if len(names) % count == 0]
    fitting = [count for count in counts if _comes_again(names, len(names) // count)]
    return min(fitting, key=lambda count: abs(log(count / about)), default=1)


def _comes_again(names: Sequence[str], length: int) -> bool:
    return all(one == other for one, other in zip(names, names[length:], strict=False))


def one_of(units: Sequence[Unit], steps: int) -> Sequence[Unit]:
    """The units of the step of median time, where a trace holds so many equal steps in a row without marks."""
    if steps <= 1 or len(units) < steps:
        return units
    cuts = [round(len(units) * at / steps) for at in range(steps + 1)]
    parts = [units[start:end] for start, end in pairwise(cuts)]
    return sorted(parts, key=lambda part: sum(unit.time_s for unit in part))[(steps - 1) // 2]


def words_of(op: Op) -> str:
    """An operator's name as a table shows it."""
    return op.name.removeprefix("aten.").removeprefix("rigwise.")
