"""One prediction as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.report.compare_page import LIMITS, assumptions, name_of, question_of
from rigwise.report.figures.binding import time_by_device
from rigwise.report.figures.memory import memory_over_step
from rigwise.report.figures.roofline import roofline
from rigwise.report.figures.theme import Figure
from rigwise.report.html import Markup, table
from rigwise.report.page import answer, listed, page, picture, quantiles, repeat, rests_on, section, soft
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a page shows beside the answer.

    Attributes:
        memory: The ``rigwise.memory/1`` document of the same case; None where a step has no course of memory.
        operators: As of ``figures.operators``.
    """

    memory: Document | None = None
    operators: Sequence[Document] = ()


def predict_page(document: Document, details: Details, *, command: str = "") -> str:
    """The page for a ``rigwise.predict/1`` document.

    Args:
        document: A ``rigwise.compare/1`` document of it alone, with the ``prices`` and ``sources`` of ``with_prices``.
        details: What is drawn beside.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    (one,), (price,) = document["results"], document["prices"]
    parts = [
        answer(question_of(one["case"]), _headline(one), _sentence(one), _tiles(one, price)),
        listed("Why", _reasons(one)),
        picture("Time of a step", time_by_device(document)),
        _roofline(one, details.operators),
        picture("Memory over the step", memory_over_step(details.memory)) if details.memory else None,
        _operators(one),
        _memory(one),
        rests_on(assumptions(document, [one]), document["sources"]),
        repeat(command),
    ]
    closing = f"Times are predictions with the interval that they are given. Prices as known on {document['today']}."
    return page(_headline(one), parts, closing=closing)


def _headline(one: Document) -> str:
    time = format_seconds(one["step_time_s"]["p50"])
    return f"{name_of(one)}: {time} a step" if one["fits"] else f"It does not fit {name_of(one)}"


def _sentence(one: Document) -> str:
    between, bound = quantiles(one["step_time_s"], format_seconds), format_seconds(one["bound_s"])
    told = f"With a probability of 80 % a step takes {between}, and never less than {bound}."
    if one["fits"]:
        return told
    most = one["largest_micro_batch"]
    room = {None: "", 0: " Not even a micro-batch of 1 fits."}.get(
        most, f" The largest micro-batch that fits is {most}."
    )
    return f"As if it fitted: {told[0].lower()}{told[1:]}{room}"


def _tiles(one: Document, price: Document | None) -> list[tuple[str, str, str]]:
    rate = one["tokens_per_s"] or one["throughput_per_s"]
    unit = "Tokens" if one["tokens_per_s"] else "Samples"
    peak, room = one["peak_memory_bytes"], format_bytes(one["capacity_bytes"])
    sure = f"of {room}, fits with {format_fraction(one['fit_probability'])}"
    tiles = [
        ("Step", format_seconds(one["step_time_s"]["p50"]), quantiles(one["step_time_s"], format_seconds)),
        (f"{unit} a second", format_count(rate), f"MFU {format_fraction(one['mfu'])}"),
        ("Memory", format_bytes(peak["p50"]), sure),
    ]
    if one["energy_j"]:
        tiles.append(("Energy", format_count(one["energy_j"]["p50"], "J"), "a step"))
    if price and rate and one["fits"]:
        usd = price["usd_per_h"] / 3600 / rate * 1e6
        tiles.append(("For rent", f"{format_usd(price['usd_per_h'])}/h", f"{format_usd(usd)} a million {unit.lower()}"))
    return tiles


def _reasons(one: Document) -> list[str]:
    """What binds, most first."""
    shares = sorted(one["binds"].items(), key=lambda item: -item[1])
    return [f"{LIMITS[name]} takes {format_fraction(share)} of the time" for name, share in shares if share >= 0.005]


def _roofline(one: Document, operators: Sequence[Document]) -> Markup | None:
    """The roofline; None where nothing of the step has a place on it."""
    figure: Figure
    try:
        figure = roofline(one, operators)
    except RigwiseError:
        return None
    return picture("Roofline", figure)


def _operators(one: Document) -> Markup | None:
    whole_s = sum(kind["time_s"] for kind in one["by_kind"]) or 1.0
    columns = {"kind": "keep", "time": "number", "share": "number", "FLOP": "number", "bytes": "number", "bound by": ""}
    rows = [
        [
            kind["kind"],
            format_seconds(kind["time_s"]),
            format_fraction(kind["time_s"] / whole_s),
            format_count(kind["flops"]) if kind["flops"] else "",
            format_bytes(kind["bytes"]),
            LIMITS.get(kind["binds"] or "", ""),
        ]
        for kind in one["by_kind"]
    ]
    return section("Operators", soft("Of one step, by kind."), table(columns, rows), class_="stack")


def _memory(one: Document) -> Markup | None:
    terms = sorted(one["peak_memory_bytes"]["terms"].items(), key=lambda item: -item[1])
    whole = sum(value for _, value in terms) or 1.0
    rows = [[name.replace("_", " "), format_bytes(value), format_fraction(value / whole)] for name, value in terms]
    told = table({"for": "keep", "size": "number", "share": "number"}, rows)
    return section("Memory of the fullest device", told, class_="facts")
