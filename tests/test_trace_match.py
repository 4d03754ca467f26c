"""Recorded operators find those of the graph: by hand, by laws, and on real traces of PyTorch on this CPU."""

import runpy
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.calibrate import alignment
from rigwise.calibrate.alignment import aligned
from rigwise.calibrate.operators import operator_of
from rigwise.calibrate.trace_match import calls_of, compare, is_asked_for, one_of, repeats
from rigwise.calibrate.trace_names import common_name
from rigwise.calibrate.trace_rows import rows_text
from rigwise.graph.kinds import kind_of
from rigwise.graph.load import load_model
from rigwise.graph.op import Op, Phase, Role, Tensor
from rigwise.graph.summary import Cost
from rigwise.graph.tree import Row
from rigwise.measurement.profile.read import read_trace
from rigwise.measurement.profile.steps import linked, steps_of
from rigwise.measurement.profile.units import Unit, units_of
from rigwise.measurement.tables import read_tables
from rigwise.report.trace_answer import beside, recorded
from rigwise.workload.case import Case

_FILES = runpy.run_path(str(Path(__file__).with_name("profile_files.py")))
cuda_like, nsight_export = _FILES["cuda_like"], _FILES["nsight_export"]


def row(name: str, *shapes: tuple[int, ...], phase: Phase = Phase.FORWARD, module: str = "", repeat: int = 1) -> Row:
    tensors = tuple(Tensor(shape, "float32", Role.ACTIVATION) for shape in shapes)
    op = Op(
        name=name, kind=kind_of(name), phase=phase, inputs=tensors, outputs=tensors[:1], module=module, repeat=repeat
    )
    return Row(op=op, cost=Cost(calls=repeat), binds_s={"memory": 1e-5 * repeat})


BACK = Phase.BACKWARD
#: The perceptron of ``cuda_like``.
PERCEPTRON = [
    row("aten.addmm", (8, 16), (16, 32), (32,), module="0"),
    row("aten.relu", (8, 32), module="1"),
    row("aten.addmm", (8, 32), (32, 4), (4,), module="2"),
    row("aten.mse_loss", (8, 4), (8, 4)),
    row("aten.mm", (8, 4), (4, 32), phase=BACK, module="2"),
    row("aten.mm", (4, 8), (8, 32), phase=BACK, module="2"),
    row("aten.threshold_backward", (8, 32), (8, 32), phase=BACK, module="1"),
    row("aten.mm", (32, 8), (8, 16), phase=BACK, module="0"),
]


def units_in(path: Path, rows: Sequence[Row]) -> list[Unit]:
    tied = linked(read_trace(path))
    return units_of(tied, steps_of(tied)[0], is_asked_for(rows))


def test_the_perceptron_is_found_operator_by_operator(tmp_path) -> None:
    units = units_in(cuda_like().write(tmp_path / "a.json"), PERCEPTRON)
    found = compare(calls_of(PERCEPTRON, {}), units)
    measured = {one.rows[0]: round(one.measured_s * 1e6) for one in found.matched}
    assert measured == {0: 100, 1: 20, 2: 80, 3: 6, 4: 90, 5: 90, 6: 10}
    assert [index for index, _ in found.missing] == [7]
    assert found.update_s == pytest.approx(30e-6)
    assert found.extra == ()
    assert found.matched_frac == pytest.approx(1.0)
    assert found.sizes_agree


def test_without_operators_kernels_are_told_by_their_names(tmp_path) -> None:
    path = nsight_export(tmp_path / "a.sqlite", cuda_like(1), operators=False)
    found = compare(calls_of(PERCEPTRON, {}), units_in(path, PERCEPTRON))
    measured = {one.rows[0]: round(one.measured_s * 1e6) for one in found.matched}
    assert {row: measured[row] for row in (0, 2, 4, 5)} == {0: 100, 2: 80, 4: 90, 5: 90}
    assert found.update_s == pytest.approx(30e-6)
    assert all(set(one.by) == {"kernel"} for one in found.matched)


def test_another_batch_is_noticed(tmp_path) -> None:
    rows = [row("aten.addmm", (64, 16), (16, 32), (32,)), row("aten.relu", (64, 32))]
    units = units_in(cuda_like().write(tmp_path / "a.json"), rows)
    found = compare(calls_of(rows, {}), units)
    assert not found.sizes_agree
    assert found.off_sizes[0] == found.with_sizes == 2


def test_equal_layers_are_laid_out_in_the_order_in_which_they_run() -> None:
    rows = [
        row("aten.embedding", (10, 4), module="wte"),
        row("aten.mm", (2, 4), (4, 4), module="h.*.a", repeat=2),
        row("aten.relu", (2, 4), module="h.*.b", repeat=2),
        row("aten.gelu", (2, 4), module="top.*.c", repeat=2),
        row("aten.sum", (2, 4), module="head"),
    ]
    names = [call.name for call in calls_of(rows, {})]
    assert names == ["embedding", "mm", "relu", "mm", "relu", "gelu", "gelu", "sum"]
    assert sum(call.predicted_s for call in calls_of(rows, {})) == pytest.approx(8e-5)
    assert len(calls_of(rows, {}, micro_steps=3)) == 24


def test_both_gradients_of_a_convolution_are_one_call() -> None:
    rows = [
        row("rigwise.conv_dgrad", (2, 8, 4, 4), (8, 3, 3, 3), phase=BACK, module="c"),
        row("rigwise.conv_wgrad", (2, 8, 4, 4), (2, 3, 4, 4), phase=BACK, module="c"),
        row("rigwise.conv_wgrad", (2, 8, 4, 4), (2, 3, 4, 4), phase=BACK, module="stem"),
    ]
    assert [call.rows for call in calls_of(rows, {})] == [(0, 1), (2,)]


def test_branches_may_run_in_another_order(tmp_path) -> None:
    swapped = [PERCEPTRON[2], PERCEPTRON[1], PERCEPTRON[0]]
    units = units_in(cuda_like().write(tmp_path / "a.json"), swapped)
    found = compare(calls_of(swapped, {}), units)
    assert sum(one.seen for one in found.matched) == 3


def test_unmarked_steps_are_counted_by_their_operators(tmp_path) -> None:
    made = cuda_like(4)
    made.events = [event for event in made.events if not event["name"].startswith("ProfilerStep")]
    units = units_in(made.write(tmp_path / "a.json"), PERCEPTRON)
    assert repeats(calls_of(PERCEPTRON, {}), units) == 4
    assert len(one_of(units, 4)) == len(units) // 4


def test_unmarked_steps_without_operators_are_counted_by_their_kernels(tmp_path) -> None:
    path = nsight_export(tmp_path / "a.sqlite", cuda_like(4), operators=False)
    units = units_in(path, PERCEPTRON)
    assert repeats(calls_of(PERCEPTRON, {}), units) == 4
    found = compare(calls_of(PERCEPTRON, {}), one_of(units, 4))
    assert sum(one.seen for one in found.matched) == 7
    assert repeats(calls_of(PERCEPTRON, {}), units[:-1]) == 1


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("aten::addmm", "aten::mm", "aten::linear", "aten.addmm"), True),
        (("aten::_scaled_dot_product_flash_attention_for_cpu", "rigwise.attention"), True),
        (("flash_attn::_flash_attn_forward", "rigwise.attention"), True),
        (("aten::cudnn_batch_norm", "aten._native_batch_norm_legit_no_training", "aten.native_batch_norm"), True),
        (("aten::convolution_backward", "rigwise.conv_dgrad", "aten::cudnn_convolution_backward_input"), True),
        (("aten::relu_", "aten.relu"), True),
        (("aten::native_batch_norm_backward", "aten::native_batch_norm"), False),
        (("aten::_scaled_dot_product_efficient_attention_backward", "rigwise.attention"), False),
    ],
)
def test_spellings_of_one_operator(names, same) -> None:
    assert (len({common_name(name) for name in names}) == 1) is same


def best_score(first: str, second: str) -> float:
    """Of all ways to pair two words in order, by recursion."""

    @cache
    def best(i: int, j: int) -> int:
        if i == len(first) or j == len(second):
            return 0
        pair = best(i + 1, j + 1) + (first[i] == second[j]) * (2 if first[i] == "a" else 1)
        return max(best(i + 1, j), best(i, j + 1), pair)

    return best(0, 0)


words = st.text("abc", max_size=12)


@given(words, words)
def test_no_pairing_in_order_scores_more(first, second) -> None:
    def score(x: str, y: str) -> float:
        return (x == y) * (2.0 if x == "a" else 1.0)

    pairs = aligned(first, second, score)
    assert pairs == sorted(set(pairs))
    assert all(b[0] > a[0] and b[1] > a[1] for a, b in pairwise(pairs))
    assert sum(score(first[i], second[j]) for i, j in pairs) == best_score(first, second)


@settings(max_examples=30)
@given(words, words)
def test_sequences_too_long_for_a_table_are_paired_in_pieces(first, second) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "MOST_CELLS", 20)
        pairs = aligned(first, second, lambda x, y: float(x == y))
    assert all(first[i] == second[j] for i, j in pairs)
    assert all(b[0] > a[0] and b[1] > a[1] for a, b in pairwise(pairs))


# Real traces

SMALL = {"vocab_size": 500, "n_layer": 2, "n_head": 2, "n_embd": 128, "n_positions": 64}


def profiled(path: Path, step, *, train: bool) -> Path:
    """Two steps behind a first one."""
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile, schedule

    plan = schedule(wait=0, warmup=1, active=2, repeat=1)
    with (
        profile(activities=[ProfilerActivity.CPU], record_shapes=True, schedule=plan) as profiler,
        torch.set_grad_enabled(train),
    ):
        for _ in range(3):
            step()
            profiler.step()
    profiler.export_chrome_trace(str(path))
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    """A small ResNet-18 and a small GPT, forward and in training."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from rigwise.bench.images import image_network

    folder = tmp_path_factory.mktemp("traces")
    config = transformers.GPT2Config(**SMALL)
    config.save_pretrained(folder / "gpt")
    net, gpt = image_network(torch, "resnet18"), transformers.GPT2LMHeadModel(config)
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(500, (2, 64))
    found = {"gpt": folder / "gpt"}
    for name, model, call in (
        ("resnet", net, lambda train: net(images)),
        ("gpt", gpt, lambda train: gpt(tokens, labels=tokens if train else None)[0]),
    ):
        for train in (False, True):
            model.train(train)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

            def step(call=call, optimizer=optimizer, train=train) -> None:
                out = call(train)
                if train:
                    loss = (
                        torch.nn.functional.cross_entropy(out, torch.zeros(2, dtype=torch.long)) if out.dim() else out
                    )
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()

            key = f"{name} {'train' if train else 'infer'}"
            found[key] = profiled(folder / f"{key.replace(' ', '-')}.json", step, train=train)
    return found


@pytest.mark.parametrize("task", ["infer", "train"])
@pytest.mark.parametrize("name", ["resnet", "gpt"])
def test_nearly_all_operators_of_a_real_trace_are_matched(recordings, name, task) -> None:
    model = "resnet18" if name == "resnet" else str(recordings["gpt"])
    sizes = {"image_size": 32} if name == "resnet" else {"seq": 64}
    case = Case(
        model=model,
        device="epyc-7763",
        task=task,
        batch=2,
        dtype="fp32",
        optimizer="sgd" if task == "train" else None,
        **sizes,
    )
    found, other = beside(recorded(read_trace(recordings[f"{name} {task}"])), case, load_model(model))
    comparison = other.comparison
    assert found.count == 2
    assert 0 < comparison.matched_frac <= 1
    assert comparison.sizes_agree
    assert any("--attention math" in note for note in found.notes) is ((name, task) == ("gpt", "train"))
    kinds = {other.predicted.counted[one.rows[0]].op.kind for one in comparison.matched}
    assert {"conv", "norm", "pool"} <= kinds if name == "resnet" else {"gemm", "norm", "elementwise"} <= kinds
    assert (comparison.update_s > 0) is (task == "train")
    calls = calls_of(other.predicted.counted, other.predicted.sizes)
    assert sum(one.seen for one in comparison.matched) > 0.9 * len(calls)
    asked = sum(unit.is_asked and not unit.is_update for unit in found.units)
    assert sum(one.seen for one in comparison.matched) > 0.8 * asked  # dropout and unfused attention run as products


def test_rows_of_a_real_trace_are_read_back_as_the_operators_that_ran(recordings, tmp_path) -> None:
    case = Case(model="resnet18", device="epyc-7763", task="infer", batch=2, dtype="fp32", image_size=32)
    found, other = beside(recorded(read_trace(recordings["resnet infer"])), case, load_model("resnet18"))
    step = other.predicted
    text, count = rows_text(step.counted, (other.comparison, found.units), step.sizes, step.device, "nchw")
    table = tmp_path / "rows.csv"
    table.write_text(text)
    measurements, rejected = read_tables([table])
    assert (len(measurements), rejected) == (count, ())
    assert count > 5
    convolutions = [m for m in measurements if m.model == "op:conv"]
    first = next(m for m in convolutions if "c3 " in m.shape)
    assert first.shape == "w32 h32 c3 n2 k64 r7 s7 pad3,3 str2,2"
    asked = operator_of(first)
    assert asked.outputs[0].shape == (2, 64, 16, 16)
    assert {m.layout for m in convolutions} == {"nchw"}


def test_the_wrong_model_is_said(recordings) -> None:
    case = Case(model="resnet18", device="epyc-7763", task="infer", batch=2, dtype="fp32", image_size=32)
    found, other = beside(recorded(read_trace(recordings["gpt infer"])), case, load_model("resnet18"))
    calls = calls_of(other.predicted.counted, other.predicted.sizes)
    assert sum(one.seen for one in other.comparison.matched) < 0.2 * len(calls)
    assert any("other sizes" in note for note in found.notes)
