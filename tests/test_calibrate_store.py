"""``rigwise calibrate --from-store``: what ``rigwise bench`` kept teaches, whole networks and single operators."""

import json
import math
from dataclasses import replace

import pytest
from click.testing import CliRunner

from rigwise.calibrate.fit import fit, gather
from rigwise.calibrate.kept import measurements_of
from rigwise.calibrate.question import question
from rigwise.calibrate.shelf import Shelf
from rigwise.cli.main import root
from rigwise.errors import InvalidInputError
from rigwise.estimate.calibration import calibrated_with, read_calibration
from rigwise.estimate.learned import OPERATOR
from rigwise.estimate.predict import predict
from rigwise.facts.catalogue import cpu
from rigwise.measurement.measurement import Measurement
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store
from rigwise.workload.case import Case

WHERE = "core-i9-10940x"
SOFTWARE = '{"torch": "2.13.0+cpu"}'
CONV = {"n": 8, "c": 128, "h": 28, "w": 28, "k": 128, "r": 3, "layout": "nchw"}
ATTENTION = {"batch": 1, "heads": 12, "seq": 512, "head": 64, "causal": True}


def record(name, value, when="2026-11-21T10:00", unit="FLOP/s", **tags):
    tags = {"device": WHERE, "threads": 14, "format": "fp32", "status": "ok", **tags}
    return Record(
        kind="bench", name=name, value=value, unit=unit, machine_id="m", when=when, software=SOFTWARE, tags=tags
    )


def network(model, part, factor, **tags):
    """A figure of a network that takes ``factor`` times the predicted time."""
    task = {"forward": "infer", "training": "train"}[part]
    with calibrated_with(None):
        case = Case(model=model, device=WHERE, task=task, dtype="fp32", optimizer="none", **tags)
        seconds = factor * predict(case).step_time_s["p50"]
    return record(f"networks.{model}.{part}", tags["batch"] / seconds, unit="1/s", **tags)


def test_a_figure_becomes_the_row_of_what_was_run():
    figures = [
        network("gpt2", "training", 1.0, batch=1, seq=128),
        record("matmul.fp32", 1e12, side=1024),
        record("convolution.fp32.nchw", 1e12, **CONV),
        record("attention.forward", 1e12, **ATTENTION),
    ]
    rows, left_out = measurements_of(figures, 14)
    assert not left_out
    step, product, conv, attention = map(question, rows)
    assert (step.case.model, step.case.task, step.case.seq, step.case.optimizer) == ("gpt2", "train", 128, "none")
    assert step.case.software.torch == "2.13"
    assert rows[1].value == pytest.approx(2 * 1024**3 / 1e12)
    assert product.op.outputs[0].shape == (1024, 1024)
    assert conv.op.outputs[0].shape == (8, 128, 28, 28)
    assert rows[2].value == pytest.approx(2 * 8 * 128 * 128 * 28 * 28 * 9 / 1e12)
    assert attention.op.attrs["causal"]
    assert attention.op.outputs[0].shape == (1, 12, 512, 64)


def test_the_newest_figure_counts_and_those_of_no_step_are_not_asked():
    old, new = record("matmul.fp32", 1e11, side=1024), record("matmul.fp32", 2e11, "2026-11-22T10:00", side=1024)
    others = [record("disk.write", 1e9, unit="B/s"), record("matmul.fp32.1thread", 1e10, side=1024, threads=1)]
    rows, left_out = measurements_of([old, new, *others], 14)
    assert not left_out
    assert [row.value for row in rows] == [pytest.approx(2 * 1024**3 / 2e11)]


def test_how_far_the_samples_of_a_figure_stray_is_kept():
    figure = replace(record("matmul.fp32", 1e12, side=1024), p10=0.9e12, p90=1.1e12, n=20)
    (row,), _ = measurements_of([figure], 14)
    (found,) = gather([row], Shelf()).rows
    assert found.spread_frac == pytest.approx(math.log(1.1 / 0.9) / 2.563, abs=1e-4)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"status": "busy"}, "others took the CPU"),
        ({"status": "throttled"}, "throttled"),
        ({"threads": 2}, "2 of 14 threads"),
        ({"side": "wide"}, "does not say its sizes"),
    ],
)
def test_a_figure_that_says_nothing_of_the_device_is_named(tags, words):
    rows, (rejected,) = measurements_of([record("matmul.fp32", 1e12, **{"side": 1024, **tags})], 14)
    assert not rows
    assert words in rejected.reason
    assert rejected.where.startswith("matmul.fp32 of 2026-11-21")


def op_row(model, shape, factor):
    """A row of one operator that takes ``factor`` times what is predicted."""
    fields = dict.fromkeys(("source", "device_variant", "layout", "notes"), "")
    fields |= {"device": WHERE, "model": model, "task": "infer", "precision": "fp32", "shape": shape, "count": 1}
    one = Measurement(
        **fields, batch=None, framework="PyTorch 2.4", metric="s_per_step", value=1.0, where=f"{model} {shape}"
    )
    (found,) = gather([replace(one, value=_predicted_s(one))], Shelf()).rows
    assert found.log_ratio == pytest.approx(0.0, abs=1e-4)
    return replace(one, value=factor * _predicted_s(one))


def _predicted_s(one):
    from rigwise.calibrate.linearise import linearise_operators

    asked = question(one)
    return linearise_operators(asked, [asked.op]).predicted_s


def test_single_operators_move_the_constants_of_their_kind():
    shapes = [("op:gemm", f"M{n} N{n} K{n}") for n in (512, 1024, 2048)]
    found = gather([op_row(model, shape, 1.5) for model, shape in shapes], Shelf())
    assert not found.left_out
    assert {row.task for row in found.rows} == {OPERATOR}
    taught = fit(found.rows, found.where, "2026-11-21")
    (scales,) = (s for s in taught.learned.scales if s.rows)
    assert scales.log_scale["gemm"] > 0.2
    assert abs(scales.log_scale["attention"]) < scales.log_scale["gemm"]
    bert = Case(model="bert-base", device=WHERE, task="infer", batch=8, dtype="fp32")
    with calibrated_with(None):
        before_s = predict(bert).step_time_s["p50"]
    with calibrated_with(taught.learned):
        assert predict(bert).step_time_s["p50"] > 1.15 * before_s


def test_an_operator_says_less_than_a_step():
    """The same surprise in one kernel and in a whole network moves the constants less."""
    with calibrated_with(None):
        case = Case(model="bert-base", device=WHERE, task="infer", batch=8, dtype="fp32")
        seconds = 1.5 * predict(case).step_time_s["p50"]
    step = replace(op_row("op:gemm", "M64 N64 K64", 1.0), model="bert-base", shape="", batch=8, value=seconds)

    def moved(row):
        found = gather([row], Shelf())
        taught = fit(found.rows, found.where, "2026-11-21")
        return next(s for s in taught.learned.scales if s.rows).log_scale["gemm"]

    assert 0 < moved(op_row("op:gemm", "M1024 N768 K768", 1.5)) < moved(step)


@pytest.mark.parametrize(("model", "shape"), [("op:attention", "B1 A12 S512"), ("op:attention", "S512 D64")])
def test_attention_without_a_size_is_refused(model, shape):
    row = replace(op_row("op:gemm", "M64 N64 K64", 1.0), model=model, shape=shape)
    with pytest.raises(InvalidInputError, match="does not say"):
        question(row)


def test_the_command_learns_from_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "store.db"))
    output = str(tmp_path / "calibration.toml")

    def run(*words):
        return CliRunner().invoke(root, ["calibrate", "--output", output, *words], standalone_mode=False)

    empty = run("--from-store", "--device", WHERE)
    assert isinstance(empty.exception, InvalidInputError)
    assert "rigwise bench" in str(empty.exception)
    cores = cpu(WHERE).cores
    figures = [network("resnet18", "forward", 1.4, batch=16, image_size=224), record("matmul.fp32", 1e12, side=1024)]
    with open_store(str(tmp_path / "store.db")) as store:
        store.add([replace(one, tags={**one.tags, "threads": cores}) for one in figures])
        store.add([record("matmul.fp64", 1e12, side=1024, status="busy")])
    done = run("--from-store", "--device", WHERE, "--json")
    assert done.return_value == 0, done.output
    document = json.loads(done.stdout)
    assert document["rows"]["fitted"] == 2
    assert "others took the CPU" in document["rows"]["left_out"][0]["reason"]
    assert read_calibration(output).devices == {WHERE}
    assert isinstance(run().exception, InvalidInputError)
