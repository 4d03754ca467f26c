"""Fit the attention section of the calibration on the kernel tables of ``aiconfigurator-core``.

Run with the package and pyarrow on the path (an environment of its own); held-out devices are never read:

    python tools/fit/attention.py               prints the constants and their errors, in sample
    python tools/fit/attention.py --left-out    also with each architecture left out in turn

Source: the tables of aiconfigurator-core, Apache-2.0; times are medians over the serving frameworks measured.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from rigwise.estimate.calibration import Constants, load_calibration
from rigwise.estimate.columns import DeviceColumns, columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.op import Attr, Kind, Op, Phase, Tensor
from rigwise.workload.table import OpTable, tabulate

#: Folder of the tables and catalogue id; RTX PRO 6000 and Arc Pro B60 are held out.
DEVICES = {
    "a100_sxm": "a100-sxm4-80gb",
    "h100_sxm": "h100-sxm5-80gb",
    "h200_sxm": "h200-sxm-141gb",
    "l40s": "l40s",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200",
}
TABLES = ("context_attention", "generation_attention", "encoder_attention")
#: Tables whose rows are faster than the memory bus or the matrix units allow.
IMPOSSIBLE = {("h200_sxm", "vllm", "0.19.0"), ("l40s", "sglang", "0.5.12"), ("b200_sxm", "sglang", "0.5.10")}
#: Last-level cache of the devices whose catalogue row lists none.
LEAST_CACHE_BYTES = 96e6
#: Operators measured on a device, its columns, and where their rows stand.
Measured = tuple[OpTable, DeviceColumns, np.ndarray]
KEYS = ("device", "table", "batch", "heads", "kv_heads", "head", "queries", "keys", "window", "kv_bytes")


def tables_folder() -> Path:
    """Where the installed package keeps its tables."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("install aiconfigurator-core and pyarrow into an environment of their own first")
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def read_rows() -> dict[str, np.ndarray]:
    """Columns of all 16-bit rows: ``KEYS`` and the median time over frameworks in ``time_s``."""
    found = []
    for folder, device in DEVICES.items():
        for path in sorted((tables_folder() / folder).glob("*attention/*/*/*.parquet")):
            table, origin = path.stem.removesuffix("_perf"), (folder, path.parts[-3], path.parts[-2])
            if table in TABLES and origin not in IMPOSSIBLE:
                found.append(_rows(path, list(DEVICES.values()).index(device), TABLES.index(table)))
    return _medians(np.concatenate(found))


def _rows(path: Path, device: int, table: int) -> np.ndarray:
    import pyarrow.parquet as pq

    data = pq.read_table(path)
    names = data.column_names
    encoder = TABLES[table] == "encoder_attention"

    def column(name: str, usual: float = 0.0) -> np.ndarray:
        return np.asarray(data[name].to_numpy(), dtype=float) if name in names else np.full(data.num_rows, usual)

    keys = np.where(table == 1, column("step") + 1, column("isl"))
    heads = column("num_heads")
    kv = heads if encoder else column("num_key_value_heads")
    wide = np.array([d == "bfloat16" for d in data["attn_dtype"].to_pylist()])
    wide &= np.array([_is_flash(kernel, table) for kernel in data["kernel_source"].to_pylist()])
    stored = data["kv_cache_dtype"].to_pylist() if "kv_cache_dtype" in names else ["bfloat16"] * data.num_rows
    kv_bytes = np.array([2.0 if d == "bfloat16" else 1.0 for d in stored])
    queries = np.where(table == 1, 1.0, column("isl"))
    kv = np.where(kv == 0, heads, kv)
    columns = (column("batch_size"), heads, kv, column("head_dim"), queries, keys, column("window_size"), kv_bytes)
    rows = np.column_stack([np.full(len(heads), device), np.full(len(heads), table), *columns, column("latency") / 1e3])
    return rows[wide & (rows[:, -1] > 0)]


def _is_flash(kernel: str, table: int) -> bool:
    """Leaves out generic Triton kernels, and what times the rotary embedding and cache writes of a prompt too."""
    return kernel != "triton" and (kernel != "torch_flow" or TABLES[table] == "generation_attention")


def _medians(rows: np.ndarray) -> dict[str, np.ndarray]:
    """One row for each question: the median over frameworks."""
    keys, group = np.unique(rows[:, :-1], axis=0, return_inverse=True)
    order = np.lexsort((rows[:, -1], group))
    sizes = np.bincount(group)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    times = rows[order, -1]
    middle = (times[first + (sizes - 1) // 2] + times[first + sizes // 2]) / 2
    columns = {name: keys[:, i] for i, name in enumerate(KEYS)}
    return {**columns, "time_s": middle, "spread": times[first + sizes - 1] / times[first], "sources": sizes}


def sample(rows: dict[str, np.ndarray], per_device: int) -> dict[str, np.ndarray]:
    """Equally many rows of each device and table, for shapes that models have."""
    rng = np.random.default_rng(0)
    usual = (rows["kv_bytes"] == 2) & (rows["head"] <= 256) & (rows["head"] != 192)
    usual &= rows["heads"] / rows["kv_heads"] <= 16
    usual &= (rows["table"] == TABLES.index("encoder_attention")) | (rows["keys"] >= 64)
    picked = []
    for device in range(len(DEVICES)):
        for table in range(len(TABLES)):
            found = np.flatnonzero(usual & (rows["device"] == device) & (rows["table"] == table))
            picked.append(rng.choice(found, min(per_device, len(found)), replace=False))
    return {name: column[np.concatenate(picked)] for name, column in rows.items()}


def tables_of(rows: dict[str, np.ndarray]) -> list[Measured]:
    """For each device the operators measured on it, its columns and where their rows stand."""
    found = []
    for number, name in enumerate(DEVICES.values()):
        where = np.flatnonzero(rows["device"] == number)
        if len(where):
            table = tabulate([_op(rows, int(row)) for row in where], {})
            found.append((table, columns([resolve_device(name)], load_calibration()), where))
    return found


def _op(rows: dict[str, np.ndarray], row: int) -> Op:
    names = ("batch", "heads", "kv_heads", "head", "queries", "keys", "window")
    batch, heads, kv_heads, head, queries, keys, window = (int(rows[name][row]) for name in names)
    query = Tensor((batch, heads, queries, head), "bfloat16")
    key = Tensor((batch, kv_heads, keys, head), "bfloat16")
    causal = rows["table"][row] != TABLES.index("encoder_attention")
    attrs: dict[str, Attr] = {"causal": bool(causal), "window": window if window < keys else 0, "format": "bf16"}
    return Op(
        name="rigwise.attention",
        kind=Kind.ATTENTION,
        phase=Phase.FORWARD,
        inputs=(query, key, key),
        outputs=(query,),
        attrs=attrs,
    )


#: What is fitted, with its bounds.
FITTED = {
    "flash_frac": (0.3, 0.95), "asynchronous_frac": (0.3, 0.95), "exponential_cost": (0.0, 3.0),
    "edge_keys": (0.0, 256.0), "wave_frac": (0.0, 1.0), "block_cycles": (0.0, 2e4), "floor_cycles": (1e3, 4e4),
    "decode_frac": (0.5, 0.95), "decode_floor_cycles": (1e3, 4e4), "decode_padding_keys": (0.0, 512.0),
}  # fmt: skip


def predicted_s(tables: list[Measured], values: Sequence[float], size: int) -> np.ndarray:
    """Times of all rows under these constants; nan for rows of no table."""
    calibration = load_calibration()
    constants = {**calibration.attention.values, **dict(zip(FITTED, values, strict=True))}
    calibration = replace(calibration, attention=Constants("fit", constants))
    times = np.full(size, np.nan)
    for table, device, where in tables:
        setting = Setting(runtime="vllm")
        times[where] = op_times(table, device, calibration, setting).total_s[0, :, 0]
    return times


def possible(rows: dict[str, np.ndarray], tables: list[Measured]) -> np.ndarray:
    """Rows that do not beat a roof by more than a clock above the rated one; a cache in the cache is no measure.

    Decode is timed again and again on one cache: where it fits the last-level cache it tells the floor at most.
    """
    keep = np.zeros(len(rows["time_s"]), dtype=bool)
    for table, device, where in tables:
        moved = (table.read_bytes + table.write_bytes)[:, 0]
        bus_s = moved / device.bytes_per_s[0, 0, 0]
        roof_s = np.maximum(bus_s, table.flops[:, 0] / device.peak_flops_per_s[0, table.number_format])
        decode = rows["table"][where] == TABLES.index("generation_attention")
        cached = decode & (moved < 1.5 * max(device.l2_bytes[0, 0, 0], LEAST_CACHE_BYTES)) & (bus_s > 2e-6)
        keep[where] = (rows["time_s"][where] > 0.95 * roof_s) & ~cached
    return keep


def fit(tables: list[Measured], measured_s: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Constants that fit the rows, robustly, in ln(time)."""
    scale = np.array([high for _, high in FITTED.values()])
    start = np.array([load_calibration().attention.values[name] for name in FITTED]) / scale
    bounds = np.array(list(FITTED.values())).T / scale

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(predicted_s(tables, list(values * scale), len(measured_s))[rows] / measured_s[rows]))

    solved = least_squares(
        residuals, np.clip(start, *bounds), bounds=bounds, loss="soft_l1", f_scale=0.2, diff_step=1e-3
    )
    return np.asarray(solved.x * scale)


def line(name: str, log_ratio: np.ndarray) -> str:
    """n, geo-err, bias and p90 of some rows."""
    if not len(log_ratio):
        return f"{name:48} n 0"
    geo, bias = np.exp(np.abs(log_ratio).mean()) - 1, np.exp(log_ratio.mean()) - 1
    p90 = np.exp(np.percentile(np.abs(log_ratio), 90)) - 1
    return f"{name:48} n {len(log_ratio):6} geo-err {geo:6.1%} bias {bias:+6.1%} p90 {p90:6.1%}"


def report(title: str, rows: dict[str, np.ndarray], log_ratio: np.ndarray, which: np.ndarray) -> None:
    """Errors of prompts, encoders and decode: all, where the kernel outlasts its floor, and without windows."""
    long = rows["time_s"] > 50e-6
    for number, table in enumerate(TABLES):
        of_table = which & (rows["table"] == number)
        print(line(f"{title} {table.split('_')[0]}", log_ratio[of_table]))
        print(line(f"{title} {table.split('_')[0]} > 50 us", log_ratio[of_table & long]))
        plain = of_table & long & (rows["window"] == 0)
        print(line(f"{title} {table.split('_')[0]} > 50 us, no window", log_ratio[plain]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="rows for each device and table")
    parser.add_argument("--left-out", action="store_true", help="also fit with each architecture left out")
    options = parser.parse_args()
    rows = sample(read_rows(), options.rows)
    tables = tables_of(rows)
    keep, measured = possible(rows, tables), rows["time_s"]
    print(f"{keep.sum()} of {len(keep)} rows; {(~keep).sum()} faster than a roof or within a cache")
    names = list(DEVICES.values())
    values = fit(tables, measured, keep)
    print("\n".join(f"{name} = {value:.3g}" for name, value in zip(FITTED, values, strict=True)))
    ratio = np.log(predicted_s(tables, list(values), len(measured)) / measured)
    report("in sample", rows, ratio, keep)
    for number, name in enumerate(names):
        report(name, rows, ratio, keep & (rows["device"] == number))
    if options.left_out:
        architectures = [resolve_device(name).architecture.split()[0] for name in names]
        for architecture in sorted(set(architectures)):
            out = np.array([a == architecture for a in architectures])[rows["device"].astype(int)]
            values = fit(tables, measured, keep & ~out)
            ratio = np.log(predicted_s(tables, list(values), len(measured)) / measured)
            report(f"left out: {architecture}", rows, ratio, keep & out)


if __name__ == "__main__":
    main()
