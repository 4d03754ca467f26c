"""What a measured row asks: the case, or the one operator, whose time it states."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rigwise.calibrate.names import device_of, dtype_of, software_of, zoo_name
from rigwise.calibrate.operators import Message, operator_of
from rigwise.errors import InvalidInputError, UnknownNameError, UnsupportedError, near_matches
from rigwise.facts.device import Device
from rigwise.graph.load import zoo_names
from rigwise.graph.op import Op
from rigwise.measurement.measurement import Measurement
from rigwise.workload.case import DTYPES, LAYOUTS, Case, Parallel, check

#: Task of a row -> (task of the case, part of its step that was timed).
_TASKS = {
    "infer": ("infer", "step"),
    "train": ("train", "step"),
    "prefill": ("prefill", "step"),
    "decode": ("decode", "step"),
    "fwd": ("train", "forward"),
    "bwd": ("train", "backward"),
}
_PER_NODE = 8
#: A slow copy from pageable memory over PCIe 3.0; rows count of whose time such a copy is at most this share.
_COPIED_BYTES_PER_S, _COPY_FRAC = 3e9, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a measurement states the time of.

    Attributes:
        measurement: The row.
        device: What it was measured on.
        case: The step; of an operator only device, software, layout and format count.
        part: ``step``, or its ``forward`` or ``backward`` half.
        op: The one operator that was timed, None for a step or a collective.
        message: What a collective moves, None for everything else.
    """

    measurement: Measurement
    device: Device
    case: Case
    part: str = "step"
    op: Op | None = None
    message: Message | None = None

    @property
    def is_step(self) -> bool:
        """Whether a whole network was timed, not one operator."""
        return self.op is None and self.message is None


def measured_s(m: Measurement) -> float:
    """Seconds of one step, or of one run of an operator.

    Raises:
        InvalidInputError: A rate without the batch, or tokens without the sequence.

    >>> row = dict.fromkeys(("source", "device", "device_variant", "model", "task", "precision"), "")
    >>> row |= dict.fromkeys(("layout", "shape", "framework", "notes", "where"), "")
    >>> measured_s(Measurement(**row, count=1, batch=64, metric="samples_per_s", value=1280.0))
    0.05
    """
    per_step = {"s_per_step": 1.0, "ms_per_step": 1e-3, "us_per_step": 1e-6}
    if m.metric in per_step:
        return m.value * per_step[m.metric]
    if m.batch is None:
        raise InvalidInputError("a rate needs the batch, which is empty")
    if m.metric == "samples_per_s":
        return _global_batch(m) / m.value
    tokens = 1 if m.task == "decode" else _sequence(m.shape)
    if not tokens:
        raise InvalidInputError("tokens per second need the sequence length")
    return _global_batch(m) * tokens / m.value


def question(m: Measurement, names: Collection[str] = ()) -> Question:
    """What a row asks.

    Args:
        m: The row.
        names: Networks at hand besides the zoo, by the name that tables use.

    Raises:
        UnknownNameError: Neither catalogue nor zoo has the device or the network.
        AmbiguousNameError: The device has several variants.
        UnsupportedError: The row times something that no step or operator here stands for.
        InvalidInputError: The row contradicts itself, or lacks a size.
    """
    device = device_of(m.device, m.device_variant)
    measured_s(m)
    if m.model.startswith("op:"):
        return _operator_question(m, device)
    if m.task not in _TASKS:
        raise UnsupportedError(f"task {m.task[:40]!r} cannot be asked", hint=f"one of: {', '.join(_TASKS)}")
    _check_comparable(m)
    task, part = _TASKS[m.task]
    pairs = _pairs(m.notes)
    image, sequence = _image_size(m.shape), _sequence(m.shape)
    case = Case(
        model=_model_word(m, names),
        device=device.id,
        count=m.count,
        nodes=_nodes(m, pairs),
        task=task,
        batch=_global_batch(m),
        image_size=image,
        seq=sequence,
        context=sequence if task == "decode" else None,
        dtype=dtype_of(m.precision),
        layout=_layout(m),
        mode="compiled" if "compile" in m.framework.lower() else "eager",
        optimizer=_optimizer(m, task, part),
        recompute="full" if pairs.get("act_ckpt") == "True" else "none",
        parallel=_parallel(m, pairs),
        inter_node_gbps=_gbps(m.framework) if m.count > _PER_NODE else None,
        host=pairs.get("host"),
        power_limit_w=float(_whole(pairs.get("power_limit_w", "")) or 0) or None,
        software=software_of(m.framework),
    )
    return Question(measurement=m, device=device, case=check(case), part=part)


def _operator_question(m: Measurement, device: Device) -> Question:
    found = operator_of(m)
    dtype = m.precision.lower().replace("_", "-")
    case = Case(
        model=m.model,
        device=device.id,
        count=m.count,
        nodes=_nodes(m, _pairs(m.notes)),
        task="infer",
        batch=1,
        dtype=dtype if dtype in DTYPES else None,
        layout=_layout(m),
        runtime="tensorrt-llm" if m.framework.startswith("trtllm") else "torch",
        software=software_of(m.framework),
    )
    if isinstance(found, Message):
        if m.count < 2:
            raise InvalidInputError(f"{found.collective} over {m.count} device")
        return Question(measurement=m, device=device, case=case, message=found)
    if m.count > 1:
        raise UnsupportedError("one operator spread over several devices cannot be asked")
    return Question(measurement=m, device=device, case=case, op=found)


def _check_comparable(m: Measurement) -> None:
    """Refuse rows that time more, or other kernels, than a step of the program means.

    Raises:
        UnsupportedError: Says what the row includes.
    """
    if "H2D copy" in m.notes and m.count > 1:
        raise UnsupportedError("one process feeds all devices (nn.DataParallel), which no step here does")
    if "H2D copy" in m.notes and _copy_s(m) > _COPY_FRAC * measured_s(m):
        raise UnsupportedError("copying the batch to the device, which no step here does, may be a tenth of the time")
    if "convnet" in m.source and "cudnn[" not in m.framework.lower():
        raise UnsupportedError(f"kernels of {m.framework[:40]!r} have no law here")


def _copy_s(m: Measurement) -> float:
    """Longest that copying the images of a batch to the device may have taken."""
    width_bytes = 8.0 if dtype_of(m.precision) == "fp64" else 4.0
    return _global_batch(m) * 3 * (_image_size(m.shape) or math.inf) ** 2 * width_bytes / _COPIED_BYTES_PER_S


def _model_word(m: Measurement, names: Collection[str]) -> str:
    """The MODEL word of a row; never a path or a factory: a table must not run code.

    Raises:
        UnknownNameError: Nothing at hand has this name.
    """
    plain = m.model.removeprefix("timm:")
    if plain in names:
        return plain
    if m.model.startswith("timm:") or m.source == "timm":
        if not re.fullmatch(r"[\w.\-]+", plain):
            raise UnknownNameError(f"there is no network {plain[:60]!r} in timm")
        return f"timm:{plain}"
    found = zoo_name(plain)
    if not found:
        close = near_matches(plain, zoo_names())
        raise UnknownNameError(f"there is no model {plain[:60]!r} in the zoo", hint=close or "--graphs DIR adds others")
    return found


def _global_batch(m: Measurement) -> int:
    if m.batch is None:
        raise InvalidInputError("batch is empty")
    return m.batch * m.count if "batch column is per GPU" in m.notes else m.batch


def _layout(m: Measurement) -> str:
    if m.layout and m.layout not in LAYOUTS:
        raise InvalidInputError(f"layout {m.layout[:40]!r}", hint=f"one of: {', '.join(LAYOUTS)}, or empty")
    return m.layout or "nchw"


def _image_size(shape: str) -> int | None:
    match = re.fullmatch(r"\d+x(\d{1,9})x(\d{1,9})", shape, re.ASCII)
    if match is None:
        return None
    if match.group(1) != match.group(2):
        raise UnsupportedError(f"images of {shape} are not square")
    return int(match.group(1))


def _sequence(shape: str) -> int | None:
    if shape == "seq ?":
        raise InvalidInputError("the table does not say the sequence length")
    match = re.fullmatch(r"(?:seq )?(\d{1,9})", shape, re.ASCII)
    return int(match.group(1)) if match else None


def _optimizer(m: Measurement, task: str, part: str) -> str:
    """Most tables of convnets train by SGD with momentum; those that stop after the backward pass say so."""
    if task != "train" or part != "step" or "no optimizer" in m.notes or "layers=" in m.notes:
        return "none"
    named = _pairs(m.notes).get("optimizer", "")
    return named or ("momentum" if _image_size(m.shape) else "adamw")


def _parallel(m: Measurement, pairs: dict[str, str]) -> Parallel:
    micro = pairs.get("microbatch", "")
    zero = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2}.get(pairs.get("shard", ""), 0)
    return Parallel(zero=zero, micro_batch=_whole(micro))


def _nodes(m: Measurement, pairs: dict[str, str]) -> int:
    per_node = _whole(pairs.get("devices_per_node", "")) or _PER_NODE
    return max(1, m.count // per_node) if m.count % per_node == 0 else 1


def _whole(text: str) -> int | None:
    """A whole number above 0, None for anything else."""
    return int(text) or None if re.fullmatch(r"[0-9]{1,9}", text) else None


def _gbps(framework: str) -> float | None:
    match = re.search(r"\b(\d{1,9}) Gbps", framework, re.ASCII)
    return float(match.group(1)) if match else None


def _pairs(notes: str) -> dict[str, str]:
    """The ``key=value`` pairs of a notes cell."""
    return dict(re.findall(r"(\w+)=([^;\s]+)", notes))


def stated_parameters(m: Measurement) -> tuple[float, float] | None:
    """Parameters that a row states for its network, and how far its rounding may be off; None if it states none."""
    pairs: dict[str, Any] = _pairs(m.notes)
    try:
        if "params_M" in pairs:
            return float(pairs["params_M"]) * 1e6, 0.005e6
        return (float(pairs["n_params"]), 0.5) if "n_params" in pairs else None
    except ValueError:
        return None
