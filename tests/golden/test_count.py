"""One test for each operator that multiplies, its expected cost written as the formula."""

import numpy as np
import pytest

from rigwise.graph.count import BYTES_OF_DTYPE, causal_frac, gemm_shape, tensor_bytes, work
from rigwise.graph.dim import parse_size
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor

F4 = 4  # bytes of a float32


def op(name, kind, inputs, outputs, **attrs):
    tensors = [tuple(t if isinstance(t, Tensor) else Tensor(t) for t in side) for side in (inputs, outputs)]
    return Op(name=name, kind=kind, phase=Phase.FORWARD, inputs=tensors[0], outputs=tensors[1], attrs=attrs)


def test_mm_is_m_n_k():
    m, n, k = 32, 48, 64
    w = work(op("aten.mm", Kind.GEMM, [(m, k), (k, n)], [(m, n)]), {})
    assert w.macs == m * n * k
    assert w.flops == 2 * w.macs
    assert w.read_bytes == F4 * (m * k + k * n)
    assert w.write_bytes == F4 * m * n


def test_addmm_reads_its_addend():
    m, n, k = 8, 16, 24
    w = work(op("aten.addmm", Kind.GEMM, [(m, k), (k, n), (n,)], [(m, n)]), {})
    assert w.macs == m * n * k
    assert w.read_bytes == F4 * (m * k + k * n + n)


def test_bmm_and_products_over_two_batch_axes():
    b, h, m, n, k = 2, 3, 4, 5, 6
    assert work(op("aten.bmm", Kind.GEMM, [(b, m, k), (b, k, n)], [(b, m, n)]), {}).macs == b * m * n * k
    assert work(op("aten.bmm", Kind.GEMM, [(b, h, m, k), (b, h, k, n)], [(b, h, m, n)]), {}).macs == b * h * m * n * k


def test_grouped_mm_shares_rows_among_experts():
    rows, k, n, experts = 64, 16, 32, 8
    grouped = op("aten._grouped_mm", Kind.GEMM, [(rows, k), (experts, k, n)], [(rows, n)], groups=experts)
    assert work(grouped, {}).macs == rows * k * n
    assert gemm_shape(grouped, {}).m == rows / experts
    weight_gradient = op("aten._grouped_mm", Kind.GEMM, [(k, rows), (rows, n)], [(experts, k, n)], groups=experts)
    assert work(weight_gradient, {}).macs == rows * k * n


def test_few_rows_touch_few_experts():
    k, n, experts = 16, 32, 8
    for rows in (1, 4, 100):
        grouped = op("aten._grouped_mm", Kind.GEMM, [(rows, k), (experts, k, n)], [(rows, n)], groups=experts)
        assert work(grouped, {}).read_bytes == F4 * (rows * k + min(rows, experts) * k * n)
        assert work(grouped, {}).macs == rows * k * n


def conv(batch=2, c_in=6, c_out=8, size=10, kernel=3, stride=1, groups=1):
    out = (size - kernel) // stride + 1
    attrs = {"stride": (stride, stride), "padding": (0, 0), "groups": groups}
    x, y = (batch, c_in, size, size), (batch, c_out, out, out)
    w = (c_out, c_in // groups, kernel, kernel)
    macs = batch * out * out * c_out * (c_in // groups) * kernel * kernel
    return x, w, y, attrs, macs


@pytest.mark.parametrize("changes", [{}, {"stride": 2}, {"groups": 2}, {"kernel": 1}, {"c_in": 8, "groups": 8}])
def test_convolution_and_both_its_gradients_cost_the_same(changes):
    x, w, y, attrs, macs = conv(**changes)
    forward = op("aten.convolution", Kind.CONV, [x, w], [y], **attrs)
    dgrad = op("rigwise.conv_dgrad", Kind.CONV, [y, w], [x], **attrs)
    wgrad = op("rigwise.conv_wgrad", Kind.CONV, [y, x], [w], **attrs)
    assert [work(o, {}).macs for o in (forward, dgrad, wgrad)] == pytest.approx([macs] * 3)
    assert work(forward, {}).read_bytes == F4 * (np.prod(x) + np.prod(w))


def test_transposed_convolution_meets_the_kernel_at_every_input_pixel():
    batch, c_in, c_out, size, kernel = 2, 4, 6, 5, 2
    x, w, y = (batch, c_in, size, size), (c_in, c_out, kernel, kernel), (batch, c_out, 2 * size, 2 * size)
    macs = batch * size * size * c_in * c_out * kernel * kernel
    attrs = {"stride": (2, 2), "transposed": True, "groups": 1}
    for name, inputs, output in (
        ("aten.convolution", [x, w], y),
        ("rigwise.conv_dgrad", [y, w], x),
        ("rigwise.conv_wgrad", [y, x], w),
    ):
        assert work(op(name, Kind.CONV, inputs, [output], **attrs), {}).macs == macs


def attention(b=2, h=4, hk=2, s=8, t=8, d=16, causal=False, backward=False):
    q, k, o = (b, h, s, d), (b, hk, t, d), (b, h, s, d)
    if backward:
        return op("rigwise.attention_backward", Kind.ATTENTION, [o, q, k, k, o, (b, h, s)], [q, k, k], causal=causal)
    return op("rigwise.attention", Kind.ATTENTION, [q, k, k], [o, (b, h, s)], causal=causal)


def test_attention_is_two_products_forward_and_five_backward():
    b, h, s, t, d = 2, 4, 8, 8, 16
    assert work(attention(), {}).macs == 2 * b * h * s * t * d
    assert work(attention(backward=True), {}).macs == 5 * b * h * s * t * d


def test_attention_reads_only_its_real_key_and_value_heads():
    b, h, hk, s, d = 2, 4, 2, 8, 16
    assert work(attention(), {}).read_bytes == F4 * (b * h * s * d + 2 * b * hk * s * d)


def test_causal_mask_leaves_the_triangle_and_decoding_sees_all():
    s = 8
    assert causal_frac(attention(causal=True), {}) == (s * (s + 1) / 2) / (s * s)
    assert causal_frac(attention(s=1, t=100, causal=True), {}) == 1
    assert causal_frac(attention(), {}) == 1


@pytest.mark.parametrize(
    ("s", "t", "window"), [(8, 8, 3), (8, 8, 8), (8, 8, 100), (4, 10, 3), (4, 10, 8), (1, 10, 4), (1, 10, 20)]
)
def test_a_window_leaves_a_band_of_the_triangle(s, t, window):
    banded = attention(s=s, t=t, causal=True)
    banded = op(banded.name, Kind.ATTENTION, banded.inputs, banded.outputs, causal=True, window=window)
    seen = sum(min(window, t - s + i + 1) for i in range(s))
    assert causal_frac(banded, {}) == pytest.approx(seen / (s * t))
    keys = min(t, window + s - 1)
    assert work(banded, {}).read_bytes == pytest.approx(F4 * (2 * 4 * s * 16 + 2 * 2 * 2 * keys * 16))


def test_embedding_moves_the_rows_it_picks_not_the_table():
    vocabulary, width, tokens = 50000, 64, 12
    table = Tensor((vocabulary, width), role=Role.PARAMETER)
    w = work(op("aten.embedding", Kind.EMBEDDING, [table, Tensor((tokens,), "int64")], [(tokens, width)]), {})
    assert w.read_bytes == F4 * tokens * width + 8 * tokens
    assert w.write_bytes == F4 * tokens * width
    assert w.macs == 0


def test_streaming_and_unknown_operators_read_and_write_each_operand_once():
    shape = (4, 5)
    for name, kind in (("aten.add", Kind.ELEMENTWISE), ("vendor.mystery", Kind.UNKNOWN)):
        w = work(op(name, kind, [shape, shape], [shape]), {})
        assert (w.macs, w.read_bytes, w.write_bytes) == (0, 2 * F4 * 20, F4 * 20)


def test_fills_write_and_allocations_do_nothing():
    assert work(op("aten.zeros", Kind.COPY, [], [(10,)]), {}).write_bytes == F4 * 10
    empty = work(op("aten.empty", Kind.COPY, [], [(10,)]), {})
    assert (empty.read_bytes, empty.write_bytes) == (0, 0)


def test_force_loop_counts_flops_of_every_pair():
    atoms, neighbours, flops = 1000, 40, 23
    forces = op(
        "rigwise.lennard_jones", Kind.PAIRWISE, [(atoms, 3)], [(atoms, 3)], neighbours=neighbours, flops_per_pair=flops
    )
    assert work(forces, {}).flops == atoms * neighbours * flops


def test_sizes_may_be_arrays():
    tokens = parse_size("b*s")
    linear = op("aten.mm", Kind.GEMM, [(tokens, 64), (64, 32)], [(tokens, 32)])
    batches = np.array([1, 2, 4])
    assert list(work(linear, {"b": batches, "s": 10}).macs) == [10 * b * 64 * 32 for b in batches]


@pytest.mark.parametrize(("dtype", "width"), [("float64", 8), ("float16", 2), ("bool", 1), ("int4", 0.515625)])
def test_bytes_of_formats(dtype, width):
    assert tensor_bytes(Tensor((128,), dtype), {}) == 128 * width
    assert BYTES_OF_DTYPE[dtype] == width
