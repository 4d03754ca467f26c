"""The document ``rigwise.run/1``; keys in docs/reference/json.md."""

from __future__ import annotations

from typing import Any

from rigwise.edge import as_plain
from rigwise.execute.comparison import Comparison, ComponentRow, stated_costs


def run_document(comparison: Comparison) -> dict[str, Any]:
    """A run beside its prediction, as plain objects."""
    run, measured = comparison.run, comparison.run.measured
    document: dict[str, Any] = as_plain(
        {
            "schema": "rigwise.run/1",
            "application": run.costed.application.name,
            "placement": run.predicted.placement,
            "ended": measured.ended,
            "elapsed_s": measured.elapsed_s,
            "steady_s": measured.window_s,
            "alone": run.alone,
            "simulated": run.simulated,
            "throughput_per_s": {
                "predicted": run.predicted.throughput_per_s,
                "measured": comparison.throughput_measured_per_s,
            },
            "latency_s": {
                "predicted": run.predicted.latency_s,
                "measured": {"p50": comparison.latency_measured_s, "p90": comparison.latency_p90_s},
                "in_queues": comparison.in_queues_s,
            },
            "bottleneck": {"predicted": comparison.bottleneck_predicted, "measured": comparison.bottleneck_measured},
            "machine_busy_frac": measured.machine_cores_busy_frac,
            "components": [_component(row) for row in comparison.rows],
            "sinks": measured.sinks,
            "costs": stated_costs(comparison),
            "differences": comparison.differences,
            "assumed": run.assumed,
        }
    )
    return document


def _component(row: ComponentRow) -> dict[str, Any]:
    stage = as_plain(row.stage)
    measured: dict[str, Any] = {key: stage[key] for key in stage if key not in ("name", "run", "workers", "item_s")}
    return {
        "name": row.name,
        "place": row.place,
        "run": row.stage.run,
        "workers": row.stage.workers,
        "item_s": {"predicted": row.item_predicted_s, "measured": row.item_measured_s},
        "ratio": {"stated": row.ratio_stated_frac, "measured": row.ratio_measured_frac},
        "predicted_busy_frac": row.busy_predicted_frac,
        **measured,
    }
