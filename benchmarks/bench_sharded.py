"""Collectives of real PyTorch code against those of the estimate: ``python benchmarks/bench_sharded.py``.

Prints, for Llama-shaped models at their real sizes, what each rank sends in one step of ZeRO 3 and of tensor
parallelism, as PyTorch issues it under a fake process group and as ``estimate/sharding.py`` assumes it.
"""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import numpy as np

from rigwise.estimate.collective import Network
from rigwise.estimate.sharding import data_parallel_s, shard, tensor_parallel_s
from rigwise.graph.capture.from_torch import hf_config
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.sharded import Layout, collectives
from rigwise.graph.capture.from_torch.sharded_tensors import plan_of
from rigwise.graph.load import load_model
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.table import tabulate

SIZES = {"b": 1, "s": 2048}
MODELS = {
    "llama-3.1-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    "llama-2-13b": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 13824,
        "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40,
    },
}  # fmt: skip
_SHARED = {"model.layers.*.self_attn": "shared_input", "model.layers.*.mlp": "shared_input"}


def _ring(size: int) -> Network:
    """A network on which seconds are the bytes that each rank sends."""
    return Network(
        per_node=size, nodes=1, intra_bytes_per_s=1.0, inter_bytes_per_s=1.0,
        intra_latency_s=0.0, tree_latency_s=0.0, inter_latency_s=0.0,
    )  # fmt: skip


def _issued(config: dict, layout: Layout, *, shared: bool = False) -> tuple[float, int]:
    """Bytes that each rank sends, and the number of collectives."""
    with fake_tensors():
        subject = hf_config.subject(config, name="model", where="model")
        plan = {**plan_of(subject), **(_SHARED if shared else {})}
        found = collectives(subject, SIZES, layout, plan)
    return sum(c.sent_bytes for c in found), len(found)


def _assumed(name: str, *, data: int, tensor: int) -> float:
    work = lower_model(load_model(name), Lowering(task="train", dtype="fp32", optimizer="adamw"))
    case = Case(model=name, device="any", task="train", parallel=Parallel(data=data, tensor=tensor, zero=3))
    if tensor > 1:
        return float(tensor_parallel_s(shard(tabulate(work.step_ops, SIZES), case.parallel), case, _ring(tensor)))
    free = np.zeros(1)
    return float(data_parallel_s(work, case, _ring(data), free + 1, (free, free), SimpleNamespace(bucket_bytes=1.0))[0])


def main() -> None:
    logging.disable(logging.CRITICAL)
    print(f"{'model':14} {'layout':34} {'issued':>7} {'GB sent':>9} {'assumed':>9} {'ratio':>6} {'CPU s':>6}")
    for name, config in MODELS.items():
        for layout, shared, words in (
            (Layout(data=8), False, "ZeRO 3 over 8"),
            (Layout(tensor=8), True, "tensor 8, inputs shared"),
            (Layout(tensor=8), False, "tensor 8, the model's own plan"),
        ):
            start = time.process_time()
            sent, count = _issued(config, layout, shared=shared)
            assumed = _assumed(name, data=layout.data, tensor=layout.tensor)
            took = time.process_time() - start
            figures = f"{sent / 1e9:9.3f} {assumed / 1e9:9.3f} {sent / assumed:6.3f} {took:6.1f}"
            print(f"{name:14} {words:34} {count:7} {figures}")


if __name__ == "__main__":
    main()
