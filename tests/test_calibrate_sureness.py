"""How sure a calibration may be: rows that disagree, what trains, CPUs, layers, and what is said of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from rigwise.calibrate.file import write_calibration
from rigwise.calibrate.fit import fit, gather
from rigwise.calibrate.kept import measurements_of
from rigwise.calibrate.shelf import Shelf
from rigwise.calibrate.suggest import sureness
from rigwise.cli.main import root
from rigwise.errors import InvalidInputError
from rigwise.estimate.calibration import calibrated_with, packaged, read_calibration
from rigwise.estimate.learned import points_of, workload_covariance, workload_spreads
from rigwise.estimate.predict import predict
from rigwise.facts.catalogue import device
from rigwise.measurement.measurement import Measurement
from rigwise.measurement.records import Record
from rigwise.report.calibration_text import sure_lines
from rigwise.workload.case import Case

CARD, CPU = "rtx-4090", "core-i9-10940x"
MODELS = ("resnet50", "vit-b-16", "mobilenet-v2", "vgg16", "bert-base", "densenet121")


def case(model, where=CARD, task="infer", **changes):
    dtype = "fp32" if where == CPU else "amp-fp16"
    return Case(model=model, device=where, task=task, batch=16, dtype=dtype, optimizer="none", **changes)


def row(model, factor, where=CARD, task="infer"):
    """A measurement that is ``factor`` times the packaged prediction."""
    with calibrated_with(None):
        seconds = predict(case(model, where, task)).step_time_s["p50"] * factor
    fields = dict.fromkeys(("source", "device_variant", "shape"), "")
    fields |= {"device": where, "model": model, "task": task, "layout": "nchw", "notes": "no optimizer"}
    fields |= {"precision": "fp32" if where == CPU else "amp_fp16", "count": 1, "batch": 16, "value": seconds}
    return Measurement(**fields, framework="PyTorch 2.4 eager", metric="s_per_step", where=f"made up: {model} {task}")


def fitted(rows):
    found = gather(rows, Shelf())
    assert not found.left_out
    return fit(found.rows, found.where, "2026-11-22")


def width(learned, question):
    with calibrated_with(learned):
        step_s = predict(question).step_time_s
    return float(np.log(step_s["p90"] / step_s["p10"]))


@pytest.fixture(scope="module")
def torn():
    """Rows of one card, every other of them half as slow again."""
    return fitted([row(model, 1.5 if index % 2 else 1.0) for index, model in enumerate(MODELS)])


def test_rows_that_disagree_widen_every_interval(torn):
    agreed = fitted([row(model, 1.25) for model in MODELS])
    assert torn.posterior.dispersion[0] > 1.5
    assert agreed.posterior.dispersion[0] < 1.05
    for model in ("resnet101", "vit-l-16", "resnet50"):
        assert width(torn.learned, case(model)) > 1.2 * width(agreed.learned, case(model))


def test_rows_that_stray_may_leave_an_interval_wider_than_without_any(torn):
    assert width(torn.learned, case("vit-l-16")) > 1.05 * width(None, case("vit-l-16"))


def test_one_row_disagrees_with_nobody():
    assert fitted([row("resnet50", 1.8)]).posterior.dispersion.tolist() == [1.0]


def test_a_file_keeps_how_far_rows_stray_and_refuses_what_no_fit_writes(torn, tmp_path):
    path = tmp_path / "calibration.toml"
    write_calibration(path, torn.learned, {"rows": len(torn.rows)})
    assert read_calibration(path).dispersion == torn.learned.dispersion
    text, times = path.read_text(), f"rtx-4090={torn.learned.dispersion[CARD]}"
    assert times in text
    for wrong in ("rtx-4090=0.5", "rtx-4090=nan", "rtx-4090=1e9", 'rtx-4090="much"'):
        path.write_text(text.replace(times, wrong))
        with pytest.raises(InvalidInputError, match="dispersion"):
            read_calibration(path)


def test_what_trains_errs_alike_however_unlike_it_is(torn):
    conv, text = (next(one for one in torn.rows if one.model == model) for model in ("vgg16", "bert-base"))
    points = points_of([replace(one, task=task) for task in ("infer", "train") for one in (conv, text)])
    covariance = workload_covariance(points, points, packaged())
    alike = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert alike[0, 1] < 0.2
    assert alike[2, 3] > alike[0, 1] + 0.2
    assert alike[0, 3] < alike[0, 1]


def test_workloads_on_a_cpu_and_compiled_err_further(torn):
    card = torn.rows[0]
    compiled = replace(card, regime=replace(card.regime, mode="compiled"))
    points = points_of([card, compiled, replace(card, kind="cpu"), replace(card, task="train")])
    spreads = workload_spreads(points, packaged())
    assert spreads[0] < spreads[1] < spreads[2]
    covariance = workload_covariance(points, points, packaged())
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert covariance[3, 3] > covariance[0, 0]


def record(name, value, n=20, **tags):
    tags = {"device": CPU, "threads": 14, "format": "fp32", "status": "ok", "method": 1, **tags}
    when, software = "2026-11-22T10:00", '{"torch": "2.13.0+cpu"}'
    return Record(
        kind="bench",
        name=name,
        value=value,
        unit="FLOP/s",
        machine_id="m",
        when=when,
        software=software,
        tags=tags,
        n=n,
    )


LAYER = {"batch": 1, "seq": 256, "width": 768, "heads": 12}


def test_a_layer_of_a_transformer_is_a_row_of_products_and_attention():
    figures = [record(f"transformer.fp32.{part}", 4e11, **LAYER) for part in ("forward", "training")]
    (found,), left_out = measurements_of(figures, 14)
    assert not left_out
    assert (found.model, found.shape) == ("op:layer", "B1 S256 W768 A12")
    flop = 2 * 12 * 768**2 * 256 + 2 * 256**2 * 768
    assert found.value == pytest.approx(flop / 4e11)
    (fits,) = gather([found], Shelf()).rows
    assert fits.task == "infer"
    assert fits.shares["gemm"] > 0.7
    assert fits.shares["attention"] > 0.01
    assert sum(fits.shares.values()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("shape", ["", "B1 S256 W768", "B1 S256 W768 A0", "B1 S256 W768 A7", "B1 S9999999999 W8 A2"])
def test_a_layer_without_its_sizes_is_left_out(shape):
    (found,), _ = measurements_of([record("transformer.fp32.forward", 4e11, **LAYER)], 14)
    (reason,) = gather([replace(found, shape=shape)], Shelf()).left_out
    assert "is no layer's" in reason.reason


def test_a_handful_of_samples_does_not_tell_how_far_runs_stray():
    for n, least in ((1, 0.2), (4, 0.2), (5, 0.0)):
        (found,), _ = measurements_of([record("matmul.fp32", 1e12, n=n, side=1024)], 14)
        assert found.spread_frac == least


def test_the_next_workload_is_none_that_was_measured_and_leaves_less():
    nothing = sureness(device(CARD), ())
    first = nothing.following
    assert first.spread_left < nothing.spread
    measured = replace(row(first.model, 1.0), batch=first.batch, task=first.task)
    found = gather([measured], Shelf()).rows
    after = sureness(device(CARD), found)
    assert after.spread == pytest.approx(first.spread_left, rel=0.15)
    assert (after.following.model, after.following.task) != (first.model, first.task)
    assert sureness(device(CARD), found, 2.0).spread > after.spread


def test_the_command_says_how_sure_it_is_and_what_to_measure(tmp_path):
    steps = tmp_path / "steps.csv"
    head = "device,model,task,precision,batch,metric,value"
    steps.write_text(f"{head}\n{CARD},resnet50,infer,amp_fp16,32,ms_per_step,14\n")
    words = ["calibrate", str(steps), "--output", str(tmp_path / "calibration.toml")]
    document = json.loads(CliRunner().invoke(root, [*words, "--json"]).stdout)
    (sure,) = document["sureness"]
    assert sure["device"] == CARD
    assert 0 < sure["following"]["spread_left"] < sure["spread"] < 1
    lines = list(sure_lines(document))
    assert all(len(line) < 80 for line in lines)
    shown = CliRunner().invoke(root, words).stdout
    assert "8 of 10 other steps" in shown
    assert f"Surer with {sure['following']['model']}" in shown
    straying = list(sure_lines({"sureness": [{**sure, "dispersion": 1.7}]}))
    assert "stray 1.7 times further" in straying[1]
