"""What the store keeps, as the rows that ``rigwise calibrate`` fits: steps, and figures of ``rigwise bench``.

A figure names what was run by its name and tags; a rate becomes the seconds of one call. Of several records of one
thing the newest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rigwise.bench.transformer import flops
from rigwise.calibrate.layer import LAYER, SHAPE
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.estimate.calibration import packaged
from rigwise.measurement.exchange import METRICS, is_step
from rigwise.measurement.measurement import Measurement, Rejected, spread_frac
from rigwise.measurement.records import FREE_TAGS, Record, Tag, tags_text

#: Benchmarks with a law of their own: the word of the table, the sizes in its words, and the FLOP of one call.
_OPERATORS: Mapping[str, tuple[str, str, Callable[..., float]]] = {
    "matmul": ("op:gemm", "M{side} N{side} K{side}", lambda side, **_: 2.0 * side**3),
    "convolution": (
        "op:conv",
        "w{w} h{h} c{c} n{n} k{k} r{r} s{r} pad{half},{half} str1,1",
        lambda n, c, h, w, k, r, **_: 2.0 * n * c * k * h * w * r * r,
    ),
    "attention": (
        "op:attention",
        "B{batch} A{heads} S{seq} D{head} causal",
        lambda batch, heads, seq, head, **_: 2.0 * batch * heads * seq * seq * head,
    ),
    "transformer": (
        LAYER,
        SHAPE,
        lambda width, heads, seq, batch, **_: flops(width, heads, seq, batch),
    ),
}
_FORWARD = ("attention.forward", "convolution", "matmul")
#: Parts of a network's figure -> the task of the row.
_TASKS = {"forward": "infer", "training": "train"}


def measurements_of(records: Iterable[Record], threads: int | None) -> tuple[list[Measurement], list[Rejected]]:
    """The newest row of each figure that says something of steps, and why the others of those do not count.

    Args:
        records: Of one machine, newest last.
        threads: Cores of a CPU, figures of fewer are of a part of it; None for any other device.
    """
    newest = {_key(r): r for r in records if is_step(r) or _spoiled(r) or (r.kind == "bench" and _is_asked(r.name))}
    found: list[Measurement] = []
    left_out: list[Rejected] = []
    for record in newest.values():
        try:
            if _spoiled(record):
                raise InvalidInputError(f"the run was not what was predicted: {record.tags['status']}")
            if record.kind == "bench":
                _check(record, threads)
            found.append(_step(record) if is_step(record) else _measurement(record))
        except RigwiseError as error:
            left_out.append(Rejected(where=_where(record), reason=str(error)))
    return found, left_out


def _spoiled(record: Record) -> bool:
    """A step of ``rigwise run`` that was kept under its workload only."""
    of_run = record.kind == "run" and record.name.startswith("step.") and "precision" in record.tags
    return of_run and record.tags.get("status", "ok") != "ok"


def _is_asked(name: str) -> bool:
    """Whether a law covers the figure, and the whole device took part."""
    is_layer = name.startswith("transformer.") and name.endswith(".forward")
    return is_layer or (name.startswith(("networks.", *_FORWARD)) and not name.endswith(".1thread"))


def _key(record: Record) -> tuple[str, str]:
    """What makes two records the same question."""
    tags = {key: value for key, value in record.tags.items() if key not in FREE_TAGS}
    return record.name, tags_text(tags)


def _where(record: Record) -> str:
    return f"{record.name} of {record.when[:16]}"


def _check(record: Record, threads: int | None) -> None:
    """Refuse what was taken under conditions that no step has.

    Raises:
        InvalidInputError: Says which.
    """
    status, used = str(record.tags.get("status", "ok")), record.tags.get("threads")
    if status == "busy":
        raise InvalidInputError(
            "others took the CPU while it was measured", hint="end them and run rigwise bench again"
        )
    if status != "ok":
        raise InvalidInputError(f"the device was {status} while it was measured")
    if threads and record.name == "matmul.fp16":
        raise InvalidInputError("on a CPU both operands lie as no weight of a layer does")
    if threads and used and used != threads:
        raise InvalidInputError(f"measured with {used} of {threads} threads")


def _measurement(record: Record) -> Measurement:
    tags, kind = record.tags, record.name.partition(".")[0]
    cells = _network(record) if kind == "networks" else _operator(record, kind)
    row: dict[str, Any] = dict.fromkeys(("device_variant", "layout"), "")
    row |= {"source": "rigwise bench", "device": str(tags["device"]), "count": 1, "precision": str(tags["format"])}
    row |= {"framework": _framework(record), "where": _where(record), "layout": str(tags.get("layout", ""))}
    row["spread_frac"] = _spread_frac(record)
    return Measurement(**(row | {"notes": "no optimizer"} | cells))


def _spread_frac(record: Record) -> float:
    """How far runs of a benchmark stray, which a handful of samples cannot tell.

    Source: the ``[learning]`` table.
    """
    known, found = packaged().learning, spread_frac(record.p10, record.p90)
    return float(found if record.n >= known.few_samples else max(found, known.few_samples_spread))


def _step(record: Record) -> Measurement:
    """A step that was kept in the words of the tables."""
    cell = {key: str(value) for key, value in record.tags.items()}
    batch = cell.get("batch", "")
    return Measurement(
        source=cell.get("source", "rigwise"),
        device=cell["device"],
        device_variant=cell.get("device_variant", ""),
        count=int(cell.get("count", "1")),
        model=cell["model"],
        task=cell["task"],
        precision=cell["precision"],
        layout=cell.get("layout", ""),
        batch=int(batch) if batch.isdecimal() else None,
        shape=cell.get("shape", ""),
        framework=cell.get("framework", ""),
        metric=METRICS[record.unit],
        value=record.value,
        notes=cell.get("notes", ""),
        where=_where(record),
        spread_frac=spread_frac(record.p10, record.p90),
    )


def _network(record: Record) -> dict[str, Any]:
    """Samples a second of a network's step, without the optimizer."""
    tags, (_, model, part) = record.tags, record.name.split(".")
    if part not in _TASKS:
        raise InvalidInputError(f"no step is called {part!r}")
    if "seq" not in tags and "image_size" not in tags:
        raise InvalidInputError("it does not say how long its sequences or how large its images were")
    shape = str(tags["seq"]) if "seq" in tags else "3x{0}x{0}".format(tags["image_size"])
    cells: dict[str, Any] = {"model": model, "task": _TASKS[part], "batch": _whole(tags, "batch"), "shape": shape}
    return cells | {"metric": "samples_per_s", "value": record.value}


def _operator(record: Record, kind: str) -> dict[str, Any]:
    """Seconds of one call of an operator, from its rate."""
    model, shape, flop = _OPERATORS[kind]
    sizes = {key: value for key, value in record.tags.items() if isinstance(value, int)}
    try:
        words, amount = shape.format(half=sizes.get("r", 1) // 2, **sizes), flop(**sizes)
    except (KeyError, TypeError):
        raise InvalidInputError("it does not say its sizes") from None
    return {"model": model, "task": "infer", "batch": None, "shape": words, "metric": "s_per_step",
            "value": amount / record.value}  # fmt: skip


def _whole(tags: Mapping[str, Tag], key: str) -> int:
    value = tags.get(key)
    if not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"it does not say its {key}")
    return value


def _framework(record: Record) -> str:
    from rigwise.edge import parse_json

    software = parse_json(record.software, "its software") if record.software else {}
    torch = str(software.get("torch", "")).partition("+")[0] if isinstance(software, dict) else ""
    return f"PyTorch {torch} eager" if torch else "eager"
