"""What is done when: stages one after the other, jobs on the machines that one has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.report.figures.axes import even_ticks, time_axis
from rigwise.report.figures.ranges import shortened
from rigwise.report.figures.theme import (
    BLUE,
    GREY,
    NARROW_BELOW_PX,
    NO_LABELS_PX,
    SERIES,
    STRONG,
    Document,
    Figure,
    altair,
    chart,
    dress,
    words,
)
from rigwise.units import format_seconds, format_usd

_ROW_PX = 48
_MOVE, _WORK = "data move there", "work"
_RENTED = "rented"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A row for each name: words, bars, and the early and the late end.

    Attributes:
        bars: ``name``, ``kind``, ``from_s``, ``to_s`` and ``text`` of each.
        ends: ``name``, ``low_s``, ``high_s`` and ``text`` of each row, from the top.
        kinds: Kind of bar and its colour, in the order of the legend.
    """

    bars: Sequence[Document]
    ends: Sequence[Document]
    kinds: Mapping[str, str]

    @property
    def most_s(self) -> float:
        """The latest that is drawn."""
        most_s: float = max([1e-9, *(end["high_s"] for end in self.ends), *(bar["to_s"] for bar in self.bars)])
        return most_s

    @property
    def shown(self) -> list[str]:
        """The kinds that occur."""
        return [kind for kind in self.kinds if any(bar["kind"] == kind for bar in self.bars)]


def stages_over_time(document: Document) -> Figure:
    """The stages of a ``rigwise.plan.staged/1`` document, each after the one before, at their medians."""
    title = f"{len(document['stages'])} stages, done in {format_seconds(document['time_s']['p50'])}"
    note = "Bars are medians; the line below each says when it ends, from p10 to p90 if what is before it is on time."
    return Figure(title=title, note=note, draw=lambda width_px: _draw(stages_timeline(document), width_px))


def stages_timeline(document: Document) -> Timeline:
    """What moves and what works when."""
    rows, ends, start_s = [], [], 0.0
    for stage in document["stages"]:
        plan, move_s = stage["plan"], stage["move_s"]
        end_s = start_s + move_s + plan["time_s"]["p50"]
        low_s, high_s = (start_s + move_s + plan["time_s"][q] for q in ("p10", "p90"))
        cost = format_usd(plan["cost_usd"]["p50"] + stage["move_usd"])
        told = f"{stage['name']}: {_plan(plan)}, {format_seconds(end_s - start_s)}, {cost}"
        parts = [(_MOVE, start_s, start_s + move_s), (_WORK, start_s + move_s, end_s)]
        rows += [_row(stage["name"], *part, told) for part in parts if part[2] > part[1]]
        ends.append({"name": stage["name"], "low_s": low_s, "high_s": high_s, "text": told})
        start_s = end_s
    return Timeline(bars=rows, ends=ends, kinds={_MOVE: GREY, _WORK: BLUE})


def jobs_on_machines(document: Document) -> Figure:
    """The jobs of a ``rigwise.plan.shared/1`` document by machine, in the order in which they run."""
    idle = [name for name in document["machines"] if name not in {one["machine"] for one in document["plans"]}]
    note = "Bars are medians; the line below each says when it ends, from p10 to p90."
    note += f" Nothing runs on {', '.join(idle)}." if idle else ""
    title = f"{len(document['plans'])} jobs, the last done after {format_seconds(document['end_s']['p50'])}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(machines_timeline(document), width_px))


def machines_timeline(document: Document) -> Timeline:
    """Which job runs where and when."""
    machines = document["machines"]
    jobs = sorted(document["plans"], key=lambda one: (_lane(one, machines), one["start_s"]["p50"]))
    rows, ends = [], []
    for one in jobs:
        where = one["machine"] or _RENTED
        told = f"{one['name']} on {where}: {_plan(one['plan'])}, {format_usd(one['plan']['cost_usd']['p50'])}"
        rows.append(_row(one["name"], where, one["start_s"]["p50"], one["end_s"]["p50"], told))
        ends.append({"name": one["name"], "low_s": one["end_s"]["p10"], "high_s": one["end_s"]["p90"], "text": told})
    used = [*machines, _RENTED]
    kinds = {name: SERIES[index % len(SERIES)] for index, name in enumerate(used)}
    return Timeline(bars=rows, ends=ends, kinds=kinds)


def _lane(one: Document, machines: Sequence[str]) -> int:
    return machines.index(one["machine"]) if one["machine"] in machines else len(machines)


def _plan(plan: Document) -> str:
    provider = f", {plan['provider']}" if plan["provider"] else ""
    return f"{plan['count']} x {plan['device']}{provider}"


def _row(name: str, kind: str, from_s: float, to_s: float, told: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "from_s": from_s, "to_s": to_s, "text": told}


def _draw(timeline: Timeline, width_px: int) -> Any:
    """A row for each name: words, a bar, and below it a line from the early to the late end."""
    alt = altair()
    narrow = width_px < NARROW_BELOW_PX
    ends, names, high_s = timeline.ends, [end["name"] for end in timeline.ends], timeline.most_s
    scale = alt.Scale(domain=[0, 1.02 * high_s], nice=False)
    x = alt.X(
        "from_s:Q", title="time from the start", axis=time_axis(even_ticks(high_s, 4 if narrow else 6)), scale=scale
    )
    y = alt.Y("name:N", title=None, sort=names, axis=None, scale=alt.Scale(padding=0))
    shown = timeline.shown
    colours = alt.Scale(domain=shown, range=[timeline.kinds[kind] for kind in shown])
    legend = alt.Legend(orient="top", title=None, columns=2 if narrow else 5) if len(shown) > 1 else None
    tips = {"text": "what", "kind": "kind"}
    bars = (
        chart(timeline.bars)
        .mark_bar(height=16, yOffset=7, cornerRadius=2)
        .encode(
            x=x,
            x2="to_s:Q",
            y=y,
            color=alt.Color("kind:N", title=None, scale=colours, legend=legend),
            tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in tips.items()],
        )
    )
    cut = [{**end, "text": shortened(end["text"], width_px - NO_LABELS_PX)} for end in ends]
    late = chart(ends).mark_rule(color=STRONG, strokeWidth=1.5, yOffset=19).encode(x="low_s:Q", x2="high_s:Q", y=y)
    layers = [bars, late, *words(cut, {"x": alt.value(2), "y": y}, dy=-11, fontWeight="bold")]
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(names))
