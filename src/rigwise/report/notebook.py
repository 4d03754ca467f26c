"""What a notebook shows of an answer: its figure and its words; the words alone without the extra ``plot``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.estimate.compare import Answers, compare_document
from rigwise.estimate.predict import Prediction, predict_document
from rigwise.report.html import Markup, tag
from rigwise.search.types import PlanResult
from rigwise.shown import Shown


def bundle(answer: Shown) -> dict[str, str]:
    """The answer as ``text/plain`` and ``text/html``."""
    text, document = _told(answer)
    picture = _picture(document)
    words = tag("pre", text, style="white-space: pre-wrap")
    page = tag("div", picture, words) if picture else words
    return {"text/plain": text, "text/html": page}


def _told(answer: Shown) -> tuple[str, Mapping[str, Any]]:
    if isinstance(answer, Prediction):
        from rigwise.report.prediction import prediction_text

        return prediction_text(answer, brief=True), predict_document(answer)
    if isinstance(answer, PlanResult):
        from rigwise.report.plan_text import plan_text
        from rigwise.search.plan import document

        return plan_text(answer, brief=True), document(answer)
    if isinstance(answer, Answers):
        from rigwise.report.prediction import COMPARE_COLUMNS, compare_notes, compare_rows

        rows = [list(COMPARE_COLUMNS), *compare_rows(answer)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COMPARE_COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *compare_notes(answer)]), compare_document(answer)
    return repr(answer), {}


def _picture(document: Mapping[str, Any]) -> Markup | None:
    """The figure as SVG in the colours of the notebook, under its title; None if it cannot be drawn."""
    from rigwise.report.figures import figure_of
    from rigwise.report.figures.save import svg
    from rigwise.report.figures.theme import bare

    try:
        figure = figure_of(document)
        drawn = Markup(svg(bare(figure)))
    except RigwiseError:
        return None
    return tag("figure", tag("figcaption", tag("strong", figure.title), tag("br"), figure.note), drawn)
