"""What was measured, compared and found, as text and as one chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from rigwise.measurement.compare import Comparison, Finding, Key, Sides, grouped, key_of
from rigwise.measurement.records import Record
from rigwise.units import format_count, format_seconds

if TYPE_CHECKING:
    from rigwise.report.figures.theme import Figure

#: Width of a terminal, of the name of a figure, and of the drawn range.
_WIDTH, _NAME, _DRAWN = 79, 24, 36

LIST_RIGHT = ("value", "p10 to p90", "n")
_VERDICTS = ("worse", "changed", "better", "unclear", "same")


def amount(value: float, unit: str) -> str:
    """A figure with its unit.

    >>> amount(0.0123, "s"), amount(1.5e12, "FLOP/s"), amount(0.25, "")
    ('12.3 ms', '1.50 TFLOP/s', '0.25')
    """
    if unit == "s":
        return format_seconds(value) if abs(value) >= 1e-9 or value == 0 else f"{value:.3g} s"
    unit = "/s" if unit == "1/s" else unit
    if unit == "":
        return f"{value:.4g}"
    return format_count(value, unit) if abs(value) >= 1e-2 or value == 0 else f"{value:.3g} {unit}"


def day_and_time(when: str) -> str:
    """A time as people read it, UTC.

    >>> day_and_time("2026-11-21T18:00:00.000000Z")
    '2026-11-21 18:00'
    """
    return when[:16].replace("T", " ")


def list_table(records: Sequence[Record]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows, the newest first; the machine is a column where there are several."""
    several = len({record.machine_id for record in records}) > 1
    columns = ("when", "figure", "value", "p10 to p90", "n", *(("machine",) if several else ()))
    rows: list[tuple[str, ...]] = []
    for record in reversed(records):
        spread = "" if record.p10 is None or record.p90 is None else _span(record.p10, record.p90, record.unit)
        row = (day_and_time(record.when), record.name, amount(record.value, record.unit), spread, f"{record.n:,}")
        rows.append((*row, record.machine_id) if several else row)
    return columns, rows


def _span(low: float, high: float, unit: str) -> str:
    """Two figures, the unit once: that of the second, where they differ by a decimal prefix.

    >>> _span(8.67e8, 1.07e9, "FLOP/s"), _span(0.0009, 0.0012, "s"), _span(1e-6, 3.0, "s")
    ('0.867-1.07 GFLOP/s', '0.900-1.20 ms', '1.00 us-3.00 s')
    """
    first, last = amount(low, unit), amount(high, unit)
    number, _, rest = first.partition(" ")
    if rest and last.endswith(f" {rest}"):
        return f"{number}-{last}"
    told = float(last.partition(" ")[0].replace(",", ""))
    if not 0 < high / 1000 <= low <= high or not told:
        return f"{first}-{last}"
    scale = 10.0 ** round(math.log10(high / told))
    return f"{low / scale:#.3g}-{last}" if abs(told * scale / high - 1) < 0.01 else f"{first}-{last}"


def compare_lines(found: Sides, first: str, second: str) -> Iterator[str]:
    """A line for each figure, what became worse first; nothing where none can be compared."""
    ordered = sorted(found.comparisons, key=lambda one: (_VERDICTS.index(one.verdict), one.key))
    if not ordered:
        return
    names = _names([one.key for one in ordered])
    width = min(max(map(len, names)), _NAME)
    left, right = _cut(first, 12), _cut(second, 12)
    if left == right:  # two long names of one beginning
        left, right = "the first", "the second"
    yield f"{'':{width}} {left:>12} {right:>12}  ratio         95 %  verdict"
    for one, name in zip(ordered, names, strict=True):
        before, after = (amount(value, one.key[2]) for value in one.medians)
        yield f"{_cut(name, width):{width}} {before:>12} {after:>12} {_ratio(one)}  {one.verdict}"
    runs = [sorted({one.runs[place] for one in ordered}) for place in (0, 1)]
    shown = [str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" for counts in runs]
    yield ""
    yield _wrapped(f"runs of each figure: {shown[0]} in {first}, {shown[1]} in {second}")


def _ratio(one: Comparison) -> str:
    if one.ratio is None:
        return f"{'-':>6} {'-':>12}"
    bounded = one.ratio.low > 0 and math.isfinite(one.ratio.high)
    low, middle, high = (
        f"{x:.2f}" if x < 100 else f"{x:.0f}" for x in (one.ratio.low, one.ratio.value, one.ratio.high)
    )
    interval = f"{low}-{high}" if bounded else "-"
    return f"{middle:>6} {interval:>12}"


def _cut(words: str, width: int) -> str:
    return words if len(words) <= width else words[: width - 1] + "…"


def _names(keys: Sequence[Key]) -> list[str]:
    """Names of figures, with the tags that tell those of one name apart."""
    shown = []
    for key in keys:
        others = [other for other in keys if other[1] == key[1] and other != key]
        apart = [f"{name}={value}" for name, value in key[3] if any(dict(o[3]).get(name) != value for o in others)]
        shown.append(" ".join([key[1], *apart]))
    return shown


def compare_notes(found: Sides, first: str, second: str) -> Iterator[str]:
    """What the table leaves out."""
    reasons: dict[str, list[str]] = {}
    for one in found.comparisons:
        if one.note:
            reasons.setdefault(one.note, []).append(one.key[1])
    for note, names in reasons.items():
        yield _wrapped(f"unclear, {_few(names)}: {note}")
    for name, why in found.refused:
        yield _wrapped(f"not comparable, {name}: {why}")
    for words, alone in zip((first, second), found.only, strict=True):
        if alone:
            yield _wrapped(f"only in {words}: {_few(alone)}")
    if found.changed:
        yield _wrapped(f"software: {_versions(found.changed)}")


def _versions(changed: Sequence[tuple[str, str, str]]) -> str:
    shown = ", ".join(f"{name} {old} -> {new}" for name, old, new in changed[:8])
    return shown + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """One sentence for each finding, regressions first."""
    order = ("regression", "change", "outlier", "improvement")
    for one in sorted(findings, key=lambda f: (order.index(f.what), f.when)):
        unit, name = one.key[2], one.key[1]
        before, after = (amount(value, unit) for value in one.medians)
        ratio = f"{one.medians[1] / one.medians[0]:.2f} times"
        place = f"{one.what}: {name} on {one.machine_id}"
        if one.what == "outlier":
            words = f"{day_and_time(one.when)} {after}, {ratio} the median {before} of {one.runs[0]} runs"
            yield _wrapped(
                f"{place}: {words} (z {one.z:+.1f}{', taken on a busy machine' if one.disturbed[1] else ''})"
            )
            continue
        words = f"since {day_and_time(one.when)} {after}, before {before}: {ratio}"
        runs = f"{one.runs[0]} runs before, {one.runs[1]} since, p {one.p:.3f}"
        if any(one.disturbed):
            runs += f"; on a busy or throttled machine {one.disturbed[0]} and {one.disturbed[1]} of them"
        software = f"; software: {_versions(one.changed)}" if one.changed else ""
        yield _wrapped(f"{place}: {words} ({runs}){software}")


def plot_lines(records: Sequence[Record], most: int = 40) -> Iterator[str]:
    """Every series drawn by itself, a line for each run: p10 to p90, and the median as ``o``."""
    for name, found in _series(records).items():
        shown = found[-most:]
        low = min(min(r.value, r.value if r.p10 is None else r.p10) for r in shown)
        high = max(max(r.value, r.value if r.p90 is None else r.p90) for r in shown)
        yield _wrapped(name)
        unit = shown[0].unit
        edges = f"{amount(low, unit)}{amount(high, unit):>{max(1, _DRAWN - len(amount(low, unit)))}}"
        yield f"{'':33}{edges if high > low else amount(low, unit)}"
        for record in shown:
            drawn = _range(record, low, high)
            yield f"{day_and_time(record.when)}  {amount(record.value, unit):>13}  {drawn}".rstrip()
        if len(found) > most:
            yield f"  {len(found) - most:,} earlier runs are not shown"
        yield ""


def _series(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by machine and figure, under a heading that says both."""
    groups = grouped(sorted(records, key=lambda r: r.when))
    names = dict(zip(groups, _names(list(groups)), strict=True))
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.name, r.machine_id, r.when)):
        found.setdefault(f"{names[key_of(record)]} on {record.machine_id}", []).append(record)
    return found


def _range(record: Record, low: float, high: float) -> str:
    cells = [" "] * (_DRAWN + 1)

    def place(value: float) -> int:
        return round((value - low) / (high - low) * _DRAWN) if high > low else 0

    if record.p10 is not None and record.p90 is not None:
        for position in range(place(record.p10), place(record.p90) + 1):
            cells[position] = "-"
    cells[place(record.value)] = "o"
    return "".join(cells)


def chart(records: Sequence[Record]) -> Figure:
    """Every series in a panel of its own, by time, with p10 to p90."""
    from rigwise.report.figures.history import over_time

    return over_time(_series(records))


def _wrapped(sentence: str) -> str:
    return fill(sentence, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
