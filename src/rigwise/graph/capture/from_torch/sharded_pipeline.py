"""What a stage of a pipeline sends and receives, by PyTorch's own schedule under a fake process group.

Source: docs of ``torch.distributed.pipelining``, 2.13; Narayanan et al., "Efficient Large-Scale Language Model
Training on GPU Clusters", 2021, section 2.2, for the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rigwise.errors import CaptureError
from rigwise.graph.capture.from_torch.sharded import LISTS, Collective, Listener, check_version, fake_ranks
from rigwise.graph.capture.from_torch.whole import WholeOperators
from rigwise.graph.capture.subject import Subject


def pipeline_transfers(
    subject: Subject, sizes: Mapping[str, int], *, stages: int, micro_batches: int, rank: int = 1
) -> tuple[Collective, ...]:
    """What one stage of a 1F1B pipeline sends and receives in a step; call it inside ``fake_tensors()``.

    The stage runs its share of the largest list of layers; what else they are called with (masks, rotary tables)
    is as in the whole model.

    Args:
        subject: A model with a list of layers that each return what they are given, changed.
        sizes: Of one micro-batch.
        stages: Stages of the pipeline.
        micro_batches: Micro-batches of a step.
        rank: The stage that is run.

    Raises:
        UnsupportedError: This version of PyTorch was not tried.
        CaptureError: No list of layers, or fewer layers than stages.
    """
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B
    from torch.distributed.pipelining._utils import InferenceMode

    check_version()
    subject.module.train()
    stage_module, hidden = _stage(subject, sizes, stages, rank)
    with fake_ranks({"pipeline": stages}, rank) as mesh:
        stage = PipelineStage(
            stage_module, rank, stages, hidden.device, group=mesh.get_group("pipeline"),
            input_args=hidden.clone().requires_grad_(rank > 0), output_args=hidden.clone().requires_grad_(),
            input_grads=(hidden,) if rank else None, output_grads=(hidden,) if rank < stages - 1 else None,
        )  # fmt: skip
        schedule = Schedule1F1B(stage, micro_batches, loss_fn=lambda out, _: out.pow(2).mean())
        stage._inference_mode = InferenceMode.STATIC
        schedule._warmup_p2p = lambda *_: None  # ranks would vote on that mode by looking at a tensor
        whole = hidden.new_empty(hidden.shape[0] * micro_batches, *hidden.shape[1:])
        listener = Listener(mesh)
        with listener, WholeOperators(), listener.module_paths(stage_module):
            schedule.step(*(() if rank else (whole,)), **({"target": whole} if rank == stages - 1 else {}))
        return tuple(listener.found)


class _Stage(torch.nn.Module):
    """Layers one after the other, all with the same further arguments."""

    def __init__(self, layers: Sequence[Any], rest: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.rest, self.options = rest, dict(options)

    def forward(self, hidden: Any) -> Any:
        for layer in self.layers:
            out = layer(hidden, *self.rest, **self.options)
            hidden = out[0] if isinstance(out, tuple) else out
        return hidden


def _stage(subject: Subject, sizes: Mapping[str, int], stages: int, rank: int) -> tuple[_Stage, Any]:
    """The layers of one stage, and what passes between stages."""
    lists = [child for child in subject.module.modules() if isinstance(child, LISTS)]
    layers = list(max(lists, key=lambda found: sum(p.numel() for p in found.parameters()), default=()))
    if len(layers) < stages:
        raise CaptureError(f"{subject.name} has {len(layers)} layers in a list, too few for {stages} stages")
    seen: list[tuple[Any, Any]] = []

    def stop(_layer: Any, args: Any, options: Any) -> None:
        seen.append((args, options))
        raise _SeenError

    handle = layers[0].register_forward_pre_hook(stop, with_kwargs=True)
    arguments = subject.inputs("train", sizes)
    try:
        with WholeOperators():
            subject.module(**arguments) if isinstance(arguments, Mapping) else subject.module(*arguments)
    except _SeenError:
        pass
    finally:
        handle.remove()
    (hidden, *rest), options = seen[0]
    each = len(layers) // stages
    return _Stage(layers[rank * each : (rank + 1) * each], tuple(rest), options), hidden.detach()


class _SeenError(Exception):
    """The first layer was reached."""
