"""Recurrences as one operator, and loops over time as one step with a count."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rigwise.errors import CaptureError
from rigwise.graph.capture.fold import fold
from rigwise.graph.capture.from_torch import hf_config, loops
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.loops import fold_steps, folded_loops
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.from_torch.scan import whole_scans
from rigwise.graph.capture.from_torch.trace import trace
from rigwise.graph.capture.subject import Subject
from rigwise.graph.capture.symbolic import difference, evaluate
from rigwise.graph.count import work
from rigwise.graph.dim import Dim
from rigwise.graph.graph import Card, Graph
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.rwg import from_bytes, to_bytes

torch = pytest.importorskip("torch")

WIDTH, LAYERS, STATE, VOCABULARY = 48, 5, 16, 101
MAMBA = {
    "model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": VOCABULARY, "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS, "state_size": STATE, "conv_kernel": 4, "expand": 2, "time_step_rank": 3,
}  # fmt: skip
MAMBA2 = {
    "model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"], "vocab_size": VOCABULARY, "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS, "state_size": STATE, "num_heads": 6, "head_dim": 16, "n_groups": 2, "expand": 2,
}  # fmt: skip
HYBRID = {
    "model_type": "falcon_h1", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 64,
    "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_n_heads": 6,
    "mamba_d_head": 16, "mamba_d_ssm": 96, "mamba_d_state": STATE,
}  # fmt: skip
DELTA = {
    "model_type": "qwen3_next", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
CONFIGS = {c["model_type"]: c for c in (MAMBA, MAMBA2, HYBRID, DELTA)}
TASKS = {
    "mamba": ("train", "infer", "prefill", "decode"), "mamba2": ("train", "prefill", "decode"),
    "falcon_h1": ("train", "decode"), "qwen3_next": ("train", "decode"),
}  # fmt: skip
_CAPTURED = {}


def language(model_type):
    subject = hf_config.subject(CONFIGS[model_type], name=model_type, where="config.json")
    return replace(subject, symbols={task: subject.symbols[task] for task in TASKS[model_type]})


def captured(model_type):
    """The captured model, once for all tests."""
    if model_type not in _CAPTURED:
        with fake_tensors():
            _CAPTURED[model_type] = capture(language(model_type))
    return _CAPTURED[model_type]


def sequences(module, *, features=8, reference=24, free=True):
    """A subject of sequences ``[batch, steps, features]``."""

    def inputs(_task, sizes):
        return (torch.empty(sizes["b"], sizes.get("s", reference), features),)

    sizes = {"b": 4, "s": reference} if free else {"b": 4}
    symbols = {task: sizes for task in ("train", "infer")}
    return Subject(name="net", module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=Card(title="net"))


def total(graph, sizes):
    """Calls, multiply-adds and bytes of a whole graph."""
    works = [(op.repeat, work(op, sizes)) for op in graph.ops]
    moved = sum(n * (w.read_bytes + w.write_bytes) for n, w in works)
    return sum(n for n, _ in works), sum(n * w.macs for n, w in works), moved


# State-space models and linear attention of transformers.


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_model_with_states_predicts_sizes_it_was_not_traced_at(model_type):
    sizes = {"b": 6, "s": 200, "c": 121}
    model = captured(model_type)
    assert set(model.graphs) == set(TASKS[model_type])
    with fake_tensors():
        subject = language(model_type)
        for task, graph in model.graphs.items():
            own = {symbol: sizes[symbol] for symbol in graph.symbols}
            assert difference(evaluate(graph, own), fold(trace(subject, task, own))) == ""


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_layer_scans_once_forward_and_once_backward_whatever_the_length(model_type):
    ops = captured(model_type).graphs["train"].ops
    runs = [sum(op.repeat for op in ops if op.name == f"rigwise.linear_scan{end}") for end in ("", "_backward")]
    with_state = 1 if model_type == "qwen3_next" else LAYERS
    assert runs == [with_state, with_state]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_trained_parameter_of_a_model_with_states_gets_a_gradient(model_type):
    model = captured(model_type)
    ops = model.graphs["train"].ops
    made = sum(op.repeat * t.elements({"b": 2, "s": 64}) for op in ops for t in op.outputs if t.role is Role.GRADIENT)
    assert made == sum(p.elements for p in model.parameters if p.trainable)


def test_the_arithmetic_of_mamba_is_that_of_its_matrices_its_convolution_and_its_state():
    graph = captured("mamba").graphs["infer"]
    tokens, inner, rank = 6 * 200, 2 * WIDTH, MAMBA["time_step_rank"]
    matrices = WIDTH * 2 * inner + inner * (rank + 2 * STATE) + rank * inner + inner * WIDTH
    padded = 6 * (200 + 3) * inner * 4  # the convolution also runs over its padding
    scans = 3 * tokens * inner * STATE
    _, macs, _ = total(graph, {"b": 6, "s": 200})
    assert macs == LAYERS * (tokens * matrices + padded + scans) + tokens * WIDTH * VOCABULARY


def test_it_is_said_that_a_scan_needs_its_kernel():
    assert any("one fused kernel" in note for note in captured("mamba").card.assumed)


def test_a_scan_reads_its_inputs_once_and_writes_its_output_once():
    scan = next(op for op in captured("mamba").graphs["infer"].ops if op.name == "rigwise.linear_scan")
    b, s, d = 2, 64, 2 * WIDTH
    cost = work(scan, {"b": b, "s": s})
    # x, step, gate; decay and skip; both projections; the bias of the step
    assert cost.read_bytes == 4 * (3 * b * s * d + d * STATE + d + 2 * b * s * STATE + d)
    assert cost.write_bytes == 4 * b * s * d


@pytest.mark.parametrize("model_type", ["mamba", "mamba2"])
def test_decoding_from_a_state_costs_the_same_after_any_context(model_type):
    graph = captured(model_type).graphs["decode"]
    used = {a.symbol for op in graph.ops for t in (*op.inputs, *op.outputs) for size in t.shape
            if isinstance(size, Dim) for _, atoms in size.terms for a in atoms}  # fmt: skip
    assert used == {"b"}
    step = next(op for op in graph.ops if op.name == "rigwise.linear_scan_step")
    (state,) = [t for t in step.inputs if t.role is Role.CACHE]
    assert state.elements({"b": 3}) == 3 * 2 * WIDTH * STATE
    assert any(t.shape == state.shape for t in step.outputs)  # and writes it back
    assert total(graph, {"b": 8, "c": 10}) == total(graph, {"b": 8, "c": 100_000})


def test_a_hybrid_layer_keeps_a_state_and_keys():
    graph = captured("falcon_h1").graphs["decode"]
    cached = {op.kind for op in graph.ops if any(t.role is Role.CACHE for t in op.inputs)}
    assert {Kind.SCAN, Kind.ATTENTION} <= cached
    attention = next(op for op in graph.ops if op.kind is Kind.ATTENTION)
    assert attention.inputs[1].elements({"b": 1, "c": 99}) == 100 * 2 * (WIDTH // 4)


def test_the_stand_ins_return_the_shapes_of_what_they_stand_for():
    from transformers.models.mamba import modeling_mamba
    from transformers.models.mamba2 import modeling_mamba2
    from transformers.models.qwen3_next import modeling_qwen3_next
    from transformers.models.rwkv import modeling_rwkv

    b, s, d, n, h, g, k = 2, 5, 8, 4, 6, 3, 7
    r = torch.randn
    calls = [
        (modeling_mamba, "mamba_selective_scan", (r(b, d, s), r(b, d, s), r(d, n), r(b, n, s), r(b, n, s)),
         {"D": r(d), "z": r(b, d, s), "delta_bias": r(d), "return_last_state": True}),
        (modeling_mamba, "mamba_selective_state_update",
         (r(b, d, n), r(b, d), r(b, d), r(d, n), r(b, n), r(b, n), r(d)), {"z": r(b, d), "dt_bias": r(d)}),
        (modeling_mamba2, "mamba2_chunk_scan", (r(b, s, h, d), r(b, s, h), r(h), r(b, s, g, n), r(b, s, g, n)),
         {"chunk_size": 4, "D": r(h), "return_final_states": True}),
        (modeling_qwen3_next, "torch_chunk_gated_delta_rule",
         (r(b, s, h, k), r(b, s, h, k), r(b, s, h, d), r(b, s, h), r(b, s, h)), {"output_final_state": True}),
        (modeling_qwen3_next, "torch_recurrent_gated_delta_rule",
         (r(b, 1, h, k), r(b, 1, h, k), r(b, 1, h, d), r(b, 1, h), r(b, 1, h)),
         {"initial_state": r(b, h, k, d), "output_final_state": True}),
        (modeling_rwkv, "rwkv_linear_attention", (r(d), r(d), r(b, s, d), r(b, s, d)), {"return_state": True}),
    ]  # fmt: skip
    for file, name, arguments, options in calls:
        real = shapes_of(getattr(file, name)(*arguments, **options))
        with fake_tensors(), torch.no_grad(), whole_scans():
            fake = [a.clone() for a in map(torch.empty_like, arguments)]
            settings = {key: torch.empty_like(v) if isinstance(v, torch.Tensor) else v for key, v in options.items()}
            assert shapes_of(getattr(file, name)(*fake, **settings)) == real, name


def shapes_of(tree):
    return tuple(tree.shape) if isinstance(tree, torch.Tensor) else [shapes_of(t) for t in tree]


def test_the_functions_of_transformers_are_themselves_again_afterwards():
    from transformers.models.mamba import modeling_mamba

    before = modeling_mamba.mamba_selective_scan
    with suppress(ZeroDivisionError), whole_scans():
        assert modeling_mamba.mamba_selective_scan is not before
        raise ZeroDivisionError
    assert modeling_mamba.mamba_selective_scan is before


def test_a_cache_that_cannot_be_tried_leaves_out_the_tasks_that_need_it(monkeypatch):
    from rigwise.graph.capture.from_torch import state_cache

    def fail(*_):
        raise ValueError("no such state")

    monkeypatch.setattr(state_cache, "trial_layers", fail)
    with fake_tensors():
        model = capture(language("mamba"))
    assert set(model.graphs) == {"train", "infer"}
    assert any("no decode graph" in note and "no such state" in note for note in model.card.assumed)


# Loops of a user's own.


class Recurrent(torch.nn.Module):
    """A hand-written gated network."""

    def __init__(self, features=8, hidden=12, layers=2):
        super().__init__()
        widths = [features, *[hidden] * layers]
        self.cells = torch.nn.ModuleList(torch.nn.GRUCell(m, hidden) for m in widths[:-1])
        self.head = torch.nn.Linear(hidden, 3)
        self.hidden = hidden

    def forward(self, x):
        for cell in self.cells:
            state, outputs = x.new_zeros(x.shape[0], self.hidden), []
            for step in range(x.shape[1]):
                state = self.gated(cell, x[:, step], state)
                outputs.append(state)
            x = torch.stack(outputs, 1)
        return self.head(x)

    @staticmethod
    def gated(cell, x, state):
        gates = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
        update, new = torch.sigmoid(gates[:, :12]), torch.tanh(gates[:, 12:24] + state @ cell.weight_hh[:12].T)
        return update * state + (1 - update) * new


@pytest.fixture
def short_loops_count(monkeypatch):
    """Loops are looked for in small traces too, so that tests need no long ones."""
    monkeypatch.setattr("rigwise.graph.capture.from_torch.assemble._MANY_OPS", 200)


@pytest.mark.usefixtures("short_loops_count")
@pytest.mark.parametrize("free", [True, False], ids=["length from the factory", "length fixed"])
def test_a_loop_over_steps_is_one_step_that_costs_as_much_as_all(free):
    reference = 24
    with fake_tensors():
        subject = sequences(Recurrent(), reference=reference, free=free)
        model = capture(subject)
        for task, graph in model.graphs.items():
            assert len(graph.ops) < 180
            assert max(op.repeat for op in graph.ops) >= reference - 2
            assert set(graph.symbols) == {"b"}
            unfolded = trace(subject, task, {"b": 5, "s": reference})
            assert len(unfolded.ops) > 2 * len(graph.ops)
            assert total(graph, {"b": 5}) == pytest.approx(total(unfolded, {}))
    if free:
        assert model.card.assumed == (f"a loop over time steps is folded; sequence length fixed at {reference}",)
    assert from_bytes(to_bytes(model), "net.rwg") == model


@pytest.mark.usefixtures("short_loops_count")
def test_equal_layers_that_hold_a_loop_are_folded_around_it():
    with fake_tensors():
        subject = sequences(Recurrent(features=12, layers=5), features=12)
        model = capture(replace(subject, symbols={"infer": subject.symbols["infer"]}))
    graph = model.graphs["infer"]
    assert max(op.repeat for op in graph.ops if op.name == "aten.sigmoid") == 4 * 24  # the first layer has other inputs
    assert sum(op.repeat for op in graph.ops if op.name == "aten.sigmoid") == 5 * 24
    assert from_bytes(to_bytes(model), "net.rwg") == model


@pytest.mark.usefixtures("short_loops_count")
def test_a_loop_far_beyond_the_limit_is_captured():
    with fake_tensors():
        subject = sequences(Recurrent(layers=1), reference=50_000)
        model = capture(replace(subject, symbols={"infer": subject.symbols["infer"]}))
    assert max(op.repeat for op in model.graphs["infer"].ops) >= 49_998


class Triangle(torch.nn.Linear):
    """The number of its operators grows with the square of the length."""

    def forward(self, x):
        for step in range(x.shape[1]):
            for earlier in range(step):
                x = x + torch.tanh(super().forward(x[:, earlier : earlier + 1]))
        return x


def test_a_loop_whose_steps_grow_is_refused():
    with fake_tensors():
        subject = sequences(Triangle(8, 8))
        with pytest.raises(CaptureError, match=r"steps (differ|of a loop)"):
            folded_loops(lambda sizes: trace(subject, "infer", sizes), {"b": 4, "s": 24}, "net")


def test_a_model_without_a_loop_has_none_to_fold():
    with fake_tensors():
        subject = sequences(torch.nn.Linear(8, 8))
        assert folded_loops(lambda sizes: trace(subject, "infer", sizes), {"b": 4, "s": 24}, "net") is None


class Endless(torch.nn.Linear):
    def forward(self, x):
        while True:
            x = super().forward(x)


def test_an_unfoldable_loop_names_its_line_and_what_to_do(monkeypatch):
    monkeypatch.setattr("rigwise.graph.capture.from_torch.trace.MAX_OPS", 300)
    with (
        fake_tensors(),
        pytest.raises(CaptureError, match=r"failed at test_capture_scan.py:\d+: .*over 300 operators; .* takes seq"),
    ):
        capture(sequences(Endless(8, 8), free=False))


# Folding alone.


def step(number, *, before, module="net", width=8):
    """Two operators: the first reads the operator ``before`` it and the input, the second the first."""
    look = {"kind": Kind.ELEMENTWISE, "phase": Phase.FORWARD, "module": module}
    outputs = (Tensor((4, width)),)
    first = Op(name="aten.mul", inputs=(Tensor((4, width), producer=before),), outputs=outputs, **look)
    second = Op(name="aten.add", inputs=(Tensor((4, width), producer=number),), outputs=outputs, **look)
    return [first, second]


def chain(steps):
    ops = []
    for number in range(0, 2 * steps, 2):
        ops += step(number, before=number - 1 if number else None)
    return ops


def test_steps_stand_once_and_read_from_the_previous_one():
    folded = fold_steps(Graph(ops=tuple(chain(6)), symbols={}))
    assert [(op.name, op.repeat, op.inputs[0].producer) for op in folded.ops] == [
        ("aten.mul", 6, 1),
        ("aten.add", 6, 0),
    ]


def test_steps_that_read_from_elsewhere_are_not_equal():
    ops = chain(8)
    ops[8] = step(8, before=0)[0]
    folded = fold_steps(Graph(ops=tuple(ops), symbols={}))
    assert sum(op.repeat for op in folded.ops) == 16
    assert len(folded.ops) > 2


def test_few_equal_steps_are_left_alone():
    graph = Graph(ops=tuple(chain(3)), symbols={})
    assert fold_steps(graph) == graph


def test_results_of_all_steps_are_read_as_one_tensor():
    ops = chain(6)
    read = tuple(Tensor((4, 8), producer=2 * i + 1) for i in range(6))
    ops.append(Op(name="aten.stack", kind=Kind.COPY, phase=Phase.FORWARD, inputs=read, outputs=(Tensor((4, 6, 8)),)))
    stack = fold_steps(Graph(ops=tuple(ops), symbols={})).ops[-1]
    assert stack.inputs == (Tensor((6, 4, 8), producer=1),)


def test_a_count_is_a_line_in_the_length_or_refused():
    assert str(loops._line((7, 11, 17), (12, 20, 32))) == "2*s-2"
    with pytest.raises(CaptureError, match="run"):
        loops._line((7, 11, 17), (12, 20, 33))


# What depends on data.


class Experts(torch.nn.Module):
    """Routed experts, each called with the rows that chose it."""

    def __init__(self, way):
        super().__init__()
        self.gate, self.way = torch.nn.Linear(8, 4), way
        self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        rows = x.reshape(-1, 8)
        chosen, out = self.gate(rows).argmax(-1), torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            self.way(chosen == number, rows, expert, out)
        return out.view_as(x)


def by_where(mine, rows, expert, out):
    (index,) = torch.where(mine)
    out.index_add_(0, index, expert(rows[index]))


def by_nonzero(mine, rows, expert, out):
    index = mine.nonzero()[:, 0]
    out.index_copy_(0, index, expert(rows[index]))


def by_mask(mine, rows, expert, out):
    out[mine] = expert(rows[mine])


def if_any(mine, rows, expert, out):
    if mine.any():
        out += expert(rows)


class Until(torch.nn.Linear):
    def forward(self, x):
        size = x.abs().sum()
        while size > 1:
            x, size = super().forward(x), size / 2
        return x


class AsLongAs(torch.nn.Linear):
    def forward(self, x):
        for _ in range(int(x.sum())):
            x = super().forward(x)
        return x


class Scaled(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * x.mean().item()


@pytest.mark.parametrize("way", [by_where, by_nonzero, by_mask], ids=lambda way: way.__name__)
def test_experts_that_pick_their_rows_are_refused_with_their_line(way):
    place = rf"test_capture_scan.py:{way.__code__.co_firstlineno + 1}: .*a shape depends on the values.*routed experts"
    with fake_tensors(), pytest.raises(CaptureError, match=place):
        capture(sequences(Experts(way)))


@pytest.mark.parametrize(
    "module", [lambda: Experts(if_any), lambda: Until(8, 8), lambda: AsLongAs(8, 8), lambda: Scaled(8, 8)],
    ids=["if a tensor", "while a tensor", "steps from a tensor", "item"],
)  # fmt: skip
def test_a_look_at_a_value_is_refused_with_its_line(module):
    with fake_tensors(), pytest.raises(CaptureError, match=r"at test_capture_scan.py:\d+: .*looks at the value of a"):
        capture(sequences(module()))


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("mixtral", {"num_local_experts": 4}),
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, "head_dim": 16}),
        ("gpt_oss", {"num_local_experts": 4, "head_dim": 16}),
    ],
)
def test_balanced_experts_are_said_to_be_assumed(model_type, more):
    config = {
        "model_type": model_type, "vocab_size": 101, "hidden_size": 48, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2, **more,
    }  # fmt: skip
    with fake_tensors():
        subject = hf_config.subject(config, name="moe", where="config.json")
        model = capture(replace(subject, symbols={"infer": subject.symbols["infer"]}))
    assert "experts get equally many tokens" in model.card.assumed
