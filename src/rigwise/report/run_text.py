"""A run of a command beside its prediction, as text."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from rigwise.launch.folder import FINISHED
from rigwise.launch.measured import Measured
from rigwise.launch.result import Result, differences
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds


def command_text(result: Result, *, brief: bool = False) -> str:
    """How a run ended, predicted against measured, and why they differ; without the sentences if ``brief``."""
    lines = [headline(result)]
    if result.measured.steps:
        lines += ["", *_figures(result)]
    if not brief:
        sentences = [*result.state.notes, *differences(result)]
        lines += ["", *map(_wrapped, sentences)] if sentences else []
    if result.kept:
        lines += ["", f"{result.kept} figures kept: rigwise history --kind run"]
    return "\n".join(lines) + "\n"


def headline(result: Result) -> str:
    """One line: the run, how it stands, how long it took."""
    state, found = result.state, result.measured
    words = [f"run {state.id}: {state.phase}"]
    if state.message and state.phase != FINISHED:
        words[0] += f", {state.message}" if state.message not in ("interrupted", "terminated") else ""
    if result.wall_s is not None:
        words[0] += f" after {format_seconds(result.wall_s)}"
    if found.steps:
        words.append(f"{found.steps} steps")
    if len(state.attempts) > 1:
        words.append(f"{len(state.attempts)} attempts")
    return ", ".join(words)


def _figures(result: Result) -> Iterator[str]:
    found, predicted = result.measured, result.predicted
    if predicted:
        yield f"{'':12}{'predicted':>13}{'measured':>13}"
    step = predicted.get("step_time_s")
    tail = f"   80 %: {format_seconds(found.step_time_s['p10'])} to {format_seconds(found.step_time_s['p90'])}"
    tail += f", {result.ratio:.2f} x" if result.ratio else ""
    yield (
        _row("step time", format_seconds(step["p50"]) if step else None, format_seconds(found.step_time_s["p50"]))
        + tail
    )
    if found.throughput_per_s or predicted:
        rate = predicted.get("throughput_per_s")
        yield _row("throughput", _rate(rate) if predicted else None, _rate(found.throughput_per_s)) + "   samples"
    yield from _memory(found, predicted.get("peak_memory_bytes", {}).get("p50"), has=bool(predicted))
    blank = "" if predicted else None
    if found.wait_frac:
        yield _row("input wait", blank, format_fraction(found.wait_frac)) + "   of the step"
    energy = result.energy
    if energy.get("energy_j"):
        yield _row("energy", blank, f"{energy['energy_j']:.3g} J") + f"   {energy.get('mean_w', 0.0):.0f} W on average"
    if found.startup_s is not None:
        yield _row("start", blank, format_seconds(found.startup_s)) + "   until the first step began"
    if found.saves:
        took = f"   {format_seconds(found.save_s)} each" if found.save_s else ""
        yield _row("checkpoints", blank, str(found.saves)) + took


def _memory(found: Measured, predicted_bytes: float | None, *, has: bool) -> Iterator[str]:
    shown = format_bytes(predicted_bytes) if predicted_bytes else "-"
    of_gpu = bool(found.gpu_bytes)
    value = found.gpu_bytes or found.memory_bytes
    words = "   of the GPU" if of_gpu else "   of the process, its libraries included"
    yield _row("memory", shown if has else None, format_bytes(value) if value else "-") + words


def _row(name: str, predicted: str | None, measured: str) -> str:
    return f"{name:12}{'' if predicted is None else f'{predicted:>13}'}{measured:>13}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{format_count(value)} /s"


def _wrapped(sentence: str) -> str:
    return fill(sentence, 80, initial_indent="  ", subsequent_indent="    ")
