"""What a figure is compared with: its physical limit, what the catalogue predicts, what others published.

The limit takes the highest clock of the device, so that no measurement may exceed it; a figure that does is reported
as such, with what usually explains it. The prediction is the estimate of one operator that is repeated alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from rigwise.bench import state
from rigwise.bench.timing import median_interval, quantile, spread_frac
from rigwise.bench.types import ERROR, ITEMS, TIME, Figure, Raw, Reference
from rigwise.errors import RigwiseError
from rigwise.facts.device import RATES_OF_FORMAT, Device
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor

#: Boards with a raised clock run up to a tenth above the reference; the same allowance as the search's bound.
HEADROOM = 1.10
#: Fewer samples say nothing of their spread.
LEAST_SAMPLES = 3
#: How the limit of a network's step comes about.
ROOFS = "every operator at its roof"
#: Limits that are rates of bytes.
_LINKS = frozenset({"memory", "host link", "peer link"})
#: How the graph names the type of each number format.
_TYPES = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_TYPES |= {"int8": "int8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A row of ``published.toml``.

    Attributes:
        name: Of the figure it stands beside.
        value: In the unit of that figure.
        words: On what, and how, it was measured.
        source: Key of the table of sources.
        device: Catalogue id; empty for a class of things that any machine may have.
    """

    name: str
    value: float
    words: str
    source: str
    device: str = ""


def judged(raw: Raw, device: Device | None, threads: int) -> Figure:
    """A raw figure with its spread and everything it is compared with.

    Args:
        raw: As measured.
        device: What it was measured on; None where the machine does not tell enough of itself.
        threads: Of the suite; a CPU's limit counts only the cores they use.
    """
    if raw.skipped or (raw.timing is None and raw.value is None):
        return Figure(raw=raw)
    used = _part_of(device, raw, threads) if device else None
    asked = None if raw.work.get("law") == "step" and used is not device else used  # a step is of the whole device
    figure = replace(
        _measured(raw),
        limit=(_step_limit(raw, asked) if asked else None) or (limit_of(raw, used) if used else None),
        predicted=predicted(raw, asked) if asked else None,
        published=published(raw.name, device.id if device else ""),
    )
    return replace(figure, remarks=_remarks(figure))


def _measured(raw: Raw) -> Figure:
    if raw.timing is None:
        return Figure(raw=raw, value=raw.value)
    samples = raw.timing.samples_s
    ends = median_interval(samples)
    in_unit = [_in_unit(raw, one) for one in (quantile(samples, 0.5), *ends, min(samples))]
    low, high = sorted(in_unit[1:3])
    spread = spread_frac(samples) if len(samples) >= LEAST_SAMPLES else None
    figure = Figure(raw=raw, value=in_unit[0], low=low, high=high, best=in_unit[3], spread_frac=spread)
    return figure if raw.value is None else replace(figure, value=raw.value, low=None, high=None)


def _in_unit(raw: Raw, time_s: float) -> float:
    return time_s if raw.unit == TIME else raw.amount / time_s


def _part_of(device: Device, raw: Raw, threads: int) -> Device:
    """The device with as many cores as threads computed."""
    used = int(raw.parameters.get("threads", threads))
    if device.kind != "cpu" or not device.units or used >= device.units:
        return device
    share = used / device.units
    peaks = {name: share * rate for name, rate in device.peak_flops_per_s.items()}
    return replace(device, units=used, peak_flops_per_s=peaks)


def limit_of(raw: Raw, device: Device) -> Reference | None:
    """The rate that physics allows, with its arithmetic; None where the catalogue does not know it.

    Where items are counted, it is the rate of what each item needs, as the figure states it.
    """
    found = _rate_of(raw, device)
    each = float(raw.parameters.get("bytes_per_item" if raw.limit in _LINKS else "flops_per_item", 0.0))
    if found is None or raw.unit != ITEMS:
        return found
    what = "B" if raw.limit in _LINKS else "FLOP"
    return Reference(value=found.value / each, words=f"at {each:.4g} {what} each") if each > 0 else None


def _rate_of(raw: Raw, device: Device) -> Reference | None:
    """Bytes or FLOP a second."""
    if raw.limit == "memory" and device.memory_bytes_per_s:
        basis = device.basis.get("memory_bytes_per_s", device.basis.get("", ""))
        words = "memory of the whole socket" if device.kind == "cpu" else "memory bus"
        return Reference(value=device.memory_bytes_per_s, words=f"{words} ({basis})" if basis else words)
    if raw.limit == "peer link" and device.peer_bytes_per_s_each_way:
        return Reference(value=device.peer_bytes_per_s_each_way, words=f"{device.peer_link or 'links'}, all of them")
    if raw.limit == "host link" and device.host_bytes_per_s_each_way:
        return Reference(value=device.host_bytes_per_s_each_way, words=device.host_link or "link to the host")
    rates = {device.peak_flops_per_s.get(name) for name in RATES_OF_FORMAT.get(raw.limit, ())} - {None}
    if not rates:
        return None
    peak = max(rate for rate in rates if rate)
    rated_hz, highest_hz = device.tensor_hz, device.boost_hz
    if rated_hz and highest_hz and highest_hz > rated_hz:
        peak *= highest_hz / rated_hz
    return Reference(value=peak, words=_arithmetic(device, peak, highest_hz or rated_hz))


def _arithmetic(device: Device, peak_flops_per_s: float, clock_hz: float | None) -> str:
    """The peak as units x clock x FLOP."""
    if not device.units or not clock_hz:
        return "the data sheet's peak"
    each = peak_flops_per_s / device.units / clock_hz
    units = "core" if device.kind == "cpu" else "unit"
    return f"{device.units} {units}{'s' if device.units != 1 else ''} x {clock_hz / 1e9:.2f} GHz x {each:.0f} FLOP"


def predicted(raw: Raw, device: Device) -> Reference | None:
    """What the catalogue's constants say; None where no law covers it, or a fact is missing."""
    if not raw.work:
        return None
    try:
        if raw.work["law"] == "step":
            times_s = _step(tuple(sorted(raw.work.items())), device.id).step_time_s
            ends = sorted(_in_unit(raw, times_s[key]) for key in ("p10", "p90"))
            words = f"80 %: {ends[0]:.3g} to {ends[1]:.3g}"
            return Reference(value=_in_unit(raw, times_s["p50"]), words=words)
        if raw.work["law"] == "step energy":
            energy_j = _step(tuple(sorted(raw.work.items())), device.id).energy_j
            words = "80 %: {p10:.3g} to {p90:.3g}"
            return Reference(value=energy_j["p50"], words=words.format(**energy_j)) if energy_j else None
        time_s = sum(_time_s(op, device, str(raw.work.get("layout", "nchw"))) for op in operators(raw.work))
    except RigwiseError:
        return None
    words = "its operators, one after the other" if raw.work["law"] == "layer" else "this operator alone"
    return Reference(value=_in_unit(raw, time_s), words=words) if time_s > 0 else None


def _step_limit(raw: Raw, device: Device) -> Reference | None:
    """The bound of a network's step, every operator at its roof; None for what is no step, or has no bound."""
    if raw.work.get("law") != "step":
        return None
    try:
        bound_s = _step(tuple(sorted(raw.work.items())), device.id).bound_s
    except RigwiseError:
        return None
    return Reference(value=_in_unit(raw, bound_s), words=ROOFS) if bound_s > 0 else None


@cache
def _step(work: tuple[tuple[str, Any], ...], device: str) -> Any:
    """What the catalogue says of a network's step."""
    from rigwise.estimate.predict import predict
    from rigwise.workload.case import Case

    given = dict(work)
    asked: dict[str, Any] = {key: int(given[key]) for key in ("batch", "seq", "image_size") if key in given}
    asked |= {key: str(given[key]) for key in ("runtime", "mode") if key in given}
    case = Case(
        model=str(given["model"]), device=device, task=str(given["task"]), dtype="fp32", optimizer="none", **asked
    )
    return predict(case)


def operators(work: Mapping[str, Any]) -> list[Op]:
    """The operators of the graph that a benchmark ran: one, or those of a layer of a transformer.

    >>> [op.name for op in operators({"law": "layer", "batch": 1, "seq": 8, "width": 64, "heads": 1, "format": "fp32"})]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['aten.mm', 'aten.mm', 'aten.mm', 'aten.mm', 'rigwise.attention', 'aten.gelu', 'aten.add', 'aten.add']
    """
    if work["law"] != "layer":
        return [operator(work)]
    batch, seq, width, heads = (int(work[key]) for key in ("batch", "seq", "width", "heads"))
    given = {"format": work["format"]}
    shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    products = [{"law": "gemm", "m": batch * seq, "n": n, "k": k, **given} for n, k in shapes]
    scores = {"law": "attention", "batch": batch, "heads": heads, "seq": seq, "head": width // heads, **given}
    tokens = batch * seq * width
    between = [("gelu", 4 * tokens), ("add", tokens), ("add", tokens)]
    rows = [{"law": "rows", "operator": name, "elements": count, **given} for name, count in between]
    return [operator(one) for one in (*products, scores, *rows)]


def _time_s(op: Op, device: Device, layout: str) -> float:
    from rigwise.estimate.calibration import load_calibration
    from rigwise.estimate.columns import columns
    from rigwise.estimate.op_time import op_times
    from rigwise.estimate.setting import Setting
    from rigwise.workload.table import tabulate

    calibration = load_calibration()
    setting = Setting(layout=layout, operand_sets=1)
    times = op_times(tabulate([op], {"b": 1}), columns([device], calibration), calibration, setting)
    found = float(times.total_s[0, 0, 0])
    return 0.0 if math.isnan(found) else found


def operator(work: Mapping[str, Any]) -> Op:
    """The operator of the graph that a benchmark ran.

    >>> operator({"law": "gemm", "m": 2, "n": 3, "k": 4, "format": "fp32"}).outputs[0].shape
    (2, 3)
    """
    number_format = str(work.get("format", "fp32"))
    dtype, attrs = _TYPES[number_format], {"format": number_format}
    law = work["law"]
    if law == "gemm":
        m, n, k = (int(work[key]) for key in ("m", "n", "k"))
        inputs = (Tensor((m, k), dtype), Tensor((k, n), dtype, Role.PARAMETER))
        return _op("aten.mm", Kind.GEMM, inputs, Tensor((m, n), dtype), attrs)
    if law == "conv":
        n, c, h, w, k, r = (int(work[key]) for key in ("n", "c", "h", "w", "k", "r"))
        shape: dict[str, Any] = {"stride": (1, 1), "padding": (r // 2, r // 2), "dilation": (1, 1), "groups": 1}
        inputs = (Tensor((n, c, h, w), dtype), Tensor((k, c, r, r), dtype, Role.PARAMETER))
        return _op("aten.convolution", Kind.CONV, inputs, Tensor((n, k, h, w), dtype), {**attrs, **shape})
    if law == "attention":
        batch, heads, seq, head = (int(work[key]) for key in ("batch", "heads", "seq", "head"))
        one = Tensor((batch, heads, seq, head), dtype)
        shape = {"causal": True}
        return _op("rigwise.attention", Kind.ATTENTION, (one, one, one), one, {**attrs, **shape})
    x = Tensor((int(work["elements"]),), dtype)
    if work["operator"] == "copy":
        return _op("aten.clone", Kind.COPY, (x,), x, attrs)
    operands = (x,) * (1 if work["operator"] == "gelu" else 2)
    return _op(f"aten.{work['operator']}", Kind.ELEMENTWISE, operands, x, attrs)


def _op(name: str, kind: Kind, inputs: tuple[Tensor, ...], output: Tensor, attrs: Mapping[str, Any]) -> Op:
    return Op(name=name, kind=kind, phase=Phase.FORWARD, inputs=inputs, outputs=(output,), attrs=attrs)


@cache
def _published_table() -> tuple[tuple[PublishedFigure, ...], dict[str, str]]:
    """All rows, and titles of sources with their dates."""
    from rigwise.edge import parse, parse_toml

    found = parse_toml(files("rigwise.bench").joinpath("published.toml").read_text("utf-8"), "published.toml")
    rows = parse(found["figure"], tuple[PublishedFigure, ...], "published.toml")
    return rows, {key: f"{row['title']}, {row['as_of']}" for key, row in found["sources"].items()}


def published(name: str, device: str) -> tuple[Reference, ...]:
    """What others published of this figure, on this device or on a class of things.

    >>> [reference.words for reference in published("disk.sequential", "t4")]
    ['a hard disk', 'an SSD on SATA']
    """
    rows, sources = _published_table()
    return tuple(
        Reference(value=row.value, words=row.words, source=sources[row.source])
        for row in rows
        if row.name == name and row.device in ("", device)
    )


def limit_share(figure: Figure) -> float | None:
    """What share of its limit a figure reaches; of a time, the limit over it. None without a limit."""
    if figure.limit is None or not figure.value:
        return None
    value, limit = figure.value, figure.limit.value
    return limit / value if figure.raw.unit == TIME else value / limit


def _remarks(figure: Figure) -> tuple[str, ...]:
    found: list[str] = []
    raw = figure.raw
    share = limit_share(figure)
    if share and raw.unit != ERROR and share > HEADROOM:
        reason = "savings of the algorithm" if raw.name.startswith("convolution") else "a higher clock, or a cache"
        found.append(f"above its limit, which {reason} would explain; else the limit is wrong")
    return (*found, *state.remarks(raw.state, figure.spread_frac))
