"""Collectives that PyTorch issues for sharded models against those that the estimate assumes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rigwise.errors import CaptureError, InvalidInputError, UnsupportedError
from rigwise.estimate.collective import Network
from rigwise.estimate.data_parallel import Passes, data_parallel_s, messages
from rigwise.estimate.sharding import blocks_s, shard, tensor_parallel_s
from rigwise.estimate.step import line_of
from rigwise.graph.capture.from_torch import hf_config, sharded
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.from_torch.sharded import Layout, collectives, totals
from rigwise.graph.capture.from_torch.sharded_pipeline import pipeline_transfers
from rigwise.graph.capture.from_torch.sharded_tensors import plan_of
from rigwise.graph.capture.run import capture_sharded
from rigwise.graph.capture.subject import Subject
from rigwise.graph.graph import Card
from rigwise.graph.op import Kind, Phase
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.table import tabulate

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.skipif(
        torch.__version__.rpartition(".")[0] not in sharded.TRIED_VERSIONS, reason="another version of PyTorch"
    ),
    pytest.mark.filterwarnings("ignore:FSDP2-wrapped module"),
]

LAYERS, WIDTH, VOCABULARY, BATCH, TOKENS = 4, 96, 1000, 2, 16
LLAMA = {
    "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 160,
    "num_hidden_layers": LAYERS, "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
SIZES = {"b": BATCH, "s": TOKENS}
HIDDEN_BYTES = BATCH * TOKENS * WIDTH * 4
SHARED = {"model.layers.*.self_attn": "shared_input", "model.layers.*.mlp": "shared_input"}
NORMS = dict.fromkeys(
    ("model.layers.*.input_layernorm", "model.layers.*.post_attention_layernorm", "model.norm"), "sequence_parallel"
)


def llama(**more):
    """A small Llama that is told its positions: with a divided sequence it could not count them."""
    subject = hf_config.subject(LLAMA | more, name="llama", where="config.json")

    def inputs(task, sizes):
        positions = torch.zeros(sizes["b"], sizes["s"], dtype=torch.long)
        return subject.inputs(task, sizes) | {"position_ids": positions}

    return replace(subject, inputs=inputs)


def mlp(widths=(64, 128, 256, 32)):
    """A plain perceptron."""
    layers = [torch.nn.Linear(m, n) for m, n in pairwise(widths)]

    def inputs(_task, sizes):
        return (torch.empty(sizes["b"], widths[0]),)

    symbols = {"train": {"b": 4}}
    module = torch.nn.Sequential(*layers)
    return Subject(name="mlp", module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=Card(title="mlp"))


def issued(layout, plan=None, make=llama, **more):
    with fake_tensors():
        subject = make(**more)
        full = {**plan_of(subject), **plan} if plan is not None else None
        return collectives(subject, SIZES, layout, full)


def ring(size):
    """A network on which a time in seconds is the bytes that each rank sends."""
    return Network(
        per_node=size, nodes=1, intra_bytes_per_s=1.0, inter_bytes_per_s=1.0,
        intra_latency_s=0.0, tree_latency_s=0.0, inter_latency_s=0.0,
    )  # fmt: skip


@cache
def work_of(make=llama, dtype="fp32", **more):
    with fake_tensors():
        model = capture(make(**more))
    return lower_model(model, Lowering(task="train", dtype=dtype, optimizer="adamw"))


def assumed_for_weights(work, data, tensor=1):
    """Bytes that each rank sends for ZeRO 3, as the estimate counts them."""
    case = Case(model="m", device="d", task="train", parallel=Parallel(data=data, tensor=tensor, zero=3))
    constants = SimpleNamespace(bucket_bytes=1.0, overlap_slowdown=1.0)
    line = line_of(tabulate(work.step_ops, SIZES), work)
    idle = Passes(forward_s=np.zeros(1), backward_s=np.zeros(1), micro_steps=np.ones(1))
    return float(data_parallel_s(case, messages(work, case), line, ring(data), idle, constants)[0])


def assumed_for_tensors(work, tensor, *, ends=False, sequence=False):
    """Bytes that each rank sends for tensor parallelism, as the estimate counts them."""
    case = Case(model="m", device="d", task="train", parallel=Parallel(tensor=tensor, sequence=sequence))
    table = shard(tabulate(work.step_ops, SIZES), case.parallel)
    return float((tensor_parallel_s if ends else blocks_s)(table, case, ring(tensor)))


def sent(found, *, inside=""):
    return sum(c.sent_bytes for c in found if c.module.startswith(inside))


@cache
def bytes_outside_layers(make=llama, **more):
    with fake_tensors():
        subject = make(**more)
        return 4 * sum(p.numel() for name, p in subject.module.named_parameters() if ".layers." not in name)


def test_weights_are_gathered_twice_and_gradients_scattered_once_but_for_the_outermost_unit():
    """The unit outside the layers stays gathered from its forward pass to its backward pass."""
    found = issued(Layout(data=8))
    assert sent(found) == pytest.approx(assumed_for_weights(work_of(), 8))
    counts = {(kind, phase): count for (_, kind, phase), (count, _) in totals(found).items()}
    assert counts == {
        ("all_gather", "forward"): LAYERS + 1,
        ("all_gather", "backward"): LAYERS,
        ("reduce_scatter", "backward"): LAYERS + 1,
    }


def test_a_perceptron_of_units_alone_agrees_with_the_estimate():
    found = issued(Layout(data=4), make=mlp)
    assert sent(found) == pytest.approx(assumed_for_weights(work_of(mlp), 4))


def test_gathers_are_in_the_autocast_format_and_scatters_in_that_of_the_reduction():
    work = work_of(dtype="amp-bf16")
    in_bf16 = issued(Layout(data=8, weight_dtype="bfloat16"))
    assert sent(in_bf16) == pytest.approx(assumed_for_weights(work, 8))
    in_fp32 = issued(Layout(data=8, weight_dtype="bfloat16", gradient_dtype="float32"))
    scattered = [sum(c.message_bytes for c in found if c.kind == "reduce_scatter") for found in (in_bf16, in_fp32)]
    assert scattered[1] == 2 * scattered[0]
    assert {c.dtype for c in in_fp32 if c.kind == "all_gather"} == {"bfloat16"}


def test_tensor_parallel_layers_reduce_twice_in_each_pass():
    found = issued(Layout(tensor=2), SHARED)
    assert sent(found, inside="model.layers") == pytest.approx(assumed_for_tensors(work_of(), 2))
    outside = [c for c in found if not c.module.startswith("model.layers")]
    assert sorted((c.kind, c.phase) for c in outside) == [  # the logits, the head's input, the embedding
        ("all_gather", Phase.FORWARD), ("all_reduce", Phase.BACKWARD), ("all_reduce", Phase.FORWARD)
    ]  # fmt: skip
    work, loss = work_of(), 3 * 4 * BATCH * TOKENS  # a loss over divided logits reduces three numbers for each token
    ends = assumed_for_tensors(work, 2, ends=True) - assumed_for_tensors(work, 2)
    assert ends - loss == pytest.approx(sent(c for c in outside if c.kind == "all_reduce"))


def test_a_plan_without_shared_inputs_reduces_once_for_each_matrix_in_the_backward_pass():
    """Query, key, value, gate and up each reduce the gradient of their input: 5 in place of 2."""
    found = issued(Layout(tensor=2), {})
    inside = [c for c in found if c.module.startswith("model.layers")]
    assert sum(c.phase is Phase.FORWARD for c in inside) == 2 * LAYERS
    assert sum(c.phase is Phase.BACKWARD for c in inside) == 5 * LAYERS
    assert {c.message_bytes for c in inside} == {HIDDEN_BYTES}


def test_norms_of_heads_are_whole_on_every_rank_and_reduce_their_gradients():
    head = 16
    found = issued(Layout(tensor=2), {}, model_type="qwen3", head_dim=head)
    small = [c for c in found if c.message_bytes == head * 4]
    assert len(small) == 2 * LAYERS  # of queries and keys
    assert {(c.kind, c.phase) for c in small} == {("all_reduce", Phase.BACKWARD)}


def test_a_divided_sequence_gathers_and_scatters_as_many_bytes_as_it_would_reduce():
    found = issued(Layout(tensor=2, sequence=True), SHARED | NORMS)
    inside = [c for c in found if c.message_bytes == HIDDEN_BYTES]
    assert {c.kind for c in inside} == {"all_gather", "reduce_scatter"}
    ends = 2 * HIDDEN_BYTES  # forward and backward at the embedding and at the head
    assert sent(inside) == pytest.approx(assumed_for_tensors(work_of(), 2, sequence=True) + ends)


def test_the_reduced_width_is_that_of_the_model_not_of_its_heads():
    wide = {"head_dim": 32}
    found = issued(Layout(tensor=2), SHARED, **wide)
    assert sent(found, inside="model.layers") == pytest.approx(assumed_for_tensors(work_of(**wide), 2))


def test_weights_divided_over_both_axes_leave_only_the_norms_whole():
    found = issued(Layout(data=4, tensor=2), SHARED)
    weights = [c for c in found if c.group == "data"]
    norms = (2 * LAYERS + 1) * WIDTH * 4
    root = bytes_outside_layers()
    root_of_rank = (root - WIDTH * 4) / 2 + WIDTH * 4
    halved = assumed_for_weights(work_of(), 4, tensor=2)
    root_whole = root / 2  # the estimate halves every weight, the norm of the root too
    assert sent(weights) == pytest.approx(halved + 3 * norms / 2 * 3 / 4 - (root_of_rank - root_whole) * 3 / 4)
    assert {c.group_size for c in weights} == {4}
    assert {c.group_size for c in found if c.group == "tensor"} == {2}


def test_a_layer_is_gathered_before_it_runs_and_its_gradient_leaves_after():
    found = issued(Layout(data=8))
    gathers = [c for c in found if c.kind == "all_gather" and c.phase is Phase.FORWARD]
    assert [c.module for c in gathers] == ["", *(f"model.layers.{i}" for i in range(LAYERS))]
    assert [c.position for c in found] == sorted(c.position for c in found)
    scatters = [c for c in found if c.kind == "reduce_scatter"]
    first_of_backward = min(c.position for c in found if c.phase is Phase.BACKWARD)
    assert all(c.position > first_of_backward for c in scatters)


@pytest.mark.parametrize(("rank", "kinds"), [(0, 2), (1, 4), (3, 2)])
def test_a_pipeline_stage_sends_each_micro_batch_on_and_its_gradient_back(rank, kinds):
    with fake_tensors():
        found = pipeline_transfers(llama(), SIZES, stages=4, micro_batches=6, rank=rank)
    sums = totals(found)
    assert len(sums) == kinds
    assert set(sums.values()) == {(6, 6.0 * HIDDEN_BYTES)}
    first_sent = next(c for c in found if c.kind == "send")
    assert first_sent.phase is (Phase.BACKWARD if rank == 3 else Phase.FORWARD)


def test_what_cannot_be_sharded_is_said_in_one_line(monkeypatch):
    with fake_tensors():
        with pytest.raises(CaptureError, match="brings no plan for tensor parallelism"):
            collectives(mlp(), SIZES, Layout(tensor=2))
        with pytest.raises(CaptureError, match="'diagonal' is no style"):
            collectives(mlp(), SIZES, Layout(tensor=2), {"0": "diagonal"})
        with pytest.raises(CaptureError, match="no module is named"):
            collectives(mlp(), SIZES, Layout(tensor=2), {"nowhere": "colwise"})
        with pytest.raises(CaptureError, match="has 3 layers in a list, too few for 5 stages"):
            pipeline_transfers(mlp(), SIZES, stages=5, micro_batches=2)
        with pytest.raises(InvalidInputError, match="data is 0; it must be 1 or more"):
            Layout(data=0)
        with pytest.raises(InvalidInputError, match="data x tensor is 2,000,000,000"):
            Layout(data=10**9, tensor=2)
        with pytest.raises(InvalidInputError, match="'int3' is no dtype to send"):
            Layout(gradient_dtype="int3")
        monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
        with pytest.raises(UnsupportedError, match=r"not with 2\.7\.1"):
            collectives(mlp(), SIZES, Layout(data=2))


def test_a_child_process_returns_the_collectives_as_a_graph():
    model = capture_sharded(LLAMA, "llama.json", layout={"data": 4}, sizes=SIZES)
    ops = model.graphs["train"].ops
    assert {op.kind for op in ops} == {Kind.COLLECTIVE}
    assert Counter(op.name for op in ops) == {
        "collective.all_gather": 2 * LAYERS + 1, "collective.reduce_scatter": LAYERS + 1
    }  # fmt: skip
    assert {op.attrs["group_size"] for op in ops} == {4}
    gathered = sum(4 * op.outputs[0].elements({}) for op in ops if op.phase is Phase.FORWARD)
    assert gathered == 4 * work_of().trained_elements


def test_the_fake_group_is_gone_afterwards():
    issued(Layout(data=2), make=mlp)
    assert not torch.distributed.is_initialized()
