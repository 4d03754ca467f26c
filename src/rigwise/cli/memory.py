"""``rigwise predict --explain memory``: what stands in memory over a step."""

from __future__ import annotations

from typing import Any

from rigwise.cli.case_options import case_from
from rigwise.cli.output import console, print_json
from rigwise.cli.plot_option import draw


def explain_memory(model: str, device: str, flags: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Print the terms at the peak, the peak's operator, the course of the step and the largest micro-batch."""
    from rigwise.estimate.memory_course import memory_course, memory_document

    course = memory_course(case_from(model, device, flags))
    draw(memory_document(course), quiet=quiet)
    if as_json:
        print_json(memory_document(course))
        return 0
    from rigwise.report.memory import memory_text

    console().print(memory_text(course, brief=quiet), end="", markup=False)
    return 0
