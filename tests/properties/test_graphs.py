"""What must hold for every graph that is written, read, passed and counted.

``RIGWISE_EXAMPLES=10000`` runs as many as a release does; the suite runs fewer.
"""

import math
import os
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.graph.capture.fold import fold
from rigwise.graph.count import work
from rigwise.graph.dim import parse_size
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.adapter import adapt
from rigwise.graph.passes.attention import expand_attention
from rigwise.graph.passes.backward import with_backward
from rigwise.graph.passes.fuse import fuse
from rigwise.graph.passes.precision import lower, precision_of
from rigwise.graph.passes.recompute import recompute
from rigwise.graph.rwg import from_bytes, to_bytes

EXAMPLES = int(os.environ.get("RIGWISE_EXAMPLES", "150"))
DTYPES = ["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "amp-fp16", "amp-bf16"]

SIZES = {"b": 8, "s": 128, "p": 64}
ROWS = (*map(parse_size, ("b", "s", "b*s", "2*b+1", "(p+1)//2", "b*s+s")), 1, 7, 64)
SIDES = (*map(parse_size, ("p", "(p+1)//2", "p//4")), 14, 56)
UNARY = ("relu", "gelu", "silu", "tanh", "exp", "rsqrt", "pow", "neg", "clone", "_to_copy", "cumsum", "mystery")
GROWTHS = ["linear"] * 3 + ["unary"] * 2 + ["binary", "norm", "softmax", "attention", "embedding", "reduce", "joined"]
GROWTHS += ["convolution", "batch_norm", "pool"]


class Grower:
    """A forward graph that grows by one operator at a time; every operand is a tensor that is there."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.ops: list[Op] = []
        self.matrices = [Tensor((self.pick(ROWS), self.width()), role=Role.INPUT)]
        self.images = [Tensor((self.pick(ROWS[:1]), 3, side := self.pick(SIDES), side), role=Role.INPUT)]

    def pick(self, options):
        return self.random.choice(options)

    def width(self):
        return self.pick((1, 3, 16, 48, 1000))

    def grow(self) -> None:
        """Add one operator."""
        self.pick([getattr(self, name) for name in GROWTHS])()

    def add(self, name, inputs, shapes, *, images=False, **attrs):
        index = len(self.ops)
        outputs = tuple(Tensor(shape, saved=self.random.random() < 0.1, producer=None) for shape in shapes)
        self.ops.append(
            Op(
                name=name,
                kind=kind_of(name),
                phase=Phase.FORWARD,
                inputs=tuple(inputs),
                outputs=outputs,
                attrs=attrs,
                module=f"blocks.{self.random.randrange(3)}.{name[-4:]}",
            )
        )
        (self.images if images else self.matrices).append(Tensor(shapes[0], producer=index))

    def weight(self, *shape):
        return Tensor(shape, role=Role.PARAMETER)

    def linear(self):
        x, n = self.pick(self.matrices), self.width()
        bias = [self.weight(n)] if self.random.random() < 0.5 else []
        self.add("aten.addmm" if bias else "aten.mm", [x, self.weight(x.shape[1], n), *bias], [(x.shape[0], n)])

    def unary(self):
        x = self.pick(self.matrices)
        name = self.pick(UNARY)
        self.add("mine.mystery" if name == "mystery" else f"aten.{name}", [x], [x.shape])

    def binary(self):
        x = self.pick(self.matrices)
        like = [t for t in self.matrices if t.shape == x.shape] + [self.weight(x.shape[1])]
        self.add(self.pick(("aten.add", "aten.mul", "aten.sub", "aten.div")), [x, self.pick(like)], [x.shape])

    def norm(self):
        x = self.pick(self.matrices)
        weights = [self.weight(x.shape[1])] * self.pick((0, 1, 2))
        self.add("aten.native_layer_norm", [x, *weights], [x.shape, (x.shape[0], 1), (x.shape[0], 1)])

    def softmax(self):
        x = self.pick(self.matrices)
        self.add("aten._softmax", [x], [x.shape], dim=1)

    def attention(self):
        q = Tensor((parse_size("b"), 4, parse_size("s"), 16), producer=self.pick(self.matrices).producer)
        shapes = [q.shape, q.shape[:3]]
        causal = self.random.random() < 0.5
        self.add("rigwise.attention", [q, q, q], shapes, causal=causal, dropout=0.0, window=self.pick((0, 32)))
        self.matrices[-1] = Tensor((parse_size("b*s"), 64), producer=len(self.ops) - 1)

    def embedding(self):
        n = self.width()
        ids = Tensor((parse_size("b*s"),), "int64", Role.INPUT)
        self.add("aten.embedding", [self.weight(5000, n), ids], [(parse_size("b*s"), n)])

    def reduce(self):
        x = self.pick(self.matrices)
        self.add(self.pick(("aten.mean", "aten.sum", "aten.amax")), [x], [(x.shape[0], 1)])

    def joined(self):
        x = self.pick(self.matrices)
        self.add("aten.cat", [x, x], [(x.shape[0], 2 * x.shape[1])])

    def convolution(self):
        x, n = self.pick(self.images), self.pick((4, 16))
        side = self.pick(SIDES)
        attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "transposed": False}
        self.add(
            "aten.convolution",
            [x, self.weight(n, x.shape[1], 3, 3)],
            [(x.shape[0], n, side, side)],
            images=True,
            **attrs,
        )

    def batch_norm(self):
        x = self.pick(self.images)
        own = [self.weight(x.shape[1])] * 2 + [Tensor((x.shape[1],), role=Role.BUFFER)] * 2
        self.add("aten.native_batch_norm", [x, *own], [x.shape, (0,), (0,)], images=True)

    def pool(self):
        x = self.pick(self.images)
        small = (*x.shape[:2], 7, 7)
        window = {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil_mode": False}
        self.add("aten.max_pool2d_with_indices", [x], [small, small], images=True, **window)

    def folded(self) -> tuple[Op, ...]:
        """The operators, one run of them a block of equal layers whose first reads what its last makes."""
        ops = list(self.ops)
        if len(ops) > 3 and self.random.random() < 0.7:
            low = self.random.randrange(len(ops) - 2)
            high = self.random.randrange(low + 2, len(ops))
            repeat = self.pick((2, 12))
            for index in range(low, high):
                inputs = tuple(self._carried(t, ops, low, high) for t in ops[index].inputs)
                ops[index] = replace(ops[index], inputs=inputs, repeat=repeat)
        return tuple(ops)

    def _carried(self, tensor, ops, low, high):
        """Read what the previous layer made, if it made something of this shape."""
        if tensor.producer is None or tensor.producer >= low:
            return tensor
        alike = [i for i in range(low, high) if ops[i].outputs[0].shape == tensor.shape]
        return Tensor(tensor.shape, tensor.dtype, tensor.role, alike[-1]) if alike else tensor


def random_model(seed: int, operators: int) -> Model:
    """A model with one inference graph."""
    grower = Grower(Random(seed))
    for _ in range(operators):
        grower.grow()
    parameters = tuple(Parameter(name=f"w{i}", shape=(3, i + 1)) for i in range(grower.random.randrange(4)))
    graph = Graph(ops=grower.folded(), symbols=SIZES)
    return Model(name=f"random-{seed}", card=Card(title="Random"), parameters=parameters, graphs={"infer": graph})


def cost(ops, sizes=SIZES):
    """FLOPs and bytes of all operators."""
    works = [(op.repeat, work(op, sizes)) for op in ops]
    return sum(n * w.flops for n, w in works), sum(n * (w.read_bytes + w.write_bytes) for n, w in works)


def assert_sound(ops):
    """Every producer is an operator, every cost a number that is not negative."""
    for op in ops:
        assert op.repeat >= 1
        assert all(t.producer is None or 0 <= t.producer < len(ops) for t in op.inputs)
        once = work(op, SIZES)
        assert all(math.isfinite(x) and x >= 0 for x in map(float, (once.flops, once.read_bytes, once.write_bytes)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    operators=st.integers(1, 25),
    dtype=st.sampled_from(DTYPES),
    policy=st.sampled_from(["none", "selective", "full"]),
)
def test_a_graph_survives_all_that_is_done_with_it(seed, operators, dtype, policy):
    model = random_model(seed, operators)
    inference = model.graphs["infer"]
    model = replace(model, graphs={"infer": inference, "train": with_backward(inference)})
    train = model.graphs["train"].ops
    assert_sound(train)

    data = to_bytes(model)
    again = from_bytes(data, "again.rwg")
    assert again == model
    assert to_bytes(again) == data

    flops, moved = cost(inference.ops)
    train_flops, train_moved = cost(train)
    assert flops <= train_flops <= 4 * flops + 1  # attention's backward pass is 2.5 times its forward one
    assert train_moved >= moved
    assert {op.phase for op in train} <= {Phase.FORWARD, Phase.BACKWARD}

    for ops in (recompute(train, policy), expand_attention(train), adapt(train, 8, quantised=False)):
        lowered = lower(ops, precision_of(dtype))
        assert_sound(lowered)
        assert all("format" in op.attrs for op in lowered if op.kind in (Kind.GEMM, Kind.CONV, Kind.ATTENTION))
        fused = fuse(lowered)
        assert_sound(fused)
        assert len(fused) <= len(lowered)
    assert cost(recompute(train, policy))[0] >= train_flops
    assert cost(lower(train, precision_of("fp16")))[1] <= train_moved


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    operators=st.integers(1, 25),
    sizes=st.lists(st.integers(64, 512), min_size=2, max_size=4),
)
def test_costs_of_many_sizes_at_once_are_the_costs_of_each(seed, operators, sizes):
    ops = random_model(seed, operators).graphs["infer"].ops
    batch = np.array(sizes, dtype=np.float64)
    for op in ops:
        together = np.broadcast_to(work(op, {**SIZES, "b": batch}).read_bytes, batch.shape)
        each = [float(work(op, {**SIZES, "b": int(b)}).read_bytes) for b in sizes]
        assert together == pytest.approx(each)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), operators=st.integers(1, 12), layers=st.integers(1, 9))
def test_folding_equal_layers_changes_no_sum(seed, operators, layers):
    layer = [op for op in random_model(seed, operators).graphs["infer"].ops if op.repeat == 1]
    ops = []
    for number in range(layers):
        for i, op in enumerate(layer):
            inputs = tuple(replace(t, producer=None) for t in op.inputs)
            ops.append(replace(op, module=f"layers.{number}.{i}", inputs=inputs))
    folded = fold(Graph(ops=tuple(ops), symbols=SIZES)).ops
    assert cost(folded) == pytest.approx(cost(ops))
    assert sum(op.repeat for op in folded) == len(ops)
