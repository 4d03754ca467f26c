"""What a notebook shows of an answer: its figure, a table and its words; the words alone without the extra ``plot``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rigwise.errors import RigwiseError
from rigwise.estimate.compare import Answers, compare_document
from rigwise.estimate.predict import Prediction, predict_document
from rigwise.graph.graph import GRAPHS_OF_TASK, Model
from rigwise.machine.doctor.checkup import Checkup
from rigwise.machine.snapshot import Snapshot
from rigwise.report.html import Markup, tag
from rigwise.search.types import PlanResult
from rigwise.shown import Shown
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

if TYPE_CHECKING:
    from rigwise.report.figures.theme import Figure

#: The page of a notebook, where a figure needs its colour.
_PAPER = "--paper: var(--jp-layout-color0, #ffffff)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer in the forms that a notebook has room for.

    Attributes:
        text: For a terminal.
        columns: Of the table, as ``html.table`` takes them.
        rows: Of the table.
        notes: Sentences below it.
        figure: Makes the figure; None where there is none.
    """

    text: str
    columns: dict[str, str]
    rows: list[list[str]]
    notes: Sequence[str] = ()
    figure: Callable[[], Figure] | None = None


def bundle(answer: Shown) -> dict[str, str]:
    """The answer as ``text/plain`` and ``text/html``."""
    told = _told(answer)
    notes = tag("p", tag("small", "; ".join(told.notes))) if told.notes else None
    grid = _grid(told) if told.rows else tag("pre", told.text, style="white-space: pre-wrap")
    return {"text/plain": told.text, "text/html": tag("div", _picture(told.figure), grid, notes, style=_PAPER)}


def _grid(told: Told) -> Markup:
    """The table; a notebook would set words to the right as well."""
    sides = ["text-align: right" if kind == "number" else "text-align: left" for kind in told.columns.values()]
    heads = [tag("th", name, style=side, scope="col") for name, side in zip(told.columns, sides, strict=True)]
    rows = [
        tag("tr", *(tag("td", cell, style=side) for cell, side in zip(row, sides, strict=True))) for row in told.rows
    ]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))


def _told(answer: Shown) -> Told:
    for kind, tell in _TELL.items():
        if isinstance(answer, kind):
            told: Told = tell(answer)
            return told
    return Told(text=repr(answer), columns={}, rows=[])


def _picture(make: Callable[[], Figure] | None) -> Markup | None:
    """The figure as SVG in the colours of the notebook, under its title; None if it cannot be drawn."""
    from rigwise.report.figures.save import svg
    from rigwise.report.figures.theme import bare

    try:
        figure = make() if make else None
        drawn = Markup(svg(bare(figure))) if figure else None
    except RigwiseError:
        return None
    if figure is None or drawn is None:
        return None
    words = tag("figcaption", tag("strong", figure.title), tag("br"), figure.note)
    return tag("figure", words, drawn, role="img", aria_label=figure.title)


def _figure_of(document: dict[str, Any]) -> Callable[[], Figure]:
    from rigwise.report.figures import figure_of

    return lambda: figure_of(document)


def _prediction(answer: Prediction) -> Told:
    from rigwise.report.prediction import prediction_text

    document = predict_document(answer)
    rows = [_quantiles("step time", document["step_time_s"], format_seconds)]
    rows.append(["throughput", f"{format_count(answer.throughput_per_s)} samples/s", "", ""])
    if answer.tokens_per_s:
        rows.append(["", f"{format_count(answer.tokens_per_s)} tokens/s", "", ""])
    rows.append(_quantiles("memory", document["peak_memory_bytes"], format_bytes))
    fits = "fits" if answer.fits else "does not fit"
    rows.append(["", f"{fits} {format_bytes(answer.capacity_bytes)}", "", ""])
    if document["energy_j"]:
        rows.append(_quantiles("energy of a step", document["energy_j"], lambda value: format_count(value, "J")))
    rows.append(["work", f"{format_count(answer.flops, 'FLOP')}, MFU {format_fraction(answer.mfu)}", "", ""])
    binds = sorted(answer.binds.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{name} {format_fraction(share)}" for name, share in binds if share >= 0.005)
    rows.append(["limited by", told, "", ""])
    columns = {"": "keep", "median": "", "p10": "", "p90": ""}
    notes = [f"constants: {answer.provenance}", *(f"assumed: {one}" for one in answer.assumed)]
    text = prediction_text(answer, brief=True)
    return Told(text=text, columns=columns, rows=rows, notes=notes, figure=_figure_of(document))


def _quantiles(name: str, values: Any, show: Callable[[float], str]) -> list[str]:
    return [name, *(show(values[quantile]) for quantile in ("p50", "p10", "p90"))]


def _plans(answer: PlanResult) -> Told:
    from rigwise.report.plan_text import plan_text
    from rigwise.search.plan import document

    found = document(answer)
    columns = {"#": "number", "what": "keep", "where": "", "time": "number", "cost": "number", "best with": "number"}
    rows = [
        [
            str(plan["rank"]),
            f"{plan['count']} x {plan['device']}",
            " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan[key]),
            format_seconds(plan["time_s"]["p50"]),
            format_usd(plan["cost_usd"]["p50"]),
            format_fraction(plan["p_best"]),
        ]
        for plan in found["plans"]
    ]
    gap = found["certificate"]["gap_frac"]
    proof = "proven" if gap == 0 else f"within {format_fraction(gap)}"
    notes = [f"{proof} among {found['certificate']['candidates']:,} candidates", *found["plans"][0]["why"]]
    text = plan_text(answer, brief=True)
    return Told(text=text, columns=columns, rows=rows, notes=notes, figure=_figure_of(found))


def _answers(answer: Answers) -> Told:
    from rigwise.report.prediction import COMPARE_COLUMNS, COMPARE_RIGHT, compare_notes, compare_rows

    cells, notes = compare_rows(answer), compare_notes(answer)
    widths = [
        max(len(row[column]) for row in [list(COMPARE_COLUMNS), *cells]) for column in range(len(COMPARE_COLUMNS))
    ]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(COMPARE_COLUMNS), *cells]
    ]
    columns = {name: "number" if name in COMPARE_RIGHT else "keep" for name in COMPARE_COLUMNS}
    text = "\n".join([*lines, *notes])
    return Told(text=text, columns=columns, rows=cells, notes=notes, figure=_figure_of(compare_document(answer)))


def _model(answer: Model) -> Told:
    """The graphs of a model in figures, and the first of them as a picture."""
    from rigwise.graph.summary import Cost
    from rigwise.report.figures.graph import compute_graph
    from rigwise.report.step_rows import counted_step
    from rigwise.workload.case import Case

    rows, figure = [], None
    for task, keys in GRAPHS_OF_TASK.items():
        if keys[0] not in answer.graphs:
            continue
        step = counted_step(Case(model=answer.name, device="", task=task), answer)
        cost = sum((row.cost for row in step.rows), Cost())
        sizes = ", ".join(f"{symbol} {size}" for symbol, size in step.sizes.items())
        rows.append([task, str(len(step.rows)), format_count(cost.flops), format_bytes(cost.bytes), sizes])
        figure = figure or (lambda step=step: compute_graph(answer, step))
    columns = {"task": "keep", "operators": "number", "FLOPs": "number", "bytes": "number", "sizes": ""}
    head = f"{answer.card.title or answer.name}: {answer.parameter_count:,} parameters"
    lines = [head, *(f"  {row[0]:<8} {row[2]:>8} FLOP  {row[3]:>8}  {row[4]}" for row in rows)]
    return Told(text="\n".join(lines), columns=columns, rows=rows, notes=[head], figure=figure)


def _machine(answer: Snapshot) -> Told:
    from rigwise.machine.snapshot import document
    from rigwise.report.inspect_text import inspect_text, machine_rows

    rows = [[label, words] for label, words in machine_rows(answer)]
    notes = [finding.text for finding in answer.findings]
    text = inspect_text(answer, brief=True)
    return Told(
        text=text, columns={"part": "keep", "what": ""}, rows=rows, notes=notes, figure=_figure_of(document(answer))
    )


def _checkup(answer: Checkup) -> Told:
    from rigwise.machine.doctor.types import Status
    from rigwise.report.doctor_text import checkup_text

    found = [one for one in answer.findings if one.status is Status.PROBLEM]
    rows = [[str(one.severity), one.title, one.evidence, one.fix] for one in found]
    columns = {"": "keep", "what": "", "found": "", "fix": ""}
    return Told(text=checkup_text(answer, brief=True), columns=columns, rows=rows)


_TELL: dict[type, Callable[[Any], Told]] = {
    Prediction: _prediction,
    PlanResult: _plans,
    Answers: _answers,
    Model: _model,
    Snapshot: _machine,
    Checkup: _checkup,
}
