"""An application drawn: as text with one lane for each open edge, and for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from rigwise.application.flow import edge_rate
from rigwise.application.plan import ApplicationPlan
from rigwise.application.types import Edge
from rigwise.report.application_text import busy_words, cut, headline, rate, yield_lines
from rigwise.units import format_bytes, format_seconds

_WIDTH = 80
_MOST_LANES = 24


def application_drawing(plan: ApplicationPlan, *, brief: bool = False) -> str:
    """The graph from sources to sinks, with the flow of the best placement; unless ``brief``, what it yields."""
    rows = list(_drawn(plan))
    wide = min(_MOST_LANES, max(len(lanes) for lanes, _ in rows))
    drawn = [cut(f"  {lanes.ljust(wide)}  {text}".rstrip(), _WIDTH) for lanes, text in rows]
    lines = [headline(plan), "", *drawn]
    if not brief:
        lines += ["", "  ◆ the bottleneck", "", *yield_lines(plan, plan.answers[0])]
    return "\n".join(lines) + "\n"


def component_words(plan: ApplicationPlan, name: str) -> str:
    """A component in one line: its place, rate, call and how busy it is."""
    found, component = plan.answers[0], plan.costed.application.components[name]
    place = found.placement[name]
    service = plan.costed.services[name][place]
    parts = [f"on {place}", rate(found.rates_per_s[name]), format_seconds(service.call_s["p50"])]
    parts[-1] += f" for {component.batch}" if component.batch > 1 else ""
    parts.append(f"{service.side_by_side} at once" if service.side_by_side > 1 else "")
    parts.append(f"busy {busy_words(found.busy_frac[f'workers {name}'])}")
    return ", ".join(part for part in parts if part)


def edge_words(plan: ApplicationPlan, edge: Edge) -> str:
    """An edge in one line: what flows, how much of it, over which links, and what piles up."""
    found, application = plan.answers[0], plan.costed.application
    output = application.components[edge.source].outputs[edge.output]
    per_s = found.throughput_per_s["p50"] * edge_rate(application, plan.costed.rates, edge)
    text = f"{output.type} {format_bytes(output.item_bytes)}, {format_bytes(per_s * output.item_bytes)}/s"
    for a, b, _ in plan.costed.routes[found.placement[edge.source], found.placement[edge.target]]:
        text += f", {a} -> {b} {busy_words(found.busy_frac[f'link {a} -> {b}'])}"
    piles = [pile for pile in found.backlog if pile.edge == str(edge)]
    return text + "".join(f", piles up {rate(pile.items_per_s)}" for pile in piles)


# As text: each edge that has begun and not ended has a lane


def _drawn(plan: ApplicationPlan) -> Iterator[tuple[str, str]]:
    application, found = plan.costed.application, plan.answers[0]
    wide = max(len(name) for name in application.components)
    lanes: list[Edge | None] = []
    for name in application.components:
        ending = [i for i, edge in enumerate(lanes) if edge and edge.target == name]
        if len(ending) > 1:
            yield _joint(lanes, ending, "┴", "┘"), ""
        at = ending[0] if ending else _free(lanes, 1)[0]
        for i in ending:
            lanes[i] = None
        heads = ["│" if edge else " " for edge in lanes]
        heads[at] = "◆" if name in found.limiting else "●"
        yield " ".join(heads).rstrip(), f"{name.ljust(min(wide, 20))}  {component_words(plan, name)}"
        leaving = list(application.out_of(name))
        used = [at, *_free(lanes, len(leaving) - 1, not_at=at)] if leaving else []
        for i, edge in zip(used, leaving, strict=True):
            lanes[i] = edge
        if len(leaving) > 1:
            yield _joint(lanes, sorted(used), "┬", "┐"), ""
        for i, edge in zip(used, leaving, strict=True):
            to = f"to {edge.target}: " if len(leaving) > 1 else ""
            heads = ["│" if other else " " for other in lanes]
            heads[i] = "◆" if str(edge) in found.limiting else "▾"
            yield " ".join(heads).rstrip(), f"  {to}{edge_words(plan, edge)}"


def _free(lanes: list[Edge | None], number: int, not_at: int = -1) -> list[int]:
    """So many lanes without an edge, new ones where there are too few."""
    free = [i for i, edge in enumerate(lanes) if edge is None and i != not_at]
    while len(free) < number:
        lanes.append(None)
        free.append(len(lanes) - 1)
    return free[:number]


def _joint(lanes: list[Edge | None], at: list[int], inner: str, last: str) -> str:
    """A row that joins or parts lanes; others pass straight through."""
    text = ""
    for i, edge in enumerate(lanes):
        if i < at[0] or i > at[-1]:
            text += "│ " if edge else "  "
        elif i == at[0]:
            text += "├─"
        elif i == at[-1]:
            text += last + " "
        else:
            text += (inner if i in at else "┼" if edge else "─") + "─"
    return text.rstrip()


# For Graphviz


def application_dot(plan: ApplicationPlan) -> str:
    """The graph in the DOT language: a cluster for each place, the bottleneck in bold."""
    application, found = plan.costed.application, plan.answers[0]
    lines = ["digraph application {", "  rankdir=LR; node [shape=box, fontname=Helvetica]; edge [fontname=Helvetica];"]
    lines.append(f"  label={_quoted(application.name)};")
    for number, place in enumerate(application.places):
        inside = [name for name in application.components if found.placement[name] == place]
        if inside:
            lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(place)}; style=rounded;"]
            for name in inside:
                bold = ", penwidth=3" if name in found.limiting else ""
                words = component_words(plan, name).partition(", ")[2]
                label = _quoted(name, *words.split(", "))
                lines.append(f"    {_quoted(name)} [label={label}{bold}];")
            lines.append("  }")
    for edge in application.edges:
        bold = ", penwidth=3" if str(edge) in found.limiting else ""
        label = _quoted(*edge_words(plan, edge).split(", "))
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={label}{bold}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(*lines: str) -> str:
    escaped = ["".join(f"\\{c}" if c in '"\\' else c for c in line) for line in lines]
    return '"' + "\\n".join(escaped) + '"'
