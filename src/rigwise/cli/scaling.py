"""``rigwise predict --explain scaling``: one case on several numbers of devices, and why more stop helping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rigwise.cli.case_options import case_from
from rigwise.cli.output import console, print_json
from rigwise.cli.plot_option import draw


def explain_scaling(model: str, device: str, flags: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Answer for each of ``flags["count"]``; the largest of them stands on ``flags["nodes"]`` if those are given.

    Raises:
        InvalidInputError: The counts do not rise or do not fill whole nodes.
    """
    from rigwise.estimate.scaling import scaling
    from rigwise.report.scaling import scaling_document

    counts, weak = flags["count"], flags.pop("weak")
    nodes = flags["nodes"]
    case = replace(case_from(model, device, {**flags, "count": counts[:1], "nodes": 1}), count=counts[0])
    found = scaling(case, counts, weak=weak, per_node=max(1, counts[-1] // nodes) if nodes > 1 else None)
    draw(scaling_document(found), quiet=quiet)
    if as_json:
        print_json(scaling_document(found))
        return 0
    from rigwise.report.scaling import scaling_text

    console().print(scaling_text(found, brief=quiet), end="", markup=False)
    return 0
