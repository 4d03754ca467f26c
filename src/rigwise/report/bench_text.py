"""What a machine really does, on a terminal of 80 columns; as JSON; and as a table that ``calibrate`` reads."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rigwise.bench.limits import ROOFS, limit_share
from rigwise.bench.suite import BENCHMARKS, Report
from rigwise.bench.types import ERROR, JOULES, TIME, Benchmark, Figure, Reference
from rigwise.report.bench_sections import (
    amount,
    collective_rows,
    collectives,
    item,
    pipeline_document,
    pipeline_lines,
    side_by_side,
)
from rigwise.units import format_seconds

SCHEMA = "rigwise.bench/1"
WIDTH = 79
_COLUMNS = f"{'':<29}{'measured':>12}{'spread':>7}{'limit':>13}{'of it':>7}{'predicted':>11}"
#: Rows of a table of measurements: what is asked of the catalogue, as such tables name it.
_SHAPES = {
    "gemm": ("op:gemm", "M{m} N{n} K{k}"),
    "conv": ("op:conv", "w{w} h{h} c{c} n{n} k{k} r{r} s{r} pad1,1 str1,1"),
}
#: A figure that others had more of the CPU's time in says nothing of the machine.
OTHERS_MOST_FRAC = 0.2


def list_text(benchmarks: Sequence[Benchmark]) -> str:
    """The benchmarks by group."""
    lines = []
    for group in dict.fromkeys(benchmark.group for benchmark in benchmarks):
        of = [b for b in benchmarks if b.group == group]
        lines += [group, *(f"  {b.name + ('' if b.quick else ' *'):<13} {b.answers}" for b in of)]
    if any(not benchmark.quick for benchmark in benchmarks):
        lines.append("* takes long to prepare: --quick leaves it out unless it is named")
    return "\n".join(lines) + "\n"


def bench_text(report: Report, *, brief: bool = False) -> str:
    """Figures by group with spread, limit and prediction; then what was left out and what to mind."""
    software = ", ".join(f"{name} {version}" for name, version in report.software.items())
    threads = f"{report.threads} thread{'s' if report.threads != 1 else ''}"
    of = ", ".join(word for word in (report.name, threads, software) if word)
    lines = textwrap.wrap(f"{of}; {format_seconds(report.wall_s)}", WIDTH)
    if report.unknown:
        lines += textwrap.wrap(f"without limits and predictions: {report.unknown}", WIDTH)
    if report.device and report.device.kind != "cpu":
        lines.append("mind that no benchmark was ever tried on a GPU by those who wrote it")
    lines += ["", _COLUMNS]
    for group, figures in _by_group(report.figures):
        lines += [group, *(_row(figure) for figure in figures)]
    if not brief:
        lines += [
            *side_by_side(report.figures),
            *collectives(report.figures),
            *pipeline_lines(report.figures, report.threads),
            *_limits(report.figures),
            *_published(report.figures),
            *_skipped(report.figures),
            *_remarks(report.figures),
        ]
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
    bound = amount(limit.value, figure.raw.unit) if limit else ""
    share = _percent(limit_share(figure) or 0.0) if limit else ""
    ratio = f"{_ratio(figure):.2f} of it" if predicted else ""
    if figure.raw.unit == ERROR:
        gained = float(figure.raw.parameters.get("speed_over_fp32", 1.0))
        return f"  {figure.raw.name:<27}{value:>12.1e}{'':7}  error, {gained:.2f} x fp32's speed"
    return f"  {figure.raw.name:<27}{amount(value, figure.raw.unit):>12}{spread:>7}{bound:>13}{share:>7}{ratio:>11}"


def _ratio(figure: Figure) -> float:
    """Speed over the predicted speed: above 1 is quicker than predicted, or takes less energy."""
    value, predicted = figure.value or 0.0, figure.predicted.value if figure.predicted else 1.0
    return predicted / value if figure.raw.unit in (TIME, JOULES) else value / predicted


def _percent(share: float) -> str:
    if 0 < share < 1e-4:
        return "~0 %"
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1g} %"


def _limits(figures: Sequence[Figure]) -> Iterator[str]:
    """The arithmetic of each limit once."""
    of: dict[str, str] = {}
    for figure in figures:
        if figure.limit and figure.limit.words == ROOFS:
            of.setdefault(f"{'':13}  {ROOFS}", "a network's step")
        elif figure.limit:
            shown = f"{amount(figure.limit.value, figure.raw.unit):>13}  {figure.limit.words}"
            of.setdefault(shown, figure.raw.limit)
    if of:
        yield from ("", "limits")
    for shown, what in of.items():
        yield f"  {what:<26}{shown}"[:WIDTH].rstrip()


def _published(figures: Sequence[Figure]) -> Iterator[str]:
    """What others measured, and how many times that this machine does."""
    found = [(figure, reference) for figure in figures for reference in figure.published]
    if found:
        yield from ("", "published by others (here over it)")
    for figure, reference in found:
        times = f"{(figure.value or 0.0) / reference.value:.3g} x"
        yield f"  {figure.raw.name:<24}{amount(reference.value, figure.raw.unit):>14}{times:>8}  {reference.words}"[
            :WIDTH
        ]


def _skipped(figures: Sequence[Figure]) -> Iterator[str]:
    """Names by reason, the reason once."""
    names: dict[str, list[str]] = {}
    for figure in figures:
        if figure.raw.skipped:
            names.setdefault(figure.raw.skipped, []).append(figure.raw.name)
    if names:
        yield from ("", "not measured")
    for reason, of in names.items():
        yield from item(f"{', '.join(of)}: {reason}")


def _remarks(figures: Sequence[Figure]) -> Iterator[str]:
    """What makes figures doubtful: the worst case of each kind once, with how many have it."""
    noisy = [figure for figure in figures if (figure.spread_frac or 0.0) > 0.1]
    others = [figure.raw.state.others_frac or 0.0 for figure in figures]
    stolen = [figure.raw.state.steal_frac or 0.0 for figure in figures]
    above = [remark for figure in figures for remark in figure.remarks if remark.startswith("above its limit")]
    lines = []
    if max(others, default=0.0) > 0.1:
        lines.append(
            f"other processes took up to {_percent(max(others))} of the CPU time: threads then wait for each other; end"
            " them and measure again, or see one core alone with --threads 1"
        )
    if max(stolen, default=0.0) > 0.02:
        lines.append(f"the host gave up to {_percent(max(stolen))} of the CPU time to other virtual machines")
    if noisy:
        measured = sum(figure.value is not None for figure in figures)
        lines.append(
            f"{len(noisy)} of {measured} figures {'is' if len(noisy) == 1 else 'are'} noisy: the middle half of their"
            " samples spans over 10 % of the median; --json has the quickest block and every sample"
        )
    lines += [f"{f.raw.name}: {remark}" for f in figures for remark in f.remarks if remark in above]
    if lines:
        yield from ("", "mind")
        for line in lines:
            yield from item(line)


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
        **pipeline_document(report.figures, report.threads),
        "all_reduce": collective_rows(report.figures),
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
        "wall_s": timing.wall_s if timing else None,
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


def measurements_csv(report: Report) -> tuple[str, int]:
    """The figures that ``rigwise judge`` and ``rigwise calibrate`` read, as their table; and how many were left out.

    What was measured while others took much of the CPU's time, or on some of the threads, is no measurement of the
    device.
    """
    columns = ("source", "device", "model", "task", "precision", "layout", "batch", "input_shape_or_seq")
    text, left_out = io.StringIO(), 0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "framework", "metric", "value", "notes"])
    framework = f"PyTorch {report.software['torch']} eager" if "torch" in report.software else "numpy"
    for figure in report.figures:
        cells = _cells(figure)
        if report.device is None or cells is None or figure.value is None:
            continue
        threads = figure.raw.parameters.get("threads", report.threads)
        if threads != report.threads or (figure.raw.state.others_frac or 0.0) > OTHERS_MOST_FRAC:
            left_out += 1
            continue
        notes = f"threads={threads}; started={report.started}; no optimizer"
        seconds = repr(figure.raw.amount / figure.value)
        writer.writerow(["rigwise bench", report.device.id, *cells, framework, "s_per_step", seconds, notes])
    return text.getvalue(), left_out


def _cells(figure: Figure) -> list[Any] | None:
    """Model, task, precision, layout, batch and sizes of a row; None for what such tables have no word for."""
    work = figure.raw.work
    if work.get("law") == "step":
        if "runtime" in work:  # such tables take the framework's name from another column
            return None
        sizes = work["seq"] if "seq" in work else f"3x{work['image_size']}x{work['image_size']}"
        return [work["model"], work["task"], "fp32", "nchw", work["batch"], sizes]
    if work.get("law") not in _SHAPES:
        return None
    model, shape = _SHAPES[str(work["law"])]
    return [model, "infer", work["format"], work.get("layout", ""), "", shape.format(**work)]
