"""What a plan may choose without changing the result of the work.

Global batch, sequence, optimizer and method are the job's. Number format, memory layout,
compilation, micro-batch, recompute and ZeRO stage are the planner's: each changes how a step
is computed, none what it computes (but for rounding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from rigwise.errors import InvalidInputError
from rigwise.graph.graph import Model
from rigwise.workload.case import Case
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe
from rigwise.workload.resolve import LARGE_MODEL_PARAMETERS, resolve

#: Stages that differ in what they shard; stage 1 saves less than 2 for the same traffic.
ZERO_STAGES = (0, 2, 3)
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
        assumed: What was filled in, in words.
    """

    job: Job
    model: Model
    case: Case
    steps: int
    families: tuple[Family, ...]
    recomputes: tuple[str, ...]
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
        assumed=(*assumed, *resolved.assumed),
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


@lru_cache(maxsize=1024)
def recipes(family: Family, batch: int, count: int, training: bool, recomputes: tuple[str, ...]) -> tuple[Recipe, ...]:
    """All recipes of a family on ``count`` data-parallel devices.

    The micro-batch is what each of them gets of the batch, halved as often as that goes, or a
    power of two that divides it.

    >>> family = Family(dtype="fp32", layout="nchw", mode="eager")
    >>> [r.micro_batch for r in recipes(family, 24, 2, False, ("none",))]
    [12, 6, 4, 3, 2, 1]
    """
    share = batch // count
    powers = [2**k for k in range(share.bit_length()) if share % 2**k == 0]
    sizes = sorted({*powers, *(share // power for power in powers)}, reverse=True)
    stages = ZERO_STAGES if training and count > 1 else (0,)
    return tuple(
        Recipe(
            dtype=family.dtype,
            layout=family.layout,
            mode=family.mode,
            micro_batch=size,
            recompute=recompute,
            zero=zero,
        )
        for zero in stages
        for size in sizes
        for recompute in recomputes
    )


def usable_devices(batch: int, available: int, nodes: int = 1) -> int:
    """Most devices of each of ``nodes`` equal nodes that a batch divides over; 0 for none.

    >>> usable_devices(64, 8), usable_devices(6, 4), usable_devices(1, 1, nodes=2)
    (8, 3, 0)
    """
    return next((used for used in range(available, 0, -1) if batch % (used * nodes) == 0), 0)
