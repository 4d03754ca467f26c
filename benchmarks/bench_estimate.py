"""How long the arithmetic takes: operators x devices x batch sizes in one call.

Prints minimum, median and maximum over repeats of 1,000 operators on 300 devices at 20 batch
sizes, against a pure-Python roofline of a hundredth of them as a yardstick of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import devices
from rigwise.graph.load import load_model
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.table import tabulate

OPERATORS, DEVICES, SIZES = 1000, 300, 20


def spread(action: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def show(name: str, times: list[float]) -> None:
    print(f"{name:<44} {min(times):7.3f} {statistics.median(times):7.3f} {max(times):7.3f} s")


def main(repeats: int) -> None:
    whole = [d for d in devices() if not d.missing()]
    chosen = (whole * 2)[:DEVICES]
    calibration = load_calibration()
    ops = lower_model(load_model("resnet50"), Lowering(task="train", dtype="amp-fp16")).step_ops
    ops = (ops * (OPERATORS // len(ops) + 1))[:OPERATORS]
    sizes = {"b": np.arange(1, SIZES + 1) * 8, "p": 224}

    def vectorised() -> None:
        op_times(tabulate(ops, sizes), columns(chosen, calibration), calibration, Setting())

    table = tabulate(ops, sizes)
    moved, flops = table.read_bytes + table.write_bytes, table.flops

    def plain() -> None:
        for device in chosen[:30]:
            peak, rate = device.peak_flops_per_s.get("fp32", 1e12), device.memory_bytes_per_s or 1e9
            for row in range(0, OPERATORS, 10):
                [max(f / peak, m / rate) for f, m in zip(flops[row].tolist(), moved[row].tolist(), strict=True)]

    print(f"{'':<44} {'min':>7} {'median':>7} {'max':>7}")
    many, yardstick = spread(vectorised, repeats), spread(plain, repeats)
    show(f"{OPERATORS} operators x {DEVICES} devices x {SIZES} sizes", many)
    show("roofline of 1/100 of them, plain Python", yardstick)
    print(f"ratio of medians {statistics.median(many) / statistics.median(yardstick):.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args().repeats)
