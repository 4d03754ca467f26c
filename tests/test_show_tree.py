"""The tree of modules: what is one node, where parameters count, and that parts add up."""

from __future__ import annotations

import numpy as np
import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import binding_shares
from rigwise.estimate.predict import predict, work_of
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.graph import Parameter
from rigwise.graph.load import read_zoo
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.summary import Cost
from rigwise.graph.tree import Load, Node, Row, module_tree, places
from rigwise.report.graph_text import depth_of, fitting_depth, module_rows, outline, table_text
from rigwise.report.step_rows import counted_step
from rigwise.report.step_times import binds_s, timed_step
from rigwise.workload.case import Case, Parallel
from rigwise.workload.resolve import resolve

MODELS = ["resnet50", "gpt2", "t5-small", "mixtral-8x7b", "deepseek-v3", "sd-1.5-unet"]


def op(module: str, repeat: int = 1, phase: Phase = Phase.FORWARD, weight: int = 0) -> Op:
    inputs = (Tensor((weight,), role=Role.PARAMETER),) if weight else ()
    return Op(
        name="aten.add",
        kind=Kind.ELEMENTWISE,
        phase=phase,
        inputs=inputs,
        outputs=(Tensor((2,)),),
        module=module,
        repeat=repeat,
    )


def tree_of(*ops: Op, parameters: tuple[Parameter, ...] = ()) -> Node:
    return module_tree([Row(op=o, cost=Cost(calls=o.repeat)) for o in ops], parameters)


def node(tree: Node, path: str, count: int | None = None) -> Node:
    found = [n for n in tree.walk() if n.path == path and count in (None, n.count)]
    assert len(found) == 1, [(n.path, n.count) for n in tree.walk()]
    return found[0]


def test_equal_layers_are_one_node_and_different_ones_two() -> None:
    tree = tree_of(op("embed"), op("layers.*.mlp", 3), op("layers.*.experts", 58), op(""))
    assert [(n.path, n.count) for n in tree.walk() if n.name == "*"] == [("layers.*", 3), ("layers.*", 58)]
    assert tree.total.cost.calls == 1 + 3 + 58 + 1
    assert tree.own.cost.calls == 1


def test_a_backward_layer_that_stands_alone_belongs_to_the_block_of_its_forward_pass() -> None:
    ops = [op("h.*.fc", 11), op("h.*.fc", 10, Phase.BACKWARD), op("h.11.fc", 1, Phase.BACKWARD)]
    assert set(places(ops)) == {(("h", 1), ("*", 11), ("fc", 1))}
    assert node(tree_of(*ops), "h.*").total.cost.calls == 22


def test_a_layer_whose_forward_pass_stands_alone_stays_alone() -> None:
    tree = tree_of(op("h.0.fc"), op("h.*.fc", 4), op("h.0.fc", 1, Phase.BACKWARD))
    assert node(tree, "h.0").total.operators == 2


def test_parameters_are_divided_among_the_layers_they_are_of() -> None:
    shared = Parameter(name="h.*.fc.weight", shape=(10,), count=6)
    tree = tree_of(op("h.0.fc", weight=10), op("h.*.fc", 5, weight=10), parameters=(shared,))
    assert node(tree, "h.0").total.parameters == 10
    assert node(tree, "h.*").total.parameters == 50


def test_of_modules_that_a_name_may_mean_those_count_that_read_such_a_parameter() -> None:
    norms = Parameter(name="branch.*.weight", shape=(64,), count=2)
    ops = [op("branch.0", weight=64), op("branch.1"), op("branch.2", weight=64), op("branch.3", weight=7)]
    tree = tree_of(*ops, parameters=(norms,))
    assert [n.total.parameters for n in tree.walk() if n.name.isdigit()] == [64, 0, 64, 0]


def test_a_block_of_two_layers_counts_both() -> None:
    pairs = Parameter(name="layers.*.fc.weight", shape=(3,), count=42)
    assert node(tree_of(op("layers.*.fc", 21), op("layers.*.fc", 21), parameters=(pairs,)), "layers.*").count == 42


def test_parameters_without_an_operator_are_not_lost() -> None:
    tree = tree_of(op("lm_head"), parameters=(Parameter(name="shared.weight", shape=(4, 4)),))
    assert node(tree, "shared").total == Load(parameters=16)
    bare = tree_of(op("a"), parameters=(Parameter(name="scale", shape=(5,)),))
    assert (bare.own.parameters, bare.total.parameters) == (5, 5)


def test_a_path_of_a_thousand_parts_makes_no_deep_tree() -> None:
    tree = tree_of(op(".".join(["x"] * 1000)), op("..a..b."))
    assert max(len(n.place) for n in tree.walk()) == 40
    assert node(tree, "a.b").total.operators == 1


@pytest.mark.parametrize("name", MODELS)
def test_children_and_own_work_add_up_to_every_node(name: str) -> None:
    model = read_zoo(name)
    step = counted_step(Case(model=name, device=""), model)
    tree = module_tree(step.rows, model.parameters)
    assert tree.total.operators == len(step.rows)
    assert tree.total.parameters == model.parameter_count
    assert tree.total.cost.flops == pytest.approx(sum(row.cost.flops for row in step.rows))
    for n in tree.walk():
        parts = sum((child.total for child in n.children), n.own)
        assert parts.parameters == n.total.parameters
        assert parts.cost.bytes == pytest.approx(n.total.cost.bytes)


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_the_rows_of_every_level_add_up_to_the_row_above(depth: int) -> None:
    model = read_zoo("deepseek-v3")
    tree = module_tree(counted_step(Case(model="deepseek-v3", device=""), model).rows, model.parameters)
    lines = outline(tree, depth)
    assert sum(line.load.cost.bytes for line in lines if line.level == 0) == pytest.approx(tree.total.cost.bytes)
    for index, line in enumerate(lines):
        rest = [other.level for other in lines[index + 1 :]]
        end = next((i for i, level in enumerate(rest) if level <= line.level), len(rest))
        below = [other.load for other in lines[index + 1 : index + 1 + end] if other.level == line.level + 1]
        if below:
            assert sum(load.parameters for load in below) == line.load.parameters
            assert sum(load.cost.bytes for load in below) == pytest.approx(line.load.cost.bytes)


def test_the_outline_is_as_deep_as_a_screen_allows() -> None:
    model = read_zoo("llama-3.1-405b")
    tree = module_tree(counted_step(Case(model=model.name, device=""), model).rows, model.parameters)
    for rows in (5, 12, 24):
        depth = fitting_depth(tree, rows)
        assert len(outline(tree, depth)) <= rows
        assert depth == depth_of(tree) or len(outline(tree, depth + 1)) > rows
    assert "layers.* x126" in [line.label for line in outline(tree, 9)]


def test_rows_that_do_not_fit_are_added_up_in_one() -> None:
    tree = tree_of(*(op(f"m{index}", repeat=1 + index % 7) for index in range(100)))
    lines, sentence = module_rows(tree, None, None)
    assert len(lines) == 24
    assert lines[-1].label == "(77 more)"
    assert sum(line.load.cost.calls for line in lines) == tree.total.cost.calls
    assert sentence == "24 of 100 rows; --limit 100 shows all"
    assert module_rows(tree, None, 100)[1] == module_rows(tree, 1, None)[1] == ""


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_to_its_width_and_aligns_its_columns(width: int) -> None:
    model = read_zoo("t5-small")
    step = timed_step(Case(model=model.name, device="t4"), model)
    tree = module_tree(step.rows, model.parameters)
    text = table_text("module", outline(tree, 9), tree.total, width=width, timed=True).splitlines()
    assert max(len(line) for line in text) <= width
    ends = {line.rfind(" %") for line in text[2:] if " %" in line}
    assert len(ends) == 1
    assert "time" in text[0]


def test_no_name_sends_control_codes_to_a_terminal() -> None:
    tree = tree_of(op("a\x1b[31m\n"), op("b"))
    text = table_text("module", outline(tree, 1), tree.total)
    assert "a?[31m?" in text
    assert len(text.splitlines()) == 5


# On a device

CASES = [
    Case(model="resnet50", device="rtx-4090", batch=32),
    Case(model="gpt2", device="i7-11700kf", batch=1),
    Case(model="llama-3.1-8b", device="h100-sxm5-80gb", task="decode", batch=4),
    Case(model="gpt2", device="a100-sxm4-80gb", batch=32, mode="compiled", dtype="amp-bf16", recompute="full"),
    Case(
        model="llama-3.1-70b", device="h100-sxm5-80gb", count=16, nodes=2, batch=32,
        parallel=Parallel(tensor=4, pipeline=2, micro_batch=2, zero=1),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.device}-{case.task}")
def test_operators_and_what_stands_beside_them_add_up_to_the_prediction(case: Case) -> None:
    model = read_zoo(case.model)
    step, prediction = timed_step(case, model), predict(case, model)
    total = sum(step.beside.values(), module_tree(step.rows).total)
    parts_s = prediction.forward_s + prediction.backward_s + prediction.optimizer_s + prediction.exposed_comm_s
    assert total.time_s == pytest.approx(parts_s)
    assert sum(row.cost.flops for row in step.rows) == pytest.approx(prediction.flops)
    assert all(seconds >= 0 for row in step.rows for seconds in row.binds_s.values())


def test_what_binds_each_operator_adds_up_to_what_binds_the_step() -> None:
    device, model, calibration = resolve_device("t4"), read_zoo("resnet50"), load_calibration()
    step = work_of(model, resolve(Case(model="resnet50", device="t4", batch=16), model), device)
    _, times = micro_step(step.table, columns([device], calibration), calibration, Setting())
    shares = binding_shares(step.table, times)
    for name, seconds in binds_s(step.table, times).items():
        assert np.sum(seconds) == pytest.approx(float(shares[name][0, 0]))
