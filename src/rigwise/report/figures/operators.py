"""The operators of a timed step as points of a roofline."""

from __future__ import annotations

from typing import Any

from rigwise.graph.tree import sums
from rigwise.report.graph_scene import short_name
from rigwise.report.step_rows import Step


def operator_rows(step: Step) -> list[dict[str, Any]]:
    """Work and time on one device of each operator, equal layers together.

    Args:
        step: Of ``report.step_times.timed_step``; its work is that of all devices.
    """
    found = sums(step.counted, lambda row: f"{short_name(row.op)}\n{row.op.module}")
    rows = []
    for key, load in found.items():
        name, module = key.split("\n", 1)
        where = module.rpartition(".*.")[2] or module
        work = {"flops": load.cost.flops / step.case.count, "bytes": load.cost.bytes / step.case.count}
        label = f"{name} in {where}" if where else name
        rows.append({"name": label, **work, "time_s": load.time_s, "binds": load.binds})
    return rows
