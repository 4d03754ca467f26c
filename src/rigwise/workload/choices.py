"""What a plan may choose without changing the result of the work.

Global batch, sequence, optimizer and method are the job's. Number format, memory layout,
compilation, micro-batch, recompute and how devices share the work are the planner's: each
changes how a step is computed, none what it computes (but for rounding).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.graph.graph import Model
from rigwise.workload.case import RECOMPUTE, Case
from rigwise.workload.job import Job
from rigwise.workload.layouts import Sides, groups, layouts, sides_of
from rigwise.workload.recipes import NAMES, Column, Recipes
from rigwise.workload.resolve import LARGE_MODEL_PARAMETERS, resolve

_QUANTISED = ("fp8", "int8", "int4")


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Family:
    """Recipes that share their operators: same number format, layout and mode."""

    dtype: str
    layout: str
    mode: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.layout} {self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A job put to its model: nothing is left open but what a plan chooses.

    Attributes:
        job: As it was asked.
        model: Its model.
        case: The step, with batch and sizes filled in.
        steps: How many of them one machine does, one run of a sweep after the other.
        families, recomputes: What a plan may choose from.
        sides: Along what devices can divide the step.
        assumed: What was filled in, in words.
    """

    job: Job
    model: Model
    case: Case
    steps: int
    families: tuple[Family, ...]
    recomputes: tuple[str, ...]
    sides: Sides
    assumed: tuple[str, ...]

    @property
    def machines(self) -> int:
        """Equal machines that work at once, each on its share of the runs of a sweep."""
        return min(self.job.runs, self.job.parallel_runs)

    @property
    def samples(self) -> float:
        """Samples that the whole job processes."""
        return float(self.steps) * self.case.batch * self.machines


def settle(job: Job, model: Model) -> Task:
    """Fill in what the job leaves to the model and count its steps.

    Raises:
        InvalidInputError: The amount of work means nothing for this model.
        UnsupportedError: The model lacks the task or a size that the job names.
    """
    dtypes = _dtypes(job, model)
    assumed = []
    if job.batch is None:
        assumed.append(f"batch {model.card.reference_batch}, the reference batch of {model.name}")
    batch = job.batch or model.card.reference_batch
    resolved = resolve(replace(job.case(), batch=batch, dtype=dtypes[0]), model)
    symbols = model.graph(job.task).symbols
    return Task(
        job=job,
        model=model,
        case=resolved.case,
        steps=_steps(job, resolved.case, has_sequence="s" in symbols) * math.ceil(job.runs / job.parallel_runs),
        families=tuple(family for dtype in dtypes for family in _families(dtype, is_image="p" in symbols)),
        recomputes=("none", "selective", "full") if job.task == "train" else ("none",),
        sides=sides_of(model, resolved.case),
        assumed=(*job.assumed, *assumed, *resolved.assumed),
    )


def _families(dtype: str, *, is_image: bool) -> tuple[Family, ...]:
    """Layouts and modes of a number format. A compiler picks the layout itself, so it is asked for once."""
    usual = "nhwc" if is_image else "nchw"
    eager = ("nhwc", "nchw") if is_image else ("nchw",)
    return (
        Family(dtype=dtype, layout=usual, mode="compiled"),
        *(Family(dtype=dtype, layout=layout, mode="eager") for layout in eager),
    )


def _dtypes(job: Job, model: Model) -> tuple[str, ...]:
    """Number formats that leave the result alone.

    Weights that are trained need a 32-bit master copy, which ``amp-*`` keeps. Large language
    models are trained in plain bf16 as well, which has the range of fp32.

    Source: Micikevicius et al., "Mixed Precision Training", 2018.
    """
    if job.task != "train":
        return ("bf16", "fp16", "fp32", *(_QUANTISED if job.allow_quantised else ()))
    large = model.card.causal and model.parameter_count > LARGE_MODEL_PARAMETERS
    return (*(("bf16",) if large else ()), "amp-bf16", "amp-fp16", "fp32")


def _steps(job: Job, case: Case, *, has_sequence: bool) -> int:
    if job.unit == "steps":
        return math.ceil(job.amount)
    if job.unit == "epochs":
        return math.ceil(job.amount * (job.dataset_size or 0) / case.batch)
    if job.unit == "samples":
        return math.ceil(job.amount / case.batch)
    if job.task == "decode":
        return math.ceil(job.amount / case.batch)
    if not has_sequence or case.seq is None:
        raise InvalidInputError(f"{job.model} has no sequence to count tokens of", hint="give samples, steps or epochs")
    return math.ceil(job.amount / (case.batch * case.seq))


def recipes(task: Task, family: Family, count: int, nodes: int = 1) -> Recipes:
    """All recipes of a family on ``count`` devices in ``nodes`` equal nodes: ``layouts`` says what is among them.

    The micro-batch is what each replica gets of the batch, halved as often as that goes, or a
    power of two that divides it. Recipes that differ in recompute alone stand together, the one
    without it first.
    """
    return Recipes(family, _columns(task.sides, count, nodes, task.recomputes))


@lru_cache(maxsize=1024)
def _columns(sides: Sides, count: int, nodes: int, recomputes: tuple[str, ...]) -> Mapping[str, Column]:
    """The same for any task that can be divided so, and any family.

    >>> _columns(Sides(batch=24, is_training=False), 2, 1, ("none",))["micro_batch"].tolist()
    [12, 6, 4, 3, 2, 1]
    """
    ways = [
        (size, way.zero, way.tensor, way.pipeline, way.expert, way.context, way.sequence, way.virtual)
        for group in groups(sides, count, nodes)
        for size in _micro_batches(sides.batch // group.data)
        for way in layouts(sides, group, size)
    ]
    again = [RECOMPUTE.index(recompute) for recompute in recomputes]
    table = np.repeat(np.array(ways, dtype=np.int64).reshape(-1, len(NAMES) - 1), len(again), axis=0)
    return dict(zip(NAMES, (*table.T.copy(), np.tile(np.array(again, dtype=np.int64), len(ways))), strict=True))


def _micro_batches(share: int) -> list[int]:
    powers = [2**k for k in range(share.bit_length()) if share % 2**k == 0]
    return sorted({*powers, *(share // power for power in powers)}, reverse=True)


@lru_cache(maxsize=4096)
def usable_devices(sides: Sides, available: int, nodes: int = 1) -> int:
    """Most devices of each of ``nodes`` equal nodes that can share a step; 0 for none.

    >>> image = Sides(batch=6, is_training=True)
    >>> stack = Sides(batch=6, is_training=True, heads=32, layers=32)
    >>> usable_devices(image, 4), usable_devices(stack, 4), usable_devices(image, 4, nodes=4)
    (3, 4, 0)
    """
    shared = (
        used
        for used in range(available, 0, -1)
        if any(next(layouts(sides, group, 1), None) for group in groups(sides, used * nodes, nodes))
    )
    return next(shared, 0)
