"""One question to ``predict``: a model, a device and everything that changes the answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real

from rigwise.errors import InvalidInputError

TASKS = ("train", "infer", "prefill", "decode")
DTYPES = ("fp64", "fp32", "tf32", "amp-fp16", "amp-bf16", "fp16", "bf16", "fp8", "int8", "int4")
LAYOUTS = ("nchw", "nhwc")
MODES = ("eager", "compiled")
METHODS = ("full", "lora", "qlora")
OPTIMIZERS = ("none", "sgd", "momentum", "adam", "adamw")
RECOMPUTE = ("none", "selective", "full")
SCHEDULES = ("1f1b", "interleaved")
UPDATES = ("synchronous", "stale", "asynchronous")
RUNTIMES = ("torch", "vllm", "tensorrt-llm", "llama.cpp", "onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How the work of one step is spread over the devices.

    Attributes:
        data: Data-parallel replicas; None: what count / (tensor x pipeline x context) leaves.
        tensor, pipeline, expert, context: Sizes of the other groups.
        sequence: Shard normalisation and dropout along the sequence inside the tensor group.
        zero: ZeRO stage: 1 shards optimizer state, 2 gradients too, 3 parameters too.
        micro_batch: Samples of one forward pass of one replica; None: no accumulation.
        schedule, virtual: Pipeline schedule and virtual stages of the interleaved one.
        update: synchronous; stale, where a replica may be ``staleness`` steps ahead of the
            slowest; or asynchronous, with parameter servers and no barrier.
        staleness: Steps that a stale update allows.
    """

    data: int | None = None
    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    context: int = 1
    sequence: bool = False
    zero: int = 0
    micro_batch: int | None = None
    schedule: str = "1f1b"
    virtual: int = 1
    update: str = "synchronous"
    staleness: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """The framework and its age; None: the newest in the calibration.

    Attributes:
        convolution: ``plain`` for the framework's own kernels, as before cuDNN; None: the maker's library.
        fast_norm: Whether group normalisation stays in 16 bits under autocast, which would run it in 32; None: only
            in networks of timm, as its benchmarks have done since PyTorch 1.13.
    """

    torch: str | None = None
    cuda: str | None = None
    year: int | None = None
    attention: str | None = None
    convolution: str | None = None
    fast_norm: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPipeline:
    """How samples reach the device, when loading should count.

    Only reading is timed, and only at a given rate; ``decode`` and ``workers`` are kept, and the answer says that they
    do not count.
    """

    bytes_per_sample: float
    decode: str = "none"
    read_bytes_per_s: float | None = None
    workers: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, as ``predict --cases`` reads it. Meaning and defaults: docs/reference/json.md.

    None stands for the usual form, which ``resolve`` fills in and names. Several ranks of one computer that run on its
    CPU share it; ``threads`` are those of each.
    """

    model: str
    device: str
    count: int = 1
    nodes: int = 1
    task: str = "train"
    batch: int = 1
    seq: int | None = None
    image_size: int | None = None
    context: int | None = None
    dtype: str | None = None
    layout: str = "nchw"
    mode: str = "eager"
    method: str = "full"
    lora_rank: int = 16
    optimizer: str | None = None
    recompute: str = "none"
    parallel: Parallel = field(default_factory=Parallel)
    link: str | None = None
    inter_node_gbps: float | None = None
    host: str | None = None
    threads: int | None = None
    power_limit_w: float | None = None
    runtime: str = "torch"
    software: Software = field(default_factory=Software)
    input: InputPipeline | None = None


_CHOICES = {"task": TASKS, "dtype": DTYPES, "layout": LAYOUTS, "mode": MODES, "method": METHODS}
_CHOICES |= {"optimizer": OPTIMIZERS, "recompute": RECOMPUTE, "runtime": RUNTIMES}
_MAY_BE_OPEN = ("seq", "image_size", "context", "threads")
_LEAST_ONE = ("count", "nodes", "batch", "lora_rank", *_MAY_BE_OPEN)


def check(case: Case) -> Case:
    """The same case, if its values can mean anything.

    Raises:
        InvalidInputError: A value is not one of the choices, or a size is below 1.
    """
    for name, choices in _CHOICES.items():
        value = getattr(case, name)
        if value is not None and value not in choices:
            raise InvalidInputError(f"{name} is {value!r}", hint=f"choose one of: {', '.join(choices)}")
    for name in _LEAST_ONE:
        value = getattr(case, name)
        is_whole = isinstance(value, Real) and 1 <= float(value) <= 1e9 and float(value).is_integer()
        if not (is_whole or (value is None and name in _MAY_BE_OPEN)):
            raise InvalidInputError(f"{name} is {value!r}", hint=f"{name} must be a whole number from 1 to 1e9")
    if case.count % case.nodes:
        raise InvalidInputError(f"{case.count} devices do not divide over {case.nodes} nodes")
    for name in ("power_limit_w", "inter_node_gbps"):
        value = getattr(case, name)
        if value is not None and not 0 < value < 1e9:
            raise InvalidInputError(f"{name} is {value:g}", hint="give a number above 0 and below 1e9")
    _check_input(case.input)
    if case.software.convolution not in (None, "plain"):
        hint = "leave it out, or give plain for kernels without cuDNN or oneDNN"
        raise InvalidInputError(f"software.convolution is {case.software.convolution!r}", hint=hint)
    _check_parallel(case)
    return case


def _check_input(pipeline: InputPipeline | None) -> None:
    for name in ("bytes_per_sample", "read_bytes_per_s", "workers") if pipeline else ():
        value = getattr(pipeline, name)
        if value is not None and not 0 < value < float("inf"):
            raise InvalidInputError(f"input.{name} is {value:g}", hint="give a number above 0")


def _check_parallel(case: Case) -> None:
    parallel = case.parallel
    for name in ("data", "tensor", "pipeline", "expert", "context", "micro_batch", "virtual"):
        value = getattr(parallel, name)
        if value is not None and value < 1:
            raise InvalidInputError(f"parallel.{name} is {value}", hint="it must be 1 or more")
    if parallel.zero not in (0, 1, 2, 3):
        raise InvalidInputError(f"parallel.zero is {parallel.zero}", hint="ZeRO stages are 0, 1, 2 and 3")
    if parallel.schedule not in SCHEDULES:
        raise InvalidInputError(
            f"parallel.schedule is {parallel.schedule!r}", hint=f"choose one of: {', '.join(SCHEDULES)}"
        )
    _check_update(case)
    group = parallel.tensor * parallel.pipeline * parallel.context
    data = parallel.data if parallel.data is not None else case.count // group
    if data * group != case.count:
        raise InvalidInputError(
            f"data {data} x tensor {parallel.tensor} x pipeline {parallel.pipeline} x context {parallel.context}"
            f" is not count {case.count}"
        )
    if case.batch % data:
        raise InvalidInputError(
            f"batch {case.batch} does not divide over {data} data-parallel replicas",
            hint="batch is the global batch of one step",
        )
    micro = parallel.micro_batch
    if micro is not None and (case.batch // data) % micro:
        raise InvalidInputError(f"micro-batch {micro} does not divide the {case.batch // data} samples of a replica")


def _check_update(case: Case) -> None:
    update, staleness = case.parallel.update, case.parallel.staleness
    if update not in UPDATES:
        raise InvalidInputError(f"parallel.update is {update!r}", hint=f"choose one of: {', '.join(UPDATES)}")
    if update == "synchronous" and staleness == 0:
        return
    if update != "stale" and staleness != 0:
        raise InvalidInputError(f"staleness {staleness} with {update} updates", hint="staleness belongs to stale ones")
    if update == "stale" and staleness < 1:
        raise InvalidInputError("stale updates need a staleness of 1 or more", hint="for example parallel.staleness 2")
    if case.task != "train" or case.parallel.zero:
        raise InvalidInputError(f"{update} updates belong to training without ZeRO")


def with_data_parallel(case: Case) -> Case:
    """The case with ``parallel.data`` and ``parallel.micro_batch`` filled in."""
    parallel = case.parallel
    data = parallel.data or case.count // (parallel.tensor * parallel.pipeline * parallel.context)
    micro = parallel.micro_batch or case.batch // data
    return replace(case, parallel=replace(parallel, data=data, micro_batch=micro))
