"""The answer to an application in a terminal: what it yields first, then where, what else, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap

from rigwise.application.answer import Answer
from rigwise.application.plan import ApplicationPlan, Move
from rigwise.application.types import Edge
from rigwise.search.types import Certificate
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

_WIDTH = 80
_MOST_MOVES = 12
_BEST = {"throughput": "highest throughput", "latency": "least latency", "cost": "least cost"}
_CUT = {"memory": "too large", "rate": "too slow at best", "link": "without a link", "bound": "no better at best"}


def application_text(plan: ApplicationPlan, *, brief: bool = False) -> str:
    """The answer; unless ``brief``, components, places, other placements, moves, certificate and assumptions."""
    first = plan.answers[0]
    lines = [headline(plan), "", *yield_lines(plan, first)]
    if not brief:
        lines += ["", *_components(plan, first), "", *_places(plan, first)]
        lines += _others(plan)
        lines += ["", "moving one component", *_moves(plan)] if plan.moves else []
        lines += ["", "certificate", *_listed(certificate_lines(plan.certificate))]
        lines += ["", "assumed", *_listed(assumptions(plan))]
    return "\n".join(lines) + "\n"


def headline(plan: ApplicationPlan) -> str:
    """What was asked, in one line."""
    application = plan.costed.application
    plural = "s" if len(application.places) > 1 else ""
    counts = f"{len(application.components)} components on {len(application.places)} place{plural}"
    return cut(f"{application.name}: {counts}, {_BEST[application.optimize]}", _WIDTH)


def yield_lines(plan: ApplicationPlan, found: Answer) -> list[str]:
    """Throughput, latency, bottleneck, what piles up, dollars."""
    offered = plan.costed.offered_per_s
    lines = [_line("throughput", interval(found.throughput_per_s, rate))]
    if offered is not None:
        carried = found.throughput_per_s["p50"]
        share = ", all that is offered" if carried >= offered else f" of {rate(offered)} offered"
        lines[0] = _line("throughput", rate(carried) + share)
        lines.append(_line("could carry", interval(found.capacity_per_s, rate)))
    lines.append(_line("latency", f"{interval(found.latency_s, format_seconds)}, without queueing"))
    busy = format_fraction(found.busy_frac[found.bottleneck])
    lines.append(_line("bottleneck", f"{resource_words(found.bottleneck)}, busy {busy}: {', '.join(found.limiting)}"))
    for pile in found.backlog:
        size = f", {format_bytes(pile.bytes_per_s)}/s" if pile.bytes_per_s else ""
        where = f"before {pile.edge}" if "->" not in pile.edge else f"on {pile.edge}"
        lines.append(_line("piles up", f"{rate(pile.items_per_s)}{size} {where}"))
    if found.usd_per_h:
        million = found.usd_per_h / (3600 * found.throughput_per_s["p50"]) * 1e6
        lines.append(_line("cost", f"{format_usd(found.usd_per_h)} an hour, {format_usd(million)} per million items"))
    return [cut(line, _WIDTH) for line in lines]


def rate(value: float) -> str:
    """Items per second for people.

    >>> rate(1500.0), rate(0.25), rate(2.5e6)
    ('1,500 items/s', '0.25 items/s', '2.50 M items/s')
    """
    if value >= 1e5:
        return f"{format_count(value)} items/s"
    return f"{value:,.0f} items/s" if value >= 100 else f"{value:.3g} items/s"


def interval(values: Mapping[str, float], show: Callable[[float], str]) -> str:
    """The median, with the 80 % interval if there is one."""
    low, middle, high = (show(values[q]) for q in ("p10", "p50", "p90"))
    return middle if low == high else f"{middle}   (80 %: {low} to {high})"


def resource_words(resource: str) -> str:
    """A resource for people.

    >>> resource_words("workers decode"), resource_words("link cpu -> gpu"), resource_words("place gpu")
    ('workers of decode', 'link cpu -> gpu', 'gpu')
    """
    kind, _, name = resource.partition(" ")
    return {"workers": f"workers of {name}", "place": name}.get(kind, resource)


def busy_words(busy_frac: float) -> str:
    """How busy something is.

    >>> busy_words(0.0), busy_words(0.001), busy_words(0.37)
    ('0 %', '< 1 %', '37 %')
    """
    return "< 1 %" if 0 < busy_frac < 0.005 else format_fraction(busy_frac)


def _line(label: str, text: str) -> str:
    return f"  {label:<12} {text}"


def _components(plan: ApplicationPlan, found: Answer) -> list[str]:
    rows = [("component", "place", "items/s", "one call", "busy", "cost is")]
    for name, place in found.placement.items():
        service, component = plan.costed.services[name][place], plan.costed.application.components[name]
        call = format_seconds(service.call_s["p50"])
        call = f"{call} / {component.batch}" if component.batch > 1 else call
        busy = busy_words(found.busy_frac[f"workers {name}"])
        mark = " <" if found.bottleneck == f"workers {name}" else ""
        rows.append(
            (name, place, rate(found.rates_per_s[name]).removesuffix(" items/s"), call, busy + mark, service.source)
        )
    return _table(rows, right={2, 3}, most=(20, 14, 9, 14, 7, _WIDTH))


def _places(plan: ApplicationPlan, found: Answer) -> list[str]:
    rows = [("place", "is", "busy", "memory held", "runs")]
    for name, place in plan.costed.application.places.items():
        held = found.memory_bytes.get(name, 0.0)
        memory = format_bytes(held) if held else "-"
        memory += f" of {format_bytes(place.memory_bytes)}" if held and place.memory_bytes else ""
        what = place.device or (f"{place.cores} cores" if place.kind == "cpu" else place.kind)
        runs = ", ".join(c for c, where in found.placement.items() if where == name) or "nothing"
        rows.append((name, what, _busy(found, f"place {name}"), memory, runs))
    for resource in found.busy_frac:
        if resource.startswith("link ") and found.busy_frac[resource] > 0:
            edges = [str(e) for e in plan.costed.application.edges if _crosses(plan, found, e, resource)]
            rows.append((resource.removeprefix("link "), "link", _busy(found, resource), "-", ", ".join(edges)))
    return _table(rows, most=(20, 18, 7, 20, _WIDTH))


def _busy(found: Answer, resource: str) -> str:
    return busy_words(found.busy_frac.get(resource, 0.0)) + (" <" if found.bottleneck == resource else "")


def _crosses(plan: ApplicationPlan, found: Answer, edge: Edge, resource: str) -> bool:
    ends = found.placement[edge.source], found.placement[edge.target]
    return resource in (plan.costed.copy_load(edge, *ends) or {})


def _others(plan: ApplicationPlan) -> list[str]:
    """The next best placements by how they differ from the first."""
    if len(plan.answers) < 2:
        return []
    first = plan.answers[0]
    carried = "throughput" if plan.costed.offered_per_s is None else "could carry"
    rows = [("#", "instead", carried, "latency", "$/h")]
    for number, other in enumerate(plan.answers[1:], 2):
        changed = ", ".join(f"{c} on {p}" for c, p in other.placement.items() if p != first.placement[c])
        latency = format_seconds(other.latency_s["p50"])
        rows.append((str(number), changed, rate(other.capacity_per_s["p50"]), latency, f"{other.usd_per_h:.2f}"))
    return ["", "next best", *_table(rows, right={2, 3}, most=(3, 38, 16, 10, 9))]


def _moves(plan: ApplicationPlan) -> list[str]:
    first = plan.answers[0]
    ranked = sorted(plan.moves, key=lambda move: -move.answer.capacity_per_s["p50"] if move.answer else 1.0)
    carried = "throughput" if plan.costed.offered_per_s is None else "could carry"
    rows: list[tuple[str, ...]] = [("move", carried, "", "latency", "", "then limits")]
    rows += [_move_row(move, first) for move in ranked[:_MOST_MOVES]]
    lines = _table(rows, right={1, 2, 3, 4}, most=(28, 16, 8, 10, 8, _WIDTH))
    if not all(move.allowed for move in ranked):
        lines.append("  * against on or places in the file")
    if len(ranked) > _MOST_MOVES:
        lines.append(f"  {_MOST_MOVES} of {len(ranked)} moves; --json lists all")
    return lines


def _move_row(move: Move, first: Answer) -> tuple[str, ...]:
    name = move_words(move)
    found = move.answer
    if found is None:
        return (name, "cannot be", "", "", "", move.why_not)
    per_s, latency_s = found.capacity_per_s["p50"], found.latency_s["p50"]
    changes = (change(per_s, first.capacity_per_s["p50"]), change(latency_s, first.latency_s["p50"]))
    limit = ("piles up: " if found.backlog and not first.backlog else "") + resource_words(found.bottleneck)
    return (name, rate(per_s), changes[0], format_seconds(latency_s), changes[1], limit)


def move_words(move: Move) -> str:
    """What goes where; a star if the file pins it elsewhere."""
    return f"{move.component} to {move.place}" + ("" if move.allowed else " *")


def change(value: float, before: float) -> str:
    """By how much a figure changes.

    >>> change(1.5, 1.0), change(0.5, 1.0), change(12.0, 1.0), change(1.0, 1.0)
    ('+50 %', '-50 %', 'x 12', '=')
    """
    if not before or abs(value / before - 1) < 0.0005:
        return "="
    ratio = value / before
    return f"x {ratio:.3g}" if ratio >= 10 else f"{100 * (ratio - 1):+.3g} %"


def certificate_lines(certificate: Certificate) -> list[str]:
    """What is proven, by how much looking, and how to check it."""
    least = certificate.lower_bound
    better = {
        "throughput": f"a throughput above {rate(1 / least)}" if least else "any other throughput",
        "latency": f"a latency below {format_seconds(least)}",
        "cost": f"a cost below {format_usd(least)} an hour",
    }[certificate.objective]
    proof = f"no placement has {better} with these costs: gap {100 * certificate.gap_frac:.3g} %"
    cut = [f"{certificate.pruned[r]:,} {words}" for r, words in _CUT.items() if certificate.pruned.get(r)]
    plural = "s" if certificate.candidates > 1 else ""
    added = f"{certificate.candidates:,} placement{plural}: {certificate.estimated:,} added up"
    looked = ", ".join([added, *cut])
    how = f"A*, {certificate.expanded:,} states in {format_seconds(certificate.wall_s)}"
    return [proof, looked, f"{how}; rigwise plan verify PLAN.json proves it again"]


def assumptions(plan: ApplicationPlan) -> list[str]:
    """What was filled in or left out."""
    without = [name for name, place in plan.costed.application.places.items() if place.memory_bytes is None]
    words = list(plan.costed.application.assumed)
    words += [f"memory is no limit on {', '.join(without)}: none is stated"] if without else []
    return [*words, "a steady flow without variation: queueing is not in the latency"]


def _table(rows: Sequence[Sequence[str]], *, right: Iterable[int] = (), most: Sequence[int]) -> list[str]:
    """Aligned columns, each at most so wide; the last takes what is left of the line."""
    aligned = set(right)
    widths = [min(limit, max(len(row[i]) for row in rows)) for i, limit in enumerate(most)]
    widths[-1] = max(4, _WIDTH - 2 - sum(widths[:-1]) - 2 * (len(widths) - 1))
    return [
        "  "
        + "  ".join(
            cut(cell, width).rjust(width) if i in aligned and i < len(widths) - 1 else cut(cell, width).ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _listed(sentences: Iterable[str]) -> list[str]:
    return [
        line
        for sentence in sentences
        for line in wrap(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    ]


def cut(text: str, width: int) -> str:
    """Text of at most so many columns."""
    return text if len(text) <= width else text[: width - 1] + "…"
