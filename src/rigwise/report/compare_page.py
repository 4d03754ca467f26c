"""A comparison of devices as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.figures.binding import time_by_device
from rigwise.report.figures.worth import unit_of, usd_per_million, worth_of_devices
from rigwise.report.html import Markup, table
from rigwise.report.page import answer, listed, page, picture, quantiles, repeat, rests_on, section, soft
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

#: What limits a step, in words.
LIMITS = {
    "compute": "arithmetic",
    "memory": "memory traffic",
    "launch": "launching kernels",
    "network": "the network",
    "input": "input",
}


def compare_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.compare/1`` document with the ``prices`` and ``sources`` of ``with_prices``.

    Args:
        document: With at least one device that can do the work.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    answers = [one for one in document["results"] if "step_time_s" in one]
    title = _headline(answers)
    parts = [
        answer(question_of(answers[0]["case"]), title, _sentence(document, answers), _tiles(document, answers)),
        listed("Why", map(_reason, answers)),
        picture("Time of a step", time_by_device(document)),
        picture("What the same work costs", worth_of_devices(document)),
        _side_by_side(document),
        listed("What cannot do it", _refused(document)),
        rests_on(assumptions(document, answers), document["sources"]),
        repeat(command),
    ]
    closing = f"Times are predictions with the interval that they are given. Prices as known on {document['today']}."
    return page(title, parts, closing=closing)


def question_of(case: Document) -> str:
    """What a case asks, in a line."""
    parts = [case["model"], case["task"], f"batch {case['batch']}", case["dtype"], case["mode"]]
    names = {"seq": "sequence", "context": "context", "image_size": "image size"}
    parts += [f"{word} {case[name]}" for name, word in names.items() if case[name]]
    return ", ".join(parts)


def name_of(one: Document) -> str:
    """How many of which device."""
    count = one["case"]["count"]
    return f"{count} x {one['device']}" if count > 1 else str(one["device"])


def _headline(answers: Sequence[Document]) -> str:
    first = answers[0]
    told = f"{name_of(first)} is quickest: {format_seconds(first['step_time_s']['p50'])} a step"
    if len(answers) < 2:
        return told
    times = answers[1]["step_time_s"]["p50"] / first["step_time_s"]["p50"]
    return f"{told}, {times:.3g} times as quick as {name_of(answers[1])}"


def _sentence(document: Document, answers: Sequence[Document]) -> str:
    """How sure the order is, and what is cheapest."""
    told = []
    if len(answers) > 1:
        sure = answers[0]["step_time_s"]["p90"] < answers[1]["step_time_s"]["p10"]
        which = f"{name_of(answers[0])} and {name_of(answers[1])}"
        told.append(
            f"The intervals of {which} do not overlap, so that order is as good as certain."
            if sure
            else f"The intervals of {which} overlap, so their order is not certain."
        )
    cheapest = _cheapest(document)
    if cheapest:
        one, price, usd = cheapest
        work = f"{format_usd(usd['p50'])} for a million {unit_of(one)}"
        told.append(f"For rent {name_of(one)} costs least: {work} at {format_usd(price['usd_per_h'])} an hour.")
    small = [name_of(one) for one in answers if not one["fits"]]
    if small:
        told.append(f"It does not fit the memory of {', '.join(small)}.")
    return " ".join(told)


def _cheapest(document: Document) -> tuple[Document, Document, dict[str, float]] | None:
    """The device with the cheapest work among those that hold it, its price, and dollars of a million."""
    found = [
        (one, price, usd_per_million(one, price["usd_per_h"]))
        for one, price in zip(document["results"], document["prices"], strict=True)
        if price and one["fits"]
    ]
    return min(found, key=lambda row: row[2]["p50"], default=None)


def _tiles(document: Document, answers: Sequence[Document]) -> list[tuple[str, str, str]]:
    first, cheapest = answers[0], _cheapest(document)
    unit = unit_of(first)
    rate = first["tokens_per_s"] or first["throughput_per_s"]
    step = quantiles(first["step_time_s"], format_seconds)
    tiles = [("Quickest", name_of(first), f"{format_seconds(first['step_time_s']['p50'])} a step; {step}")]
    tiles.append((f"{unit.capitalize()} a second", format_count(rate), f"on {name_of(first)}"))
    if cheapest:
        one, _, usd = cheapest
        tiles.append(("Cheapest", name_of(one), f"{format_usd(usd['p50'])} a million {unit}"))
    powered = [one for one in answers if one["energy_j"] and one["fits"]]
    if powered:
        frugal = min(powered, key=lambda one: one["energy_j"]["p50"])
        tiles.append(("Least energy", name_of(frugal), f"{format_count(frugal['energy_j']['p50'], 'J')} a step"))
    return tiles


def _reason(one: Document) -> str:
    """What binds a device."""
    shares = sorted(one["binds"].items(), key=lambda item: -item[1])
    told = [f"{LIMITS[name]} {format_fraction(share)}" for name, share in shares if share >= 0.005]
    return f"{name_of(one)}: {', '.join(told)} of its time"


def _side_by_side(document: Document) -> Markup | None:
    columns = {"device": "keep", "step": "number", "80 % in": "number", "a second": "number", "memory": "number"}
    columns |= {"energy a step": "number", "an hour": "number", "a million": "number", "MFU": "number"}
    rows = []
    for one, price in zip(document["results"], document["prices"], strict=True):
        if "step_time_s" not in one:
            continue
        time, usd = one["step_time_s"], usd_per_million(one, price["usd_per_h"]) if price else None
        room = format_bytes(one["peak_memory_bytes"]["p50"])
        rows.append(
            [
                name_of(one),
                format_seconds(time["p50"]),
                quantiles(time, format_seconds),
                format_count(one["tokens_per_s"] or one["throughput_per_s"]),
                room if one["fits"] else f"{room}, does not fit",
                format_count(one["energy_j"]["p50"], "J") if one["energy_j"] else "unknown",
                format_usd(price["usd_per_h"]) if price else "no price",
                format_usd(usd["p50"]) if usd else "",
                format_fraction(one["mfu"]),
            ]
        )
    unit = unit_of(next(one for one in document["results"] if "step_time_s" in one))
    note = f"A second and a million are {unit}. Times, energies and costs are medians; MFU is the share of the peak."
    return section("Side by side", soft(note), table(columns, rows), class_="plans stack")


def _refused(document: Document) -> list[str]:
    return [f"{one['device']}: {one['error']['message']}" for one in document["results"] if "error" in one]


def assumptions(document: Document, answers: Sequence[Document]) -> list[str]:
    """What answers take for granted, each once."""
    assumed = dict.fromkeys(sentence for one in answers for sentence in one["assumed"])
    unknown = dict.fromkeys(name for one in answers for name in one["unknown_ops"])
    counted = [f"counted as memory traffic only: {', '.join(unknown)}"] if unknown else []
    grades = [f"the constants for {name_of(one)} are {one['provenance']}" for one in answers]
    return [*assumed, *counted, *grades, f"prices are of offers on demand that are known on {document['today']}"]
