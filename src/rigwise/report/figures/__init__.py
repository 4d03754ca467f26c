"""Figures of what ``--json`` prints: one file for each, ``theme`` for the look, ``save`` for the files.

A figure is a function from the document to a ``theme.Figure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rigwise.errors import UnsupportedError

if TYPE_CHECKING:
    from rigwise.report.figures.theme import Figure

#: Schema of a document -> module and function of its figure.
FIGURES = {
    "rigwise.predict/1": ("roofline", "roofline"),
    "rigwise.compare/1": ("binding", "time_by_device"),
    "rigwise.plan/1": ("plan", "plan_figure"),
    "rigwise.memory/1": ("memory", "memory_over_step"),
    "rigwise.scaling/1": ("scaling", "scaling_curve"),
    "rigwise.serving/1": ("serving", "serving_curve"),
    "rigwise.plan.buying/1": ("buying", "buying_over_months"),
    "rigwise.plan.spot/1": ("spot", "spot_costs"),
    "rigwise.plan.staged/1": ("timeline", "stages_over_time"),
    "rigwise.plan.shared/1": ("timeline", "jobs_on_machines"),
    "rigwise.plan.serving/1": ("fleet", "fleets"),
    "rigwise.plans/1": ("jobs", "jobs_planned"),
    "rigwise.application/1": ("application", "busy_parts"),
    "rigwise.run.command/1": ("run", "command_run"),
    "rigwise.run/1": ("run", "application_run"),
    "rigwise.trace/1": ("trace", "recorded_step"),
    "rigwise.history.compare/1": ("compared", "sides_compared"),
    "rigwise.bench/1": ("bench", "figures_of_limits"),
    "rigwise.inspect/1": ("machine", "machine_roofs"),
}


def figure_of(document: Mapping[str, Any]) -> Figure:
    """The figure of a document.

    Raises:
        UnsupportedError: It has none, or nothing in it can be drawn.
    """
    schema = document.get("schema")
    if schema not in FIGURES:
        raise UnsupportedError(f"there is no figure of {schema}", hint=f"there is one of {', '.join(FIGURES)}")
    module, name = FIGURES[schema]
    figure: Figure = getattr(import_module(f"rigwise.report.figures.{module}"), name)(document)
    return figure
