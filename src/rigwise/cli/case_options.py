"""Flags that describe a case, shared by ``predict`` and ``compare``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rigwise.errors import InvalidInputError
from rigwise.units import parse_count, parse_watts
from rigwise.workload.case import (
    DTYPES,
    LAYOUTS,
    METHODS,
    MODES,
    OPTIMIZERS,
    RECOMPUTE,
    RUNTIMES,
    TASKS,
    UPDATES,
    Case,
    Parallel,
    Software,
)

F = TypeVar("F", bound=Callable[..., Any])


class Count(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A whole number that may be written 4096, 4k or 20M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse, or say which flag is wrong."""
        try:
            number = parse_count(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)
        if number != int(number):
            self.fail(f"{value} is not a whole number", param, ctx)
        return int(number)


class Counts(Count):
    """One whole number, or several with commas between: 1,8,32."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of numbers, each parsed as ``Count`` does."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(parts):
            self.fail(f"{value!r} is not a list of numbers: write 1,8,32", param, ctx)
        return tuple(dict.fromkeys(super(Counts, self).convert(part, param, ctx) for part in parts))


class Watts(click.ParamType):  # type: ignore[type-arg]
    """Power, 300 or 300W."""

    name = "watts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse to watts, or say which flag is wrong."""
        try:
            return parse_watts(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)


def _choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice(values)


_OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("--count", Counts(), 1, "All devices."),
    ("--nodes", Count(), 1, "Computers they stand in."),
    ("--task", _choice(TASKS), "train", "What one step is."),
    ("--batch", Counts(), 1, "Global batch of one step."),
    ("--seq", Counts(), None, "New tokens per sequence."),
    ("--image-size", Count(), None, "Height and width of images."),
    ("--context", Counts(), None, "Tokens in the cache when one more is decoded."),
    ("--dtype", _choice(DTYPES), None, "Number format."),
    ("--layout", _choice(LAYOUTS), "nchw", "Memory layout of images."),
    ("--mode", _choice(MODES), "eager", "Eager, or compiled (fused)."),
    ("--method", _choice(METHODS), "full", "Full training, LoRA or QLoRA."),
    ("--lora-rank", Count(), 16, "Rank of the adapters."),
    ("--optimizer", _choice(OPTIMIZERS), None, "none times forward and backward only."),
    ("--recompute", _choice(RECOMPUTE), "none", "Activation recompute."),
    ("--data", Count(), None, "Data-parallel replicas."),
    ("--tensor", Count(), 1, "Tensor-parallel group."),
    ("--pipeline", Count(), 1, "Pipeline stages."),
    ("--context-parallel", Count(), 1, "Devices that divide each sequence."),
    ("--expert", Count(), 1, "Replicas that share the experts of a mixture."),
    ("--zero", Count(), 0, "ZeRO stage, 0 to 3."),
    ("--micro-batch", Count(), None, "Samples of one forward pass of one replica."),
    ("--update", _choice(UPDATES), "synchronous", "What a replica waits for before its next step."),
    ("--staleness", Count(), 0, "Steps that a stale update may be behind."),
    ("--link", str, None, "Between devices of a node: nvlink, pcie4x16 ..."),
    ("--inter-node-gbps", float, None, "Network of one node, Gbit/s."),
    ("--host", str, None, "CPU that starts the work: an id of rigwise cpus; else the usual one of such devices."),
    ("--threads", Count(), None, "Of each rank on a CPU; otherwise its part of the cores."),
    ("--power-limit", Watts(), None, "Board power cap."),
    ("--runtime", _choice(RUNTIMES), "torch", "What runs the model."),
    ("--torch", str, None, "Version of PyTorch."),
    ("--attention", _choice(("math", "flash")), None, "Unfused or fused attention."),
)


#: Flags that are fields of ``Parallel``.
_PARALLEL = ("data", "tensor", "pipeline", "expert", "zero", "micro_batch", "update", "staleness")


def case_options(function: F) -> F:
    """Add the flags of a case to a command."""
    for flag, kind, default, words in reversed(_OPTIONS):
        function = click.option(flag, type=kind, default=default, help=words, show_default=default is not None)(
            function
        )
    return function


def _single(name: str, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if len(value) != 1:
        listed = ",".join(str(number) for number in value)
        raise InvalidInputError(f"--{name} takes one number here, not {listed}", hint="lists go with --explain")
    return value[0]


def case_from(model: str, device: str, flags: dict[str, Any]) -> Case:
    """The case that a set of flags describes.

    Raises:
        InvalidInputError: A flag that takes one number here was given several.
    """
    flags = {name: _single(name, value) for name, value in flags.items()}
    parallel = Parallel(context=flags["context_parallel"], **{name: flags[name] for name in _PARALLEL})
    plain: tuple[str, ...] = (
        "count",
        "nodes",
        "task",
        "batch",
        "seq",
        "image_size",
        "context",
        "dtype",
        "layout",
        "mode",
        "method",
    )
    plain += ("lora_rank", "optimizer", "recompute", "link", "inter_node_gbps", "host", "threads", "runtime")
    return Case(
        model=model,
        device=device,
        parallel=parallel,
        power_limit_w=flags["power_limit"],
        software=Software(torch=flags["torch"], attention=flags["attention"]),
        **{name: flags[name] for name in plain},
    )
