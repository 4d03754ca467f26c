"""What a machine really does, on a terminal of 80 columns; as JSON; and as a table that ``calibrate`` reads."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rigwise.bench.suite import BENCHMARKS, Benchmark, Report
from rigwise.bench.types import BYTES, ERROR, FLOPS, ITEMS, TIME, Figure, Reference
from rigwise.units import format_count, format_seconds

SCHEMA = "rigwise.bench/1"
WIDTH = 79
_COLUMNS = f"{'':<26}{'measured':>14}{'spread':>8}{'limit':>13}{'of it':>7}{'predicted':>11}"
#: Rows of a table of measurements: what is asked of the catalogue, as such tables name it.
_SHAPES = {
    "gemm": ("op:gemm", "M{m} N{n} K{k}"),
    "conv": ("op:conv", "w{w} h{h} c{c} n{n} k{k} r{r} s{r} pad1,1 str1,1"),
}


def list_text(benchmarks: Sequence[Benchmark]) -> str:
    """The benchmarks by group."""
    lines = []
    for group in dict.fromkeys(benchmark.group for benchmark in benchmarks):
        lines += [group, *(f"  {b.name:<12} {b.answers}" for b in benchmarks if b.group == group)]
    return "\n".join(lines) + "\n"


def bench_text(report: Report, *, brief: bool = False) -> str:
    """Figures by group with spread, limit and prediction; then what was left out and what to mind."""
    software = ", ".join(f"{name} {version}" for name, version in report.software.items())
    threads = f"{report.threads} thread{'s' if report.threads != 1 else ''}"
    lines = textwrap.wrap(f"{report.name}, {threads}, {software}; {format_seconds(report.wall_s)}", WIDTH)
    if report.unknown:
        lines += textwrap.wrap(f"without limits and predictions: {report.unknown}", WIDTH)
    lines += ["", _COLUMNS]
    for group, figures in _by_group(report.figures):
        lines += [group, *(_row(figure) for figure in figures)]
    if not brief:
        lines += [*_published(report.figures), *_skipped(report.figures), *_remarks(report.figures)]
    if report.interrupted:
        lines += ["", "interrupted: what was measured until then"]
    return "\n".join(lines) + "\n"


def _by_group(figures: Sequence[Figure]) -> Iterator[tuple[str, list[Figure]]]:
    group_of = {benchmark.name: benchmark.group for benchmark in BENCHMARKS}
    shown = [figure for figure in figures if figure.value is not None]
    for group in dict.fromkeys(benchmark.group for benchmark in BENCHMARKS):
        found = [figure for figure in shown if group_of.get(figure.raw.name.partition(".")[0]) == group]
        if found:
            yield group, found


def _row(figure: Figure) -> str:
    limit, predicted, value = figure.limit, figure.predicted, figure.value or 0.0
    spread = "" if figure.spread_frac is None else _percent(figure.spread_frac)
    bound = _amount(limit.value, figure.raw.unit) if limit else ""
    share = _percent(value / limit.value) if limit else ""
    ratio = f"{_ratio(figure):.2f} of it" if predicted else ""
    if figure.raw.unit == ERROR:
        gained = figure.raw.parameters.get("speed_over_fp32")
        return f"  {figure.raw.name:<24}{value:>14.1e}{'':8}  error; {gained} x the speed of fp32"
    return f"  {figure.raw.name:<24}{_amount(value, figure.raw.unit):>14}{spread:>8}{bound:>13}{share:>7}{ratio:>11}"


def _ratio(figure: Figure) -> float:
    """Speed over the predicted speed: above 1 is quicker than predicted."""
    value, predicted = figure.value or 0.0, figure.predicted.value if figure.predicted else 1.0
    return predicted / value if figure.raw.unit == TIME else value / predicted


def _amount(value: float, unit: str) -> str:
    if unit == TIME:
        return format_seconds(value)
    return format_count(value, {FLOPS: "FLOP/s", BYTES: "B/s", ITEMS: "/s"}.get(unit, unit))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1g} %"


def _published(figures: Sequence[Figure]) -> Iterator[str]:
    found = [(figure, reference) for figure in figures for reference in figure.published]
    if found:
        yield from ("", "published")
    for figure, reference in found:
        yield f"  {figure.raw.name:<24}{_amount(reference.value, figure.raw.unit):>14}  {reference.words}"[:WIDTH]


def _skipped(figures: Sequence[Figure]) -> Iterator[str]:
    """Names by reason, the reason once."""
    names: dict[str, list[str]] = {}
    for figure in figures:
        if figure.raw.skipped:
            names.setdefault(figure.raw.skipped, []).append(figure.raw.name)
    if names:
        yield from ("", "not measured")
    for reason, of in names.items():
        yield from _item(f"{', '.join(of)}: {reason}")


def _remarks(figures: Sequence[Figure]) -> Iterator[str]:
    """What makes figures doubtful: the worst case of each kind once, with how many have it."""
    noisy = [figure for figure in figures if (figure.spread_frac or 0.0) > 0.1]
    others = [figure.raw.state.others_frac or 0.0 for figure in figures]
    stolen = [figure.raw.state.steal_frac or 0.0 for figure in figures]
    above = [remark for figure in figures for remark in figure.remarks if remark.startswith("above its limit")]
    lines = []
    if max(others, default=0.0) > 0.1:
        lines.append(f"other processes took up to {_percent(max(others))} of the CPU time: end them and measure again")
    if max(stolen, default=0.0) > 0.02:
        lines.append(f"the host gave up to {_percent(max(stolen))} of the CPU time to other virtual machines")
    if noisy:
        lines.append(
            f"{len(noisy)} of {len(figures)} figures are noisy: the middle half of their samples spans over 10 % of the"
            " median; --json has the quickest block and every sample"
        )
    lines += [f"{f.raw.name}: {remark}" for f in figures for remark in f.remarks if remark in above]
    if lines:
        yield from ("", "mind")
        for line in lines:
            yield from _item(line)


def _item(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent="  - ", subsequent_indent="    ")


def document(report: Report) -> dict[str, Any]:
    """The report for JSON."""
    return {
        "schema": SCHEMA,
        "started": report.started,
        "method": report.method,
        "device": report.device.id if report.device else None,
        "name": report.name,
        "threads": report.threads,
        "software": dict(report.software),
        "wall_s": report.wall_s,
        "interrupted": report.interrupted,
        "figures": [_figure(figure) for figure in report.figures],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    raw, timing = figure.raw, figure.raw.timing
    state = raw.state
    return {
        "name": raw.name,
        "unit": raw.unit,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "best": figure.best,
        "spread_frac": figure.spread_frac,
        "limit": _reference(figure.limit),
        "predicted": _reference(figure.predicted),
        "published": [_reference(reference) for reference in figure.published],
        "remarks": list(figure.remarks),
        "skipped": raw.skipped or None,
        "note": raw.note,
        "parameters": dict(raw.parameters),
        "amount": raw.amount,
        "samples_s": list(timing.samples_s) if timing else [],
        "calls": timing.calls if timing else None,
        "warm_up_s": timing.warm_up_s if timing else None,
        "cpu_s": timing.cpu_s if timing else None,
        "state": {
            "others_frac": state.others_frac,
            "steal_frac": state.steal_frac,
            "stall_frac": state.stall_frac,
            "gpu_hz": state.gpu_hz,
            "gpu_w": state.gpu_w,
            "throttled": list(state.throttled),
        },
    }


def _reference(reference: Reference | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {"value": reference.value, "words": reference.words, "source": reference.source}


def measurements_csv(report: Report) -> str:
    """The figures that ``rigwise judge`` and ``rigwise calibrate`` can read, as their table."""
    columns = ("source", "device", "model", "task", "precision", "layout", "batch", "input_shape_or_seq")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "framework", "metric", "value", "notes"])
    for figure in report.figures:
        work, timing = figure.raw.work, figure.raw.timing
        if report.device is None or timing is None or work.get("law") not in _SHAPES:
            continue
        model, shape = _SHAPES[str(work["law"])]
        middle_s = figure.raw.amount / figure.value if figure.value else 0.0
        first = ["rigwise bench", report.device.id, model, "infer", work["format"], work.get("layout", ""), ""]
        framework = f"PyTorch {report.software['torch']} eager" if "torch" in report.software else "numpy"
        notes = f"threads={report.threads}; spread={figure.spread_frac:.3f}; started={report.started}"
        writer.writerow([*first, shape.format(**work), framework, "s_per_step", repr(middle_s), notes])
    return text.getvalue()
