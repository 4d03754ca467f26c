"""What the same work costs on each device: dollars, energy, and the room that it takes."""

from __future__ import annotations

from typing import Any

from rigwise.report.figures.axes import amount_axis, dollars_axis, percent_axis
from rigwise.report.figures.ranges import Panel, Range, draw_panels, quantiles_row
from rigwise.report.figures.theme import Document, Figure
from rigwise.units import HOUR_S, format_bytes, format_count, format_fraction, format_usd

MILLION = 1e6


def worth_of_devices(document: Document) -> Figure:
    """Dollars and energy of a million samples or tokens, and memory, of a comparison with its ``prices``."""
    answers = [
        (answer, price)
        for answer, price in zip(document["results"], document["prices"], strict=True)
        if "step_time_s" in answer
    ]
    note = "Marks are medians, lines reach from p10 to p90. The price is that of the cheapest offer on demand."
    without = [answer["device"] for answer, price in answers if not price]
    note += f" No price is known of {', '.join(without)}." if without else ""
    return Figure(
        title=f"What a million {unit_of(answers[0][0])} cost",
        note=note,
        draw=lambda width_px: draw_panels(_panels(answers), width_px),
    )


def unit_of(answer: Document) -> str:
    """What is counted: tokens where the model has a sequence of them, samples elsewhere."""
    return "tokens" if answer["tokens_per_s"] else "samples"


def usd_per_million(answer: Document, usd_per_h: float) -> dict[str, float]:
    """Dollars of a million samples or tokens, as quantiles of the step time.

    >>> answer = {"tokens_per_s": None, "throughput_per_s": 1000.0, "step_time_s": {"p50": 2.0}}
    >>> usd_per_million(answer, 3.6)
    {'p50': 1.0}
    """
    time_s = answer["step_time_s"]
    rate = answer["tokens_per_s"] or answer["throughput_per_s"]
    return {name: usd_per_h / HOUR_S * MILLION / rate * value / time_s["p50"] for name, value in time_s.items()}


def _panels(answers: list[tuple[Document, Document | None]]) -> list[Panel]:
    unit = unit_of(answers[0][0])
    panels = []
    priced = [(answer, price["usd_per_h"]) for answer, price in answers if price]
    if priced:
        costs = [_row(answer, usd_per_million(answer, usd), format_usd) for answer, usd in priced]
        panels.append(Panel(title=f"US $ a million {unit}", rows=_best(costs), axis=lambda most: dollars_axis()))
    powered = [answer for answer, _ in answers if answer["energy_j"]]
    if powered:
        energies = [_row(answer, _joules(answer), lambda value: format_count(value, "J")) for answer in powered]
        panels.append(
            Panel(title=f"energy of a million {unit}", rows=_best(energies), axis=lambda most: amount_axis("J"))
        )
    held = [_held(answer) for answer, _ in answers]
    memory = Panel(title="memory in use", rows=held, axis=lambda most: percent_axis(), limit=(1.0, "full"))
    return [*panels, memory]


def _joules(answer: Document) -> dict[str, float]:
    rate = answer["tokens_per_s"] or answer["throughput_per_s"]
    steps = MILLION / (rate * answer["step_time_s"]["p50"])
    return {name: steps * value for name, value in answer["energy_j"].items()}


def _row(answer: Document, values: dict[str, float], show: Any) -> Range:
    name = answer["device"]
    text = f"{name}: {show(values['p50'])}"
    return quantiles_row(name, text, values)


def _held(answer: Document) -> Range:
    held, capacity = answer["peak_memory_bytes"], answer["capacity_bytes"]
    used = {name: held[name] / capacity for name in ("p10", "p50", "p90")}
    text = (
        f"{answer['device']}: {format_bytes(held['p50'])} of {format_bytes(capacity)}, {format_fraction(used['p50'])}"
    )
    return quantiles_row(answer["device"], text, used)


def _best(rows: list[Range]) -> list[Range]:
    """The rows with the least first in another colour, in their order from least to most."""
    from dataclasses import replace

    ordered = sorted(rows, key=lambda row: row.span[1])
    return [replace(ordered[0], first=True), *ordered[1:]]
