"""Graph in, graph out: each pass does what it says and keeps the links right."""

import pytest

from rigwise.graph.count import tensor_bytes, work
from rigwise.graph.kinds import kind_of
from rigwise.graph.load import load_model, read_zoo
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.adapter import adapt, adapted_elements, adapter_parameters
from rigwise.graph.passes.attention import expand_attention
from rigwise.graph.passes.fuse import fuse
from rigwise.graph.passes.precision import lower, precision_of, wants
from rigwise.graph.passes.recompute import recompute
from rigwise.graph.passes.rewrite import local, rewrite

WEIGHT = Tensor((8, 8), role=Role.PARAMETER)


def op(name, kind, inputs, outputs=((4, 8),), phase=Phase.FORWARD, **fields):
    tensors = [tuple(t if isinstance(t, Tensor) else Tensor(t) for t in side) for side in (inputs, outputs)]
    return Op(name=name, kind=kind, phase=phase, inputs=tensors[0], outputs=tensors[1], **fields)


def from_op(index, shape=(4, 8), **fields):
    return Tensor(shape, producer=index, **fields)


CHAIN = (
    op("aten.mm", Kind.GEMM, [Tensor((4, 8), role=Role.INPUT), WEIGHT]),
    op("aten.native_layer_norm", Kind.NORM, [from_op(0), Tensor((8,), role=Role.PARAMETER)]),
    op("aten.gelu", Kind.ELEMENTWISE, [from_op(1)]),
    op("aten.mm", Kind.GEMM, [from_op(2), WEIGHT]),
    op("aten.add", Kind.ELEMENTWISE, [from_op(3), from_op(0)]),
)


def moved(ops, sizes=None):
    return sum(op.repeat * (work(op, sizes or {}).read_bytes + work(op, sizes or {}).write_bytes) for op in ops)


def links(ops):
    """Every link must lead to an operator that exists."""
    for operator in ops:
        for tensor in operator.inputs:
            assert tensor.producer is None or 0 <= tensor.producer < len(ops)
    return ops


# rewrite


def test_readers_follow_a_replaced_operator_to_its_last_replacement():
    def twice(index, operator):
        if index != 0:
            return [operator]
        return [operator, op("aten.clone", Kind.COPY, [Tensor((4, 8), producer=local(0))])]

    out = links(rewrite(CHAIN, twice))
    assert [o.name for o in out[:2]] == ["aten.mm", "aten.clone"]
    assert out[1].inputs[0].producer == 0
    assert out[2].inputs[0].producer == 1
    assert [t.producer for t in out[5].inputs] == [4, 1]


def test_readers_of_a_removed_operator_read_what_it_read():
    out = links(rewrite(CHAIN, lambda i, o: [] if i == 2 else [o]))
    assert out[2].inputs[0].producer == 1


# precision


@pytest.mark.parametrize(("dtype", "width"), [("fp32", 4), ("bf16", 2), ("fp16", 2), ("tf32", 4), ("fp64", 8)])
def test_pure_formats_store_everything_alike(dtype, width):
    out = lower(CHAIN, precision_of(dtype))
    assert {tensor_bytes(o.outputs[0], {}) for o in out} == {4 * 8 * width}
    assert out[0].attrs["format"] == dtype


def test_quantised_weights_shrink_and_nothing_else_does():
    for dtype, width in (("int8", 1), ("int4", 0.5 + 2 / 128), ("fp8", 1)):
        out = lower(CHAIN, precision_of(dtype, "bf16"))
        assert tensor_bytes(out[0].inputs[1], {}) == 64 * width
        assert tensor_bytes(out[1].inputs[1], {}) == 8 * 2
        assert tensor_bytes(out[0].outputs[0], {}) == 32 * 2


def test_autocast_multiplies_in_sixteen_bits_and_normalises_in_thirty_two():
    out = links(lower(CHAIN, precision_of("amp-fp16")))
    dtypes = {o.name: o.outputs[0].dtype for o in out if o.name != "aten._to_copy"}
    assert dtypes == {
        "aten.mm": "float16",
        "aten.native_layer_norm": "float32",
        "aten.gelu": "float32",
        "aten.add": "float16",
    }
    casts = [o for o in out if o.name == "aten._to_copy"]
    assert [(c.inputs[0].dtype, c.outputs[0].dtype) for c in casts] == [
        ("float32", "float16"),  # the batch
        ("float32", "float16"),  # the first weight
        ("float16", "float32"),  # for the normalisation
        ("float32", "float16"),  # its result, for the second product
        ("float32", "float16"),  # the second weight
    ]


def test_autocast_keeps_a_residual_stream_of_a_repeated_block_in_sixteen_bits():
    model = load_model("resnet50")
    out = links(lower(model.graph("infer").ops, precision_of("amp-fp16")))
    assert {o.outputs[0].dtype for o in out if o.name.startswith("aten.add")} == {"float16"}


# attention


def test_math_attention_is_two_products_around_a_softmax():
    q, k = Tensor((2, 4, 16, 8)), Tensor((2, 2, 16, 8))
    flash = op("rigwise.attention", Kind.ATTENTION, [q, k, k], [q, (2, 4, 16)], attrs={"causal": True, "dropout": 0.1})
    out = links(expand_attention([flash]))
    assert [o.name for o in out] == [
        "aten.bmm", "aten.mul", "aten.add", "aten._softmax", "aten.native_dropout", "aten.bmm", "aten.clone",
    ]  # fmt: skip
    assert sum(work(o, {}).macs for o in out) == work(flash, {}).macs
    assert out[-1].outputs[0].shape == q.shape


def test_math_attention_backward_needs_four_products_not_five():
    q, k = Tensor((2, 4, 16, 8)), Tensor((2, 4, 16, 8))
    inputs = [q, q, k, k, q, (2, 4, 16)]
    flash = op("rigwise.attention_backward", Kind.ATTENTION, inputs, [q, k, k], phase=Phase.BACKWARD)
    out = links(expand_attention([flash]))
    assert sum(work(o, {}).macs for o in out) * 5 == work(flash, {}).macs * 4


# fusion


def test_fusion_joins_streaming_operators_and_stops_at_products():
    out = links(fuse(CHAIN))
    assert [(o.name, o.attrs.get("members", 1)) for o in out] == [
        ("aten.mm", 1), ("rigwise.fused", 2), ("aten.mm", 1), ("aten.add", 1),
    ]  # fmt: skip
    fused = out[1]
    assert fused.kind is Kind.NORM
    assert moved([fused]) == 4 * (4 * 8 + 8 + 4 * 8)


def test_fusion_never_moves_more_and_multiplies_the_same():
    for name in ("resnet50", "bert-base", "llama-3.1-8b"):
        graph = load_model(name).graph("train")
        before, after = graph.ops, links(fuse(graph.ops))
        assert len(after) < len(before)
        assert moved(after, graph.symbols) < moved(before, graph.symbols)
        macs = [sum(o.repeat * work(o, graph.symbols).macs for o in ops) for ops in (before, after)]
        assert macs[0] == macs[1]


#: A block that is repeated: the normalisation at its head reads the addition at the end of the repetition before.
BLOCK = (
    op("aten.mm", Kind.GEMM, [Tensor((4, 8), role=Role.INPUT), WEIGHT]),
    op("aten.native_layer_norm", Kind.NORM, [from_op(4), Tensor((8,), role=Role.PARAMETER)], repeat=12),
    op("aten.mm", Kind.GEMM, [from_op(1), WEIGHT], repeat=12),
    op("aten.gelu", Kind.ELEMENTWISE, [from_op(2)], repeat=12),
    op("aten.add", Kind.ELEMENTWISE, [from_op(3), from_op(4)], repeat=12),
    op("aten.mm", Kind.GEMM, [from_op(4), WEIGHT]),
)


def test_the_head_of_a_repeated_block_runs_with_the_end_of_the_repetition_before():
    out = links(fuse(BLOCK))
    assert [(o.name, o.repeat, o.attrs.get("members", 1)) for o in out] == [
        ("aten.mm", 1, 1), ("aten.mm", 12, 1), ("rigwise.fused", 12, 3), ("aten.mm", 1, 1),
    ]  # fmt: skip
    product, fused = out[1], out[2]
    assert product.inputs[0].producer == 2  # what was normalised one repetition before
    assert [t.producer for t in fused.inputs if t.role is not Role.PARAMETER] == [1, 2]
    assert [t.shape for t in fused.outputs] == [(4, 8), (4, 8)]  # for the next product, and for the next addition


def test_what_waits_for_something_of_its_own_repetition_stays_where_it_is():
    gate = op("aten.mul", Kind.ELEMENTWISE, [from_op(1), from_op(4)], repeat=12)
    ops = (BLOCK[0], op("aten.mm", Kind.GEMM, [from_op(4), WEIGHT], repeat=12), gate, *BLOCK[2:])
    ops = (*ops[:3], op("aten.mm", Kind.GEMM, [from_op(2), WEIGHT], repeat=12), BLOCK[4], BLOCK[5])
    assert [o.name for o in links(fuse(ops))] == [o.name for o in ops]


@pytest.mark.parametrize(("producer", "inside"), [(1, "sums_pixels"), (0, "")])
def test_a_kernel_that_normalises_and_sums_over_pixels_says_so(producer, inside):
    image, per_channel = (2, 8, 16, 16), (2, 8, 1, 1)
    ops = (
        op("aten.convolution", Kind.CONV, [Tensor(image), Tensor((8, 8, 3, 3))], [image]),
        op("aten.native_batch_norm", Kind.NORM, [from_op(0, image)], [image]),
        op("aten.mean", Kind.REDUCE, [from_op(producer, image)], [per_channel]),
        op("aten.convolution", Kind.CONV, [from_op(2, per_channel), Tensor((8, 8, 1, 1))], [per_channel]),
        op("aten.mul", Kind.ELEMENTWISE, [from_op(1, image), from_op(3, per_channel)], [image]),
    )
    kernels = [o for o in links(fuse(ops)) if o.attrs.get("sums_pixels")]
    assert len(kernels) == bool(inside)


# recompute


@pytest.mark.parametrize("policy", ["selective", "full"])
def test_recompute_saves_less_and_runs_more(policy):
    graph = load_model("llama-3.1-8b").graph("train")
    out = links(recompute(graph.ops, policy))

    def saved(ops):
        tensors = (t for o in ops if o.phase is Phase.FORWARD for t in o.outputs if t.saved for _ in range(o.repeat))
        return sum(tensor_bytes(t, graph.symbols) for t in tensors)

    assert saved(out) < saved(graph.ops)
    again = [o for o in out if o.attrs.get("recomputed")]
    assert again
    assert {o.phase for o in again} == {Phase.BACKWARD}
    multiplied = any(o.kind is Kind.GEMM for o in again)
    assert multiplied == (policy == "full")


def test_without_recompute_nothing_changes():
    ops = load_model("resnet50").graph("train").ops
    assert recompute(ops, "none") == ops


# adapters


def test_lora_drops_weight_gradients_and_adds_thin_products():
    graph, rank = load_model("llama-3.1-8b").graph("train"), 16
    out = links(adapt(graph.ops, rank, quantised=False))
    gradients = [t for o in out for t in o.outputs if t.role is Role.GRADIENT]
    assert gradients
    assert all(rank in t.shape for t in gradients)
    trained = sum(p.elements for p in adapter_parameters(graph.ops, rank))
    hidden, kv, ffn, layers = 4096, 1024, 14336, 32
    per_layer = rank * (2 * (hidden + hidden) + 2 * (hidden + kv) + 3 * (hidden + ffn))
    assert trained == layers * per_layer


def test_qlora_unpacks_every_adapted_weight_forward_and_backward():
    graph = load_model("llama-3.1-8b").graph("train")
    out = links(adapt(graph.ops, 16, quantised=True))
    unpacked = [o for o in out if o.name == "rigwise.dequantise"]
    assert {o.phase for o in unpacked} == {Phase.FORWARD, Phase.BACKWARD}
    elements = sum(o.repeat * o.inputs[0].elements({}) for o in unpacked if o.phase is Phase.FORWARD)
    assert elements == adapted_elements(graph.ops) == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)


def test_autocast_lists_are_those_of_pytorch():
    """Every operator that PyTorch's own tests of CUDA autocast name, as it is dispatched."""
    pytest.importorskip("expecttest")
    lists = pytest.importorskip("torch.testing._internal.autocast_test_lists")
    import torch

    theirs = lists.AutocastTestLists(torch.device("cpu"))
    bf16 = precision_of("amp-bf16")
    wrong = []
    for attribute, wanted in (("torch_fp16", "bfloat16"), ("torch_fp32", "float32"), ("nn_fp32", "float32")):
        for name in {f"aten.{row[0]}" for row in getattr(theirs, attribute)}:
            op = Op(name=name, kind=kind_of(name), phase=Phase.FORWARD, inputs=(), outputs=())
            if op.kind is not Kind.UNKNOWN and wants(op, bf16) != wanted:  # composite ones are not dispatched
                wrong.append(name)
    assert not wrong


def test_gradients_are_summed_in_the_format_they_come_in():
    """Autocast is off in the backward pass: the gradient of a bias is a sum of 16-bit numbers."""
    ops = lower(read_zoo("bert-base").graphs["train"].ops, precision_of("amp-bf16"))
    sums = [op for op in ops if op.name == "aten.sum" and op.phase is Phase.BACKWARD and op.repeat == 12]
    assert sums
    assert {t.dtype for op in sums for t in op.inputs} == {"bfloat16"}
