"""Peak memory of real PyTorch steps against the estimate: ``python benchmarks/bench_memory.py [NAME ...]``.

Each network runs two whole steps on fake tensors, which have storages but no data: forward, backward, the
optimizer, and all of it again with the optimizer's state in place. What stands is the sum of the storages
that are referenced; their largest sum is set beside the estimate of what is allocated, without the driver's
context, workspaces and the caching allocator, which only a device has.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # noqa: TID253  what is measured
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.memory import peak_memory, working_sets
from rigwise.graph.capture.from_torch import hf_config, timm_model
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.loss import tensors_of
from rigwise.graph.capture.from_torch.whole import WholeOperators
from rigwise.graph.capture.subject import Subject
from rigwise.graph.graph import Model
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Lowering, lower_model

_BERT = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "architectures": ["BertForMaskedLM"],
}  # fmt: skip
_GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "architectures": ["GPT2LMHeadModel"],
}
_LLAMA = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
    "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {"bert": _BERT, "gpt2": _GPT2, "tinyllama": _LLAMA}
NETWORKS = (
    "resnet18", "resnet50", "vgg16", "densenet121", "mobilenetv3_large_100", "efficientnet_b0", "regnety_016",
    "convnext_tiny", "vit_small_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224",
    "mixer_s32_224", "coat_lite_mini", "resnest26d", "inception_v3", "bert", "gpt2", "tinyllama",
)  # fmt: skip


AUTOCAST = frozenset(NETWORKS[:7]) | {"inception_v3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One step to measure.

    Attributes:
        task: train or infer.
        batch: Samples.
        optimizer: As in ``Case``.
        recompute: none, or full: transformers checkpoints each layer.
        autocast: 16-bit autocast as a CPU has it: only for networks of convolutions, batch normalisation and linear
            layers, for a GPU runs other normalisation and softmax in float32.
    """

    task: str
    batch: int
    optimizer: str = "none"
    autocast: bool = False
    recompute: str = "none"


RUNS = (
    Run(task="infer", batch=8),
    Run(task="train", batch=8, optimizer="momentum"),
    Run(task="train", batch=32, optimizer="adamw"),
    Run(task="train", batch=16, optimizer="momentum", autocast=True),
    Run(task="infer", batch=16, autocast=True),
    Run(task="train", batch=16, optimizer="momentum", recompute="full"),
)


class Storages(TorchDispatchMode):
    """Adds up the bytes of all storages that operators made and somebody still holds."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, int] = {}
        self.now_bytes = 0
        self.peak_bytes = 0

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor, once."""
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = size
        self.now_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now_bytes -= self._known.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_of(result):
            self.add(tensor)
        return result


def _optimizer(name: str, parameters: Any) -> Any:
    if name == "none":
        return None
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9 if name == "momentum" else 0.0, foreach=True)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](parameters, lr=0.1, foreach=True)


def measured_bytes(subject: Subject, run: Run, sizes: dict[str, int]) -> int:
    """The most that stands in two steps of a subject; call it inside ``fake_tensors()``."""
    module, training = subject.module, run.task == "train"
    module.train(training)
    if hasattr(module, "activation_checkpointing_enable"):
        module.activation_checkpointing_enable({"use_reentrant": False})
        if run.recompute == "none":
            module.activation_checkpointing_disable()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = _optimizer(run.optimizer, parameters) if training else None
    storages = Storages()
    for tensor in (*module.parameters(), *module.buffers()):
        storages.add(tensor)
    for _ in range(2):
        with storages, WholeOperators(), torch.set_grad_enabled(training):
            arguments = subject.inputs(run.task, sizes)
            for leaf in tensors_of(arguments):
                storages.add(leaf)
            cast = torch.autocast("cpu", torch.bfloat16) if run.autocast else contextlib.nullcontext()
            with cast:
                out = module(**arguments) if isinstance(arguments, dict) else module(*arguments)
                loss = subject.loss(out, arguments) if training else None
            del out, arguments
            if loss is not None:
                loss.backward()
                del loss
            if optimizer:
                optimizer.step()
        for parameter in parameters:
            parameter.grad = None
    return storages.peak_bytes


def allocated_bytes(model: Model, run: Run, sizes: dict[str, int]) -> float:
    """The estimate of the same."""
    dtype = "amp-bf16" if run.autocast else "fp32"
    work = lower_model(model, Lowering(task=run.task, dtype=dtype, optimizer=run.optimizer, recompute=run.recompute))
    case = Case(
        model=model.name, device="", task=run.task, batch=run.batch, dtype=dtype, optimizer=run.optimizer,
        recompute=run.recompute, parallel=Parallel(data=1, micro_batch=run.batch),
    )  # fmt: skip
    (held,) = working_sets(work.step_ops, sizes, case)
    return float(peak_memory(work, held, case, np.ones(1), load_calibration().memory_terms).allocated_bytes[0])


def subject_of(name: str) -> Subject:
    """The subject of a network of timm, or of one of the configurations above."""
    if name in CONFIGS:
        return hf_config.subject(CONFIGS[name], name=name, where=name)
    return timm_model.subject(name)


def errors(names: tuple[str, ...]) -> Iterator[tuple[str, Run, float, float]]:
    """Network, run, estimated and measured bytes."""
    for name in names:
        with fake_tensors():
            subject = subject_of(name)
            model = capture(subject)
            for run in RUNS:
                if (run.autocast and name not in AUTOCAST) or (run.recompute == "full" and name not in CONFIGS):
                    continue
                sizes = {**subject.symbols[run.task], "b": run.batch}
                yield name, run, allocated_bytes(model, run, sizes), measured_bytes(subject, run, sizes)


def main() -> None:
    logging.disable(logging.CRITICAL)
    found = []
    print(f"{'network':32} {'run':28} {'estimate':>9} {'measured':>9} {'error':>7}")
    for name, run, estimate, measured in errors(tuple(sys.argv[1:]) or NETWORKS):
        error = estimate / measured - 1
        found.append(abs(error))
        extra = (" amp" if run.autocast else "") + (" recompute" if run.recompute != "none" else "")
        words = f"{run.task} b{run.batch} {run.optimizer}{extra}"
        print(f"{name:32} {words:28} {estimate / 2**20:9.1f} {measured / 2**20:9.1f} {error:+7.1%}", flush=True)
    within = sum(e <= 0.08 for e in found)
    print(
        f"{len(found)} runs: median error {statistics.median(found):.1%}, largest {max(found):.1%}; {within} within 8 %"
    )


if __name__ == "__main__":
    main()
