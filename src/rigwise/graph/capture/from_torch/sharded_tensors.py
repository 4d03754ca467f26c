"""Tensor parallelism by a plan: which module is split how.

A plan names a style for each module path, as transformers models bring one: ``colwise`` and ``rowwise`` split a
matrix by its columns or rows, ``sequence_parallel`` divides what a norm reads over the sequence, and ``shared_input``,
which no model brings, has the column-wise parts of a module share one input, as Megatron's fused
query-key-value matrix does.

Source: Shoeybi et al., "Megatron-LM", 2019, section 3; docs of ``torch.distributed.tensor.parallel``, 2.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.errors import CaptureError
from rigwise.graph.capture.subject import Subject


def plan_of(subject: Subject) -> Mapping[str, str]:
    """The plan that a transformers model brings: ``model.layers.*.self_attn.q_proj: colwise``.

    Raises:
        CaptureError: It brings none.
    """
    plan = getattr(subject.module, "tp_plan", None) or getattr(subject.module, "_tp_plan", None)
    if not plan:
        raise CaptureError(
            f"{subject.name} brings no plan for tensor parallelism", hint="give one: module path to colwise or rowwise"
        )
    return dict(plan)


def shard_tensors(subject: Subject, mesh: Any, plan: Mapping[str, str], *, sequence: bool) -> None:
    """Make every module that the plan names one rank's part of it.

    Raises:
        CaptureError: The plan names no module of the subject, or a style that is not known.
    """
    from torch.distributed.tensor.parallel import parallelize_module

    styles = _styles(sequence=sequence)
    unknown = sorted(set(plan.values()) - set(styles))
    if unknown:
        raise CaptureError(f"{subject.name}: {unknown[0]!r} is no style of tensor parallelism known here")
    paths = [path for path, _ in subject.module.named_modules()]
    named = {path: style for pattern, style in plan.items() for path in paths if _matches(pattern, path)}
    if not named:
        raise CaptureError(f"{subject.name}: no module is named in its plan for tensor parallelism")
    shared = tuple(f"{path}." for path, style in named.items() if style == "shared_input")
    for path, style in named.items():
        if style == "colwise" and path.startswith(shared):
            named[path] = "colwise_of_shared"
    parallelize_module(subject.module, mesh, {path: styles[style]() for path, style in named.items()})


def _styles(*, sequence: bool) -> Mapping[str, Any]:
    """What a word of a plan means, with the sequence divided between operators or not."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel

    between = Shard(1) if sequence else Replicate()
    return {
        "colwise": lambda: ColwiseParallel(input_layouts=between),
        "colwise_of_shared": ColwiseParallel,
        "colwise_gather_output": lambda: ColwiseParallel(input_layouts=between, output_layouts=Replicate()),
        "rowwise": lambda: RowwiseParallel(output_layouts=between),
        "embedding_rowwise": lambda: RowwiseParallel(input_layouts=Replicate(), output_layouts=between),
        "sequence_parallel": SequenceParallel,
        "replicated_with_grad_allreduce": _whole_weights,
        "shared_input": lambda: _shared_input(between),
    }


def _whole_weights() -> Any:
    """The style of a module that every rank has whole, and runs on its own heads: its gradients are summed."""
    from torch.distributed._functional_collectives import all_reduce
    from torch.distributed.tensor.parallel import ParallelStyle

    class WholeWeights(ParallelStyle):
        def _apply(self, module: Any, mesh: Any) -> Any:
            for weight in module.parameters():
                weight.register_hook(lambda gradient: all_reduce(gradient, "sum", mesh))
            return module

    return WholeWeights()


def _shared_input(layout: Any) -> Any:
    """The style of a module whose column-wise parts share one input, and so one reduction of its gradient."""
    from torch.distributed.tensor import DTensor, Replicate
    from torch.distributed.tensor.parallel import ParallelStyle

    class SharedInput(ParallelStyle):
        def _apply(self, module: Any, mesh: Any) -> Any:
            def share(_module: Any, args: Any, options: Any) -> Any:
                name = next(iter(options), "")
                x = args[0] if args else options[name]
                spread = x if isinstance(x, DTensor) else DTensor.from_local(x, mesh, (layout,))
                whole = spread.redistribute(placements=(Replicate(),))
                return ((whole, *args[1:]), options) if args else (args, {**options, name: whole})

            module.register_forward_pre_hook(share, with_kwargs=True)
            return module

    return SharedInput()


def _matches(pattern: str, path: str) -> bool:
    """Whether a path is one of a pattern, in which ``*`` stands for one part."""
    wanted, parts = pattern.split("."), path.split(".")
    return len(wanted) == len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=True))
