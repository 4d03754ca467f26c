"""A prediction as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

from rigwise.estimate.compare import Answer
from rigwise.estimate.predict import Prediction
from rigwise.estimate.roofline import ridge_point
from rigwise.units import (
    format_bytes,
    format_count,
    format_fraction,
    format_seconds,
)

_BAR = 24
_WIDTH, _HEIGHT = 60, 11
#: Where operators run for less of a step, the text says that the rest is waiting.
_MOST_OF_IT = 0.95


def prediction_text(prediction: Prediction, *, brief: bool = False) -> str:
    """The answer, then its reasons: what binds, kind by kind, memory term by term, a roofline."""
    lines = _answer_lines(prediction)
    if not brief:
        lines += ["", *_binding_lines(prediction), "", *_kind_lines(prediction), "", *_memory_lines(prediction)]
        lines += ["", *roofline_lines(prediction), "", *_assumption_lines(prediction)]
    return "\n".join(lines) + "\n"


def _interval(values: object, show: object) -> str:
    low, mid, high = (show(values[q]) for q in ("p10", "p50", "p90"))  # type: ignore[index,operator]
    return f"{mid}   (80 %: {low} to {high})"


def _answer_lines(p: Prediction) -> list[str]:
    case = p.case
    machine = f"{case.count} x {p.device.id}" if case.count > 1 else p.device.id
    work = [case.task, f"batch {case.batch}", case.dtype or "", case.mode]
    work += [f"seq {case.seq}"] if case.seq and case.task != "decode" else []
    work += [f"context {case.context}"] if case.context and case.task == "decode" else []
    lines = [f"{case.model} on {machine}: {', '.join(work)}", ""]
    lines.append(f"  step time    {_interval(p.step_time_s, format_seconds)}")
    rate = f"{format_count(p.throughput_per_s)} samples/s"
    rate += f", {format_count(p.tokens_per_s)} tokens/s" if p.tokens_per_s else ""
    lines.append(f"  throughput   {rate}")
    fits = "fits" if p.fits else "DOES NOT FIT"
    lines.append(
        f"  memory       {format_bytes(p.peak_memory_bytes['p50'])} of {format_bytes(p.capacity_bytes)}"
        f"   {fits} (chance {format_fraction(p.fit_probability)})"
    )
    if p.largest_micro_batch is not None and not p.fits:
        lines.append(largest_line(p))
    if p.energy_j:
        watts = p.energy_j["p50"] / p.step_time_s["p50"] / case.count
        lines.append(f"  energy       {format_count(p.energy_j['p50'], 'J')} a step, {watts:.0f} W a device")
    lines.append(
        f"  work         {format_count(p.flops, 'FLOP')}, {format_count(p.macs, 'MAC')},"
        f" {format_bytes(p.moved_bytes)} moved,"
        f" MFU {format_fraction(p.mfu)}"
    )
    lines.append(f"  never under  {format_seconds(p.bound_s)}   basis: {p.provenance}")
    return lines


def largest_line(p: Prediction) -> str:
    """The largest micro-batch that fits."""
    if not p.largest_micro_batch:
        return "               not even a micro-batch of 1 fits"
    return f"               the largest micro-batch that fits is {p.largest_micro_batch}"


def _bar(share: float) -> str:
    return "#" * round(share * _BAR)


def _binding_lines(p: Prediction) -> list[str]:
    lines = ["what binds"]
    for name, share in sorted(p.binds.items(), key=lambda item: -item[1]):
        if share >= 0.005:
            lines.append(f"  {name:<12} {format_fraction(share):>5}  {_bar(share)}")
    return lines


def _kind_lines(p: Prediction) -> list[str]:
    whole = sum(share.time_s for share in p.by_kind) or 1.0
    lines = [f"  {'operators':<12} {'time':>9} {'share':>6} {'FLOP':>9} {'bytes':>9}  bound by"]
    for share in p.by_kind:
        flops = format_count(share.flops) if share.flops else "-"
        lines.append(
            f"  {share.kind:<12} {format_seconds(share.time_s):>9} {format_fraction(share.time_s / whole):>6}"
            f" {flops:>9} {format_bytes(share.moved_bytes):>9}  {share.binds}"
        )
    if whole < _MOST_OF_IT * p.step_time_s["p50"]:
        lines.append(f"  they run for {format_seconds(whole)} of the step; for the rest it waits: see what binds")
    return lines


def _memory_lines(p: Prediction) -> list[str]:
    lines = ["memory of the fullest device"]
    for name, value in sorted(p.memory_terms.items(), key=lambda item: -item[1]):
        lines.append(f"  {name.replace('_', ' '):<18} {format_bytes(value):>9}")
    return lines


def roofline_lines(p: Prediction) -> list[str]:
    """The device's roofline with each kind of operator on it, a letter each, on log axes."""
    points = [
        (s.kind, s.flops / s.moved_bytes, s.flops / s.time_s)
        for s in p.by_kind
        if s.flops and s.moved_bytes and s.time_s
    ]
    bandwidth = p.device.memory_bytes_per_s
    if not points or not bandwidth:
        return []
    peak = max(p.flops / p.case.count / p.mfu / p.step_time_s["p50"] if p.mfu else 0.0, *(y for _, _, y in points))
    ridge = ridge_point(peak, bandwidth)
    x_low, x_high = log10(min(ridge, *(x for _, x, _ in points)) / 4), log10(max(ridge, *(x for _, x, _ in points)) * 4)
    y_high = log10(peak)
    y_low = min(y_high - 2, *(log10(y) for _, _, y in points))
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]

    def put(x: float, y: float, mark: str) -> None:
        column = round((x - x_low) / (x_high - x_low) * (_WIDTH - 1))
        row = round((y_high - y) / (y_high - y_low) * (_HEIGHT - 1))
        if 0 <= row < _HEIGHT and 0 <= column < _WIDTH:
            grid[row][column] = mark

    for column in range(_WIDTH):
        x = x_low + (x_high - x_low) * column / (_WIDTH - 1)
        put(x, min(y_high, x + log10(bandwidth)), "-" if x > log10(ridge) else "/")
    legend = []
    for (kind, x, y), letter in zip(points, "ABCDEFGH", strict=False):
        put(log10(x), log10(y), letter)
        legend.append(f"{letter} {kind}")
    lines = [f"roofline of {p.device.id}: {format_count(peak, 'FLOP/s')}, ridge at {ridge:.0f} FLOP/byte"]
    lines += ("  |" + "".join(row).rstrip() for row in grid)
    lines += ["  +" + "-" * _WIDTH + " FLOP/byte", "   " + "  ".join(legend)]
    return lines


def _assumption_lines(p: Prediction) -> list[str]:
    lines = []
    if p.assumed:
        lines.append("assumed: " + "; ".join(p.assumed))
    if p.unknown_ops:
        lines.append("counted as memory traffic only: " + ", ".join(p.unknown_ops))
    return lines


COMPARE_COLUMNS = ("device", "step time", "80 % in", "samples/s", "memory", "binds")
COMPARE_RIGHT = ("step time", "80 % in", "samples/s", "memory", "binds")


def compare_rows(answers: Sequence[Answer]) -> list[list[str]]:
    """One row for each device that can do the work; ``!`` marks memory that does not fit."""
    rows = []
    for p in (answer.prediction for answer in answers):
        if p is None:
            continue
        time, binds = p.step_time_s, max(p.binds, key=lambda name: p.binds[name])
        below, above = 1 - time["p10"] / time["p50"], time["p90"] / time["p50"] - 1
        rows.append(
            [
                p.device.id,
                format_seconds(time["p50"]),
                f"-{below * 100:.0f}/+{above * 100:.0f}%",
                format_count(p.throughput_per_s),
                format_bytes(p.peak_memory_bytes["p50"]) + ("" if p.fits else " !"),
                f"{binds} {p.binds[binds] * 100:.0f}%",
            ]
        )
    return rows


def compare_notes(answers: Sequence[Answer]) -> list[str]:
    """Why some devices are not in the table, and which do not hold the model."""
    notes = [str(answer.error) for answer in answers if answer.error]
    small = [a.prediction.device.id for a in answers if a.prediction and not a.prediction.fits]
    return notes + ([f"! does not fit the memory of {', '.join(small)}"] if small else [])
