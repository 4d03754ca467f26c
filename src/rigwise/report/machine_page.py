"""A machine as one HTML page: what it is, what is wrong, what it does, what could stand there instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.machine.match import number, value
from rigwise.machine.snapshot import Snapshot
from rigwise.report.doctor_text import why_unknown
from rigwise.report.figures.bench import figures_of_limits
from rigwise.report.figures.binding import time_by_device
from rigwise.report.html import Markup, table, tag
from rigwise.report.inspect_text import machine_rows, peak_rows
from rigwise.report.page import answer, folded, kept_together, listed, page, picture, repeat, rests_on, section, soft
from rigwise.units import GIB, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

#: From so many times the speed on, another device is worth a sentence.
_QUICKER = 1.1

_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a machine.

    Attributes:
        snapshot: What it is.
        checkup: What is wrong: a ``rigwise.doctor/1`` document.
        bench: What it does: a ``rigwise.bench/1`` document, if it was measured.
        instead: What could stand there: of ``report.instead``, if that can be said.
        why_not: Why it cannot.
    """

    snapshot: Snapshot
    checkup: Document
    bench: Document | None = None
    instead: Document | None = None
    why_not: str = ""


def machine_page(seen: Seen, *, command: str = "") -> str:
    """The page.

    Args:
        seen: What is known of the machine.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    title = f"{_name(seen.snapshot)}: {_verdict(seen.checkup)}"
    asked = f"what this machine is and does, {seen.snapshot.taken[:10] or 'on a day that is not known'}"
    parts = [
        answer(asked, title, _sentence(seen), list(_tiles(seen))),
        *_wrong(seen.checkup),
        _measured(seen.bench),
        *_instead(seen),
        _what_it_is(seen.snapshot),
        _peaks(seen.snapshot),
        listed("Where sources disagree", (finding.text for finding in seen.snapshot.findings)),
        rests_on(_assumptions(seen), seen.instead["sources"] if seen.instead else ()),
        repeat(command),
    ]
    return page(title, parts, closing="Nothing was changed on the machine.")


def _name(snapshot: Snapshot) -> str:
    """Its GPUs, or its CPU."""
    names = [str(value(gpu, "name") or "unknown GPU") for gpu in snapshot.gpus]
    if names:
        counts = [f"{names.count(name)} x {name}" if len(names) > 1 else name for name in dict.fromkeys(names)]
        return ", ".join(counts)
    cores = number(snapshot.cpu, "cores")
    return f"{snapshot.value('cpu.name') or 'unknown CPU'}" + (f", {cores:.0f} cores" if cores else "")


def _problems(checkup: Document) -> list[Document]:
    found = [one for one in checkup["findings"] if one["status"] == "problem"]
    return sorted(found, key=lambda one: _SEVERITIES.index(one["severity"]))


def _verdict(checkup: Document) -> str:
    found = _problems(checkup)
    counts = {name: sum(one["severity"] == name for one in found) for name in _SEVERITIES}
    told = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    return ", ".join(told) or "nothing wrong was found"


def _sentence(seen: Seen) -> str:
    told = []
    found = _problems(seen.checkup)
    if found and found[0]["severity"] != "note":
        told.append(f"First mend this: {found[0]['title']}.")
    best = _best(seen.bench)
    if best:
        told.append(f"Of its arithmetic limit it reaches {format_fraction(best[1])} ({best[0]}).")
    if seen.instead:
        answers = [one for one in seen.instead["results"] if "step_time_s" in one]
        own = next((one for one in answers if one["device"] == seen.instead["this"]), None)
        if own:
            times = own["step_time_s"]["p50"] / answers[0]["step_time_s"]["p50"]
            if times >= _QUICKER:
                told.append(f"One {answers[0]['device']} would be {times:.3g} times as quick at training {_work(own)}.")
    return " ".join(told)


def _work(own: Document) -> str:
    case = own["case"]
    return f"{case['model']} ({case['dtype']}, batch {case['batch']})"


def _best(bench: Document | None) -> tuple[str, float] | None:
    """The figure of arithmetic that comes nearest to its limit, and how near."""
    shares = [
        (one["name"], one["value"] / one["limit"]["value"])
        for one in (bench or {"figures": ()})["figures"]
        if one["unit"] == "FLOP/s" and one["value"] and one["limit"]
    ]
    return max(shares, key=lambda pair: pair[1], default=None)


def _tiles(seen: Seen) -> Iterator[tuple[str, str, str]]:
    snapshot = seen.snapshot
    cores, logical = number(snapshot.cpu, "cores"), number(snapshot.cpu, "logical")
    threads = f"{logical:.0f} threads" if logical and logical != cores else ""
    yield "CPU", f"{cores:.0f} cores" if cores else "unknown", threads
    memory = number(snapshot.memory, "total_bytes")
    yield "Memory", f"{memory / GIB:.1f} GiB" if memory else "unknown", ""
    held = sum(number(gpu, "memory_bytes") or 0.0 for gpu in snapshot.gpus)
    yield "GPUs", str(len(snapshot.gpus)) if snapshot.gpus else "none", f"{held / GIB:.0f} GiB in all" if held else ""
    counts, findings = seen.checkup["counts"], seen.checkup["findings"]
    fine = sum(one["status"] == "ok" and one["applies"] for one in findings)
    yield "Checks", f"{fine} in order", f"{counts['problem']} not, {counts['unknown']} could not be told"
    best = _best(seen.bench)
    if best:
        yield "Of the limit", format_fraction(best[1]), best[0]


def _wrong(checkup: Document) -> Iterator[Markup | None]:
    """Each problem with what was seen, why it matters and how to mend it; then what could not be told."""
    cells: list[Markup | None] = []
    for one in _problems(checkup):
        rows = [("found", one["evidence"]), ("why", one["explanation"]), ("fix", one["fix"])]
        told = [part for name, words in rows if words for part in (tag("dt", name), tag("dd", kept_together(words)))]
        cells.append(tag("h3", f"{one['severity'].capitalize()}: {one['title']}"))
        cells.append(tag("dl", *told, class_="sources"))
    unknown = [one for one in checkup["findings"] if one["status"] == "unknown"]
    silent = [f"{one['title']}: {why_unknown(one['evidence'])}" for one in unknown]
    if not cells:
        cells.append(soft("Nothing, as far as it was looked at."))
    yield section("What is wrong", *cells, folded(f"{len(silent)} checks that could not be made", silent))


def _measured(bench: Document | None) -> Markup | None:
    if bench is None:
        return None
    try:
        figure = figures_of_limits(bench)
    except UnsupportedError:
        return None
    return picture("What it does against its limits", figure)


def _instead(seen: Seen) -> Iterator[Markup | None]:
    told, heading = seen.instead, "What could stand there instead"
    if told is None:
        yield section(heading, soft(f"It cannot be said: {seen.why_not}.")) if seen.why_not else None
        return
    yield picture(heading, time_by_device(told))
    columns = {"device": "keep", "why": "", "step": "number", "times as quick": "number", "as a card": "number"}
    columns |= {"rented, an hour": "number"}
    own = next((one for one in told["results"] if one["device"] == told["this"] and "step_time_s" in one), None)
    rows = [
        _row(one, price, told, own)
        for one, price in zip(told["results"], told["prices"], strict=True)
        if "step_time_s" in one
    ]
    note = "Predicted, not measured. Cards also need a slot, a cable and air: rigwise rig check looks at those."
    yield section("Those devices", soft(note), table(columns, rows), class_="stack")


def _row(one: Document, price: Document | None, told: Document, own: Document | None) -> list[str]:
    card, step_s = told["buy"].get(one["device"]), one["step_time_s"]["p50"]
    is_own = one is own
    return [
        one["device"],
        "this machine" if is_own else told["chosen"].get(one["device"], ""),
        format_seconds(step_s),
        f"{own['step_time_s']['p50'] / step_s:.3g}" if own else "",
        f"{format_usd(card['usd'])} ({card['as_of']})" if card and not is_own else "",
        format_usd(price["usd_per_h"]) if price else "",
    ]


def _what_it_is(snapshot: Snapshot) -> Markup | None:
    rows = [[label, words] for label, words in machine_rows(snapshot)]
    return section("What it is", table({"part": "keep", "what": ""}, rows)) if rows else None


def _peaks(snapshot: Snapshot) -> Markup | None:
    rows = [list(row) for row in peak_rows(snapshot)]
    grid = table({"of": "keep", "at most": "number", "from": ""}, rows) if rows else None
    note = soft("~ with something assumed.") if rows else None
    return section("Theoretical peaks", note, grid, class_="stack")


def _assumptions(seen: Seen) -> Sequence[str]:
    lines = [f"read on {seen.snapshot.taken}"] if seen.snapshot.taken else []
    lines += [f"could not be read: {name}, {why}" for name, why in seen.snapshot.failed.items()]
    if seen.bench is None:
        lines.append("nothing was measured: rigwise bench --report FILE.html does that")
    else:
        shown = ", ".join(f"{name} {version}" for name, version in seen.bench["software"].items())
        lines.append(f"measured in {format_seconds(seen.bench['wall_s'])} with {shown}")
        busy = [one for one in seen.bench["figures"] if any("other processes" in words for words in one["remarks"])]
        lines += [f"others had the CPU while {len(busy)} of the figures were measured"] if busy else []
    if seen.instead:
        assumed = dict.fromkeys(words for one in seen.instead["results"] for words in one.get("assumed", ()))
        lines += [*assumed, f"prices as known on {seen.instead['today']}"]
    return lines
