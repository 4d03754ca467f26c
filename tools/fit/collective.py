"""Fit the constants of collectives on measured NCCL times; print errors in-sample and with each system left out.

Switched systems (A100, H100 with NVSwitch) give latency, link share, ramp and in-switch reduction; boxes joined by
PCIe give the share of a PCIe link and how it falls with the number of devices behind one host. Between nodes only
latency is fitted: the line rate of those machines is not known.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from rigwise.estimate.collective import Network, all_reduce_s, all_to_all_s, gather_s

HERE = Path(__file__).parent
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", HERE.parent.parent.parent / "shared/data/measured"))
SWITCHED = {"A100": (300e9, False), "H100": (450e9, True)}
PCIE3, PCIE4 = 15.75e9, 31.5e9
#: Latency matters little above this size, and a step is made of such messages.
LARGE_BYTES = 4 * 2**20
RAMP = 1.0
NAMES = ("base_s", "hop_s", "tree_hop_s", "link_frac", "in_switch_frac")
START = (8e-6, 0.6e-6, 1.0e-6, 0.7, 0.6)
PCIE_NAMES = ("pcie_frac", "pcie_exponent")
PCIE_START = (0.6, 0.65)


@dataclass(frozen=True)
class Rows:
    """Measured collectives as columns."""

    system: np.ndarray
    kind: np.ndarray
    count: np.ndarray
    message_bytes: np.ndarray
    time_s: np.ndarray

    def of(self, keep: np.ndarray) -> Rows:
        return Rows(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})


#: Times of rows under constants.
Law = Callable[[np.ndarray, Rows], np.ndarray]


def read() -> Rows:
    """Rows of one node; sizes of the NCCL tables are in elements of 2 bytes or 1."""
    found = []
    for row in _rows("aiconfigurator_nccl.csv"):
        elements = int(row["input_shape_or_seq"].split("=")[1].split()[0])
        size = elements * (2 if row["precision"] == "half" else 1)
        found.append((row["device"], row["model"][3:], int(row["count"]), size, float(row["value"]) * 1e-3))
    for row in _rows("deepbench.csv"):
        if row["model"] == "op:all_reduce" and int(row["count"]) <= 8:
            size = 4 * int(row["input_shape_or_seq"].split()[0])
            found.append((row["device"], "all_reduce", int(row["count"]), size, float(row["value"]) * 1e-3))
    for row in _rows("vidur.csv"):
        if row["model"] == "op:all_reduce" and row["device_variant"] == "a100_pairwise_nvlink" and row["count"] == "4":
            size = int(row["input_shape_or_seq"].split("=")[1])
            found.append(("A100 in pairs", "all_reduce", 4, size, float(row["value"]) * 1e-3))
    columns = list(zip(*found, strict=True))
    return Rows(*(np.array(c) if i < 2 else np.array(c, dtype=float) for i, c in enumerate(columns)))


def _rows(name: str) -> list[dict[str, str]]:
    with (MEASURED / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def switched_s(values: np.ndarray, rows: Rows) -> np.ndarray:
    """The law of ``estimate.collective`` on switched systems."""
    base, hop, tree, frac, in_switch = values
    rate = np.array([SWITCHED[s][0] for s in rows.system])
    reduces = np.array([SWITCHED[s][1] for s in rows.system])
    network = Network(
        per_node=rows.count, nodes=np.ones(len(rate)), intra_bytes_per_s=rate * frac, inter_bytes_per_s=1.0,
        intra_latency_s=hop, tree_latency_s=tree, inter_latency_s=0.0, base_latency_s=base, ramp_frac=RAMP,
        in_switch_bytes_per_s=np.where(reduces, rate * in_switch, 0.0),
    )  # fmt: skip
    return _by_kind(rows, network)


def pcie_s(values: np.ndarray, switched: np.ndarray, rows: Rows) -> np.ndarray:
    """The same behind PCIe, with the latencies of the switched fit."""
    base, hop, tree = switched[:3]
    frac, exponent = values
    link = np.where(np.isin(rows.system, ("GTX 1080 Ti", "P100")), PCIE3, PCIE4)
    sharing = np.where(rows.system == "A100 in pairs", rows.count / 2, rows.count)
    rate = link * frac * (2.0 / np.maximum(2.0, sharing)) ** exponent
    network = Network(
        per_node=rows.count, nodes=np.ones(len(rate)), intra_bytes_per_s=rate, inter_bytes_per_s=1.0,
        intra_latency_s=hop, tree_latency_s=tree, inter_latency_s=0.0, base_latency_s=base, ramp_frac=RAMP,
    )  # fmt: skip
    return _by_kind(rows, network)


def _by_kind(rows: Rows, network: Network) -> np.ndarray:
    size = rows.message_bytes
    halves = np.where(rows.kind == "alltoall", all_to_all_s(size, network), gather_s(size, network))
    return np.asarray(np.where(rows.kind == "all_reduce", all_reduce_s(size, network), halves))


def fit(law: Law, start: Sequence[float], rows: Rows, f_scale: float = 0.2) -> np.ndarray:
    """Least squares on ln(time), outliers damped, large messages counted double, systems equally."""
    names, where, sizes = np.unique(rows.system, return_inverse=True, return_counts=True)
    weight = np.where(rows.message_bytes >= 2**20, 1.0, 0.5) * np.sqrt(len(rows.system) / len(names) / sizes)[where]
    found = least_squares(
        lambda q: weight * np.log(law(np.exp(q), rows) / rows.time_s), np.log(start), loss="soft_l1", f_scale=f_scale
    )
    return np.asarray(np.exp(found.x))


def report(title: str, predicted_s: np.ndarray, rows: Rows) -> None:
    """Print n, geo-err, p90 and bias of all rows and of the large messages."""
    error = np.log(predicted_s / rows.time_s)
    for name, keep in (("all", np.ones(len(error), bool)), ("large", rows.message_bytes >= LARGE_BYTES)):
        part = error[keep]
        geo, p90 = np.expm1(np.abs(part).mean()), np.expm1(np.quantile(np.abs(part), 0.9))
        print(f"{title:44} {name:5} n {len(part):4d} geo-err {geo:.3f} p90 {p90:.3f} bias {part.mean():+.3f}")


def main() -> None:
    rows = read()
    quick = rows.of(np.isin(rows.system, list(SWITCHED)))
    found = fit(switched_s, START, quick)
    report("switched, in sample", switched_s(found, quick), quick)
    for left_out in SWITCHED:
        others, own = quick.of(quick.system != left_out), quick.of(quick.system == left_out)
        values = fit(switched_s, START, others)
        if left_out == "H100":  # no other system reduces in its switch: the constant cannot be left out
            values[4] = found[4]
        report(f"switched, {left_out} left out", switched_s(values, own), own)
    slow = rows.of(~np.isin(rows.system, list(SWITCHED)))
    slow = slow.of(slow.kind == "all_reduce")

    def law(values: np.ndarray, part: Rows) -> np.ndarray:
        return pcie_s(values, found, part)

    pcie = fit(law, PCIE_START, slow, 10.0)
    report("PCIe, in sample", law(pcie, slow), slow)
    large = slow.of(slow.message_bytes >= LARGE_BYTES)
    residuals = np.log(law(pcie, large) / large.time_s)
    biases = [residuals[(large.system == s) & (large.count == 8)] for s in np.unique(large.system)]
    eight = np.array([b.mean() for b in biases if b.size])
    for left_out in dict.fromkeys(slow.system):
        others, own = slow.of(slow.system != left_out), slow.of(slow.system == left_out)
        report(f"PCIe, {left_out} left out", law(fit(law, PCIE_START, others, 10.0), own), own)
    print(dict(zip(NAMES, found, strict=True)), dict(zip(PCIE_NAMES, pcie, strict=True)))
    print(f"PCIe boxes of 8, error of ln(time) of each: {np.round(eight, 2)}, spread {eight.std(ddof=1):.2f}")


if __name__ == "__main__":
    main()
