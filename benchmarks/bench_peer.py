"""Matrix products, side by side on the same measured rows: our law, a closed form, and aiconfigurator's own.

    python benchmarks/bench_peer.py [--measured ../shared/data/measured] [--every 1]

Rows are the products that ``aiconfigurator_gemm`` and ``vidur`` timed in 16 bits on A100, H100, L40S and A40.
The closed form is a roofline with three constants fitted on A100 and H100: four fifths of either peak, and 4 us.
The package aiconfigurator-core, where it is importable, answers twice: with its speed of light, and with its
tables. Its tables hold the rows of ``aiconfigurator_gemm`` themselves, so there they look the answer up; only
``vidur`` says how well they predict. Our constants were fitted on all of these devices: for devices left out,
see ``tools/fit/gemm.py --left-out``.

Printed: rows, geometric error exp(mean |ln(predicted/measured)|) - 1, its 90th percentile, bias, rows per second.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device as device_of
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.table import tabulate

MEASURED = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))
DEVICES = {
    ("A100", "SXM4"): "a100-sxm4-80gb", ("A100", "SXM 80GB"): "a100-sxm4-80gb", ("A40", "48GB"): "a40",
    ("H100", "SXM5 80GB"): "h100-sxm5-80gb", ("L40S", ""): "l40s",
}  # fmt: skip
SYSTEMS = {"a100-sxm4-80gb": "a100_sxm", "h100-sxm5-80gb": "h100_sxm", "l40s": "l40s"}
OPERAND_SETS = {"aiconfigurator_gemm": 5, "vidur": 1}
#: vidur's clock ticks once a microsecond: shorter rows measure the tick.
LEAST_S = {"aiconfigurator_gemm": 0.0, "vidur": 20e-6}
CLOSED_FORM_FRAC, CLOSED_FORM_S = 0.8, 4e-6

Shape = tuple[int, int, int]


class Row(NamedTuple):
    """One measured product."""

    shape: Shape
    time_s: float


def read(folder: Path, every: int) -> dict[tuple[str, str], list[Row]]:
    """Rows by source and device."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for source in OPERAND_SETS:
        with (folder / f"{source}.csv").open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.DictReader(stream)):
                device = DEVICES.get((row["device"], row["device_variant"]))
                is_product = row["model"].startswith("op:gemm") and row["precision"] in ("bfloat16", "fp16")
                time_s = float(row["value"]) / 1e3
                if number % every or device is None or not is_product or time_s < LEAST_S[source]:
                    continue
                m, n, k = (int(x) for x in re.findall(r"[MNK](\d+)", row["input_shape_or_seq"]))
                groups[source, device].append(Row((m, n, k), time_s))
    return groups


def ours(source: str, device_id: str, shapes: list[Shape]) -> list[float]:
    """The law of the package, tables built and all."""
    calibration = load_calibration()
    ops = [
        Op(
            name="aten.mm",
            kind=Kind.GEMM,
            phase=Phase.FORWARD,
            inputs=(Tensor((m, k), "bfloat16"), Tensor((k, n), "bfloat16", Role.PARAMETER)),
            outputs=(Tensor((m, n), "bfloat16"),),
            attrs={"format": "fp16"},
        )
        for m, n, k in shapes
    ]
    setting = Setting(operand_sets=OPERAND_SETS[source])
    times = op_times(tabulate(ops, {"b": 1}), columns([device_of(device_id)], calibration), calibration, setting)
    return [float(t) for t in times.total_s[0, :, 0]]


def closed_form(source: str, device_id: str, shapes: list[Shape]) -> list[float]:
    """Roofline with three constants."""
    del source
    device = device_of(device_id)
    flops_per_s = CLOSED_FORM_FRAC * device.peak("fp16")
    bytes_per_s = CLOSED_FORM_FRAC * (device.memory_bytes_per_s or math.nan)
    return [
        max(2.0 * m * n * k / flops_per_s, 2.0 * (m * k + k * n + m * n) / bytes_per_s) + CLOSED_FORM_S
        for m, n, k in shapes
    ]


def peer(mode: str) -> Callable[[str, str, list[Shape]], list[float]] | None:
    """aiconfigurator-core in one of its modes, or None where it is not installed."""
    try:
        from aiconfigurator_core.sdk import common, perf_database
        from aiconfigurator_core.sdk.operations.gemm import GEMM
    except ImportError:
        return None

    def answer(source: str, device_id: str, shapes: list[Shape]) -> list[float]:
        del source
        system = SYSTEMS[device_id]
        version = perf_database.get_latest_database_version(system, "vllm")
        view = perf_database.get_database_view(system, "vllm", version, database_mode=common.DatabaseMode[mode])
        width = common.GEMMQuantMode.bfloat16
        return [float(GEMM("product", 1, n, k, width)._engine_query(view, x=m)) / 1e3 for m, n, k in shapes]

    return answer


def line(name: str, predicted: list[float], rows: list[Row], wall_s: float) -> str:
    """One line of the table."""
    logs = [math.log(p / row.time_s) for p, row in zip(predicted, rows, strict=True)]
    sizes = sorted(abs(x) for x in logs)
    geo, p90 = (math.exp(x) - 1 for x in (statistics.mean(sizes), sizes[int(0.9 * (len(sizes) - 1))]))
    bias = math.exp(statistics.mean(logs)) - 1
    return f"  {name:<32}{len(rows):>6}{geo:>9.1%}{p90:>9.1%}{bias:>+9.1%}{len(rows) / wall_s:>14,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--every", type=int, default=1, help="every n-th row only")
    options = parser.parse_args()
    if not options.measured.is_dir():
        print(f"no measured tables at {options.measured}: skipped")
        return
    predictors = {"rigwise": ours, "closed form, three constants": closed_form}
    for name, mode in (("aiconfigurator, speed of light", "SOL"), ("aiconfigurator, tables", "SILICON")):
        found = peer(mode)
        if found is None:
            print(f"{name}: not installed, skipped")
        else:
            predictors[name] = found
    print(f"  {'predictor':<32}{'rows':>6}{'geo':>9}{'p90':>9}{'bias':>9}{'rows a second':>14}")
    for (source, device_id), rows in sorted(read(options.measured, options.every).items()):
        print(f"{source} on {device_id}")
        for name, predict in predictors.items():
            if name.startswith("aiconfigurator") and device_id not in SYSTEMS:
                continue
            shapes = [row.shape for row in rows]
            predict(source, device_id, shapes[:2])  # loads tables
            start = time.perf_counter()
            predicted = predict(source, device_id, shapes)
            print(line(name, predicted, rows, time.perf_counter() - start))


if __name__ == "__main__":
    main()
