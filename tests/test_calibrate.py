"""``rigwise calibrate``: what rows teach, what they may not touch, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.calibrate.file import write_calibration
from rigwise.calibrate.fit import fit, gather
from rigwise.calibrate.shelf import Shelf
from rigwise.calibrate.suggest import suggest
from rigwise.calibrate.update import prior_covariance
from rigwise.cli.main import root
from rigwise.errors import InvalidInputError
from rigwise.estimate.calibration import calibrated_with, load_calibration, packaged, read_calibration
from rigwise.estimate.fleet import estimate_fleet
from rigwise.estimate.learned import GROUPS, REGIMES, kernel, points_of
from rigwise.estimate.predict import predict
from rigwise.facts.catalogue import device, resolve_device
from rigwise.machine.machine import Machine
from rigwise.measurement.measurement import Measurement
from rigwise.workload.case import Case
from rigwise.workload.lower import Recipe

MODELS = ("resnet50", "vit-b-16", "mobilenet-v2", "vgg16", "bert-base")
HEADER = "device,model,task,precision,batch,metric,value"


def case(model, where="rtx-4090", **changes):
    return Case(**{"model": model, "device": where, "task": "infer", "batch": 32, "dtype": "amp-fp16", **changes})


def row(model, factor, where="rtx-4090", **changes):
    """A measurement that is ``factor`` times the packaged prediction."""
    with calibrated_with(None):
        seconds = predict(case(model, where)).step_time_s["p50"] * factor
    fields = dict.fromkeys(("source", "device_variant", "shape", "notes"), "")
    fields |= {"device": where, "model": model, "task": "infer", "precision": "amp_fp16", "layout": "nchw"}
    fields |= {"count": 1, "batch": 32, "framework": "PyTorch 2.4 eager", "metric": "s_per_step", "value": seconds}
    return Measurement(**{**fields, "where": f"made up: {model}", **changes})


def fitted(rows, targets=()):
    found = gather(rows, Shelf())
    assert not found.left_out
    return fit(found.rows, found.where, "2026-11-21", targets)


def p50(question):
    return predict(question).step_time_s["p50"]


@pytest.fixture(scope="module")
def slow():
    """A card on which everything takes 1.3 times what was predicted."""
    return fitted([row(model, 1.3) for model in MODELS[:4]])


def test_a_slow_card_is_learned_from_four_rows_and_holds_for_others(slow):
    for model in ("resnet101", "bert-base", "resnet50"):
        with calibrated_with(None):
            before = predict(case(model))
        with calibrated_with(slow.learned):
            after = predict(case(model))
        assert 1.1 < after.step_time_s["p50"] / before.step_time_s["p50"] < 1.4
        width = [p.step_time_s["p90"] / p.step_time_s["p10"] for p in (before, after)]
        assert width[1] < width[0]
        assert after.provenance == "measured-here"
        assert "4 measured rows of rtx-4090" in after.assumed
        assert after.bound_s == before.bound_s
        parts = after.forward_s + after.backward_s + after.optimizer_s
        assert parts == pytest.approx(after.step_time_s["p50"])


def test_what_was_measured_stays_with_its_device_and_regime(slow):
    with calibrated_with(slow.learned):
        assert predict(case("resnet50", "rtx-3090")).provenance != "measured-here"
        assert predict(case("resnet50", mode="compiled")).provenance != "measured-here"
        other = p50(case("resnet50", "rtx-3090"))
    with calibrated_with(None):
        assert other == p50(case("resnet50", "rtx-3090"))
        assert load_calibration().learned is None


def test_a_workload_like_a_measured_one_follows_it_more():
    """One slow convolutional network says more of its relatives than of transformers."""
    learned = fitted([row("resnet50", 1.4), *(row(model, 1.0) for model in ("vit-b-16", "bert-base"))]).learned
    ratio = {}
    for model in ("resnet101", "vit-l-16"):
        with calibrated_with(None):
            before = p50(case(model))
        with calibrated_with(learned):
            ratio[model] = p50(case(model)) / before
    assert ratio["resnet101"] > 1.15
    assert abs(ratio["vit-l-16"] - 1) < 0.07


def test_a_sibling_teaches_the_workload_and_narrows_the_interval():
    learned = fitted([row(model, 1.25, "rtx-3090") for model in ("resnet50", "resnet101")], {"rtx-4090"}).learned
    with calibrated_with(None):
        before = predict(case("resnet50"))
    with calibrated_with(learned):
        after = predict(case("resnet50"))
    assert 1.1 < after.step_time_s["p50"] / before.step_time_s["p50"] < 1.3
    assert after.step_time_s["p90"] / after.step_time_s["p10"] < before.step_time_s["p90"] / before.step_time_s["p10"]
    assert after.provenance == before.provenance
    assert any("2 of other devices" in words for words in after.assumed)


def test_steps_that_stray_teach_less_and_leave_the_interval_wider():
    found = [fitted([row("resnet50", 1.4, spread_frac=spread)]).learned for spread in (0.0, 0.3)]
    answers = []
    for learned in found:
        with calibrated_with(learned):
            answers.append(predict(case("resnet101")))
    steady, straying = answers
    assert straying.step_time_s["p50"] < steady.step_time_s["p50"]
    widths = [np.log(p.step_time_s["p90"] / p.step_time_s["p10"]) for p in answers]
    assert widths[0] < widths[1]
    with calibrated_with(None):
        unmeasured = predict(case("resnet101"))
    assert widths[1] <= np.log(unmeasured.step_time_s["p90"] / unmeasured.step_time_s["p10"]) + 1e-9


def test_one_wrong_row_among_many_moves_little_and_is_named():
    good = [row(model, 1.0) for model in (*MODELS, "resnet101", "resnet18", "densenet121")]
    bad = row("resnet34", 4.0)
    found = fitted([*good, bad])
    weight = dict(zip((r.model for r in found.rows), found.posterior.weight, strict=True))
    assert weight["resnet34"] < 0.5 < weight["resnet18"]
    with calibrated_with(None):
        before = p50(case("vgg19"))
    with calibrated_with(found.learned):
        assert abs(np.log(p50(case("vgg19")) / before)) < 0.2


def test_no_time_is_scaled_below_its_roofs(slow):
    quick = replace(slow.learned.scales[0], log_scale=dict.fromkeys(GROUPS, -5.0))
    scales = tuple(replace(s, log_scale=quick.log_scale) for s in slow.learned.scales)
    with calibrated_with(replace(slow.learned, scales=scales, evidence=())):
        p = predict(case("vgg16", batch=256))
    assert p.step_time_s["p50"] >= p.bound_s
    assert p.mfu <= 1


def test_the_planner_sees_what_predict_says(slow):
    with calibrated_with(slow.learned):
        told = predict(Case(model="resnet50", device="rtx-4090", batch=64, dtype="amp-fp16", count=2))
        machines = [Machine(device=device(name), count=2) for name in ("rtx-3090", "rtx-4090")]
        recipe = Recipe(dtype="amp-fp16", micro_batch=32, recompute="none", zero=0)
        question = replace(told.case, count=2, batch=64, device="")
        found = estimate_fleet(question, recipe, machines)
        plain = predict(Case(model="resnet50", device="rtx-3090", batch=64, dtype="amp-fp16", count=2))
    for index, one in enumerate((plain, told)):
        assert found.step_p50_s[index] == pytest.approx(one.step_time_s["p50"])
        assert found.step_p90_s[index] == pytest.approx(one.step_time_s["p90"])


def test_left_out_errors_are_those_of_a_fit_without_the_row():
    rows = [row(model, factor) for model, factor in zip(MODELS, (1.2, 1.1, 1.15, 1.25, 1.2), strict=True)]
    whole, without = fitted(rows), fitted(rows[1:])
    with calibrated_with(None):
        before = p50(case(MODELS[0]))
    with calibrated_with(without.learned):
        off = float(np.log(1.2 * before / p50(case(MODELS[0]))))
    assert whole.rows[0].model == MODELS[0]
    assert whole.posterior.left_out[0] == pytest.approx(off, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(["t4", "rtx-3090", "rtx-4090", "l4", "core-i9-10940x"]), min_size=1, unique=True))
def test_the_prior_is_a_covariance(names):
    covariance = prior_covariance([resolve_device(name) for name in names], packaged())
    assert covariance.shape == (len(names) * len(REGIMES) * len(GROUPS),) * 2
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-12


def test_errors_of_workloads_are_correlated_as_a_kernel_must(slow):
    points = points_of(slow.rows)
    found = kernel(points, points, packaged().learning)
    assert np.allclose(np.diag(found), 1.0)
    assert np.linalg.eigvalsh(found).min() > -1e-9


def test_a_file_says_again_what_was_learned(slow, tmp_path):
    path = tmp_path / "calibration.toml"
    write_calibration(path, slow.learned, {"rows": 4})
    again = read_calibration(path)
    assert again.scales == slow.learned.scales
    assert again.evidence == slow.learned.evidence
    assert again.where == str(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "not TOML"),
        (lambda text: text.replace("rigwise.calibration/1", "rigwise.calibration/2"), "upgrade rigwise"),
        (lambda text: text.replace("rigwise.calibration/1", "shopping"), "no calibration"),
        (lambda text: text.replace(packaged().digest, "0" * 16), "other constants"),
        (lambda text: text.replace("gemm=", "gem=", 1), "scales of rtx-4090"),
        (lambda text: text.replace("rows = 4", 'rows = "four"'), "rows"),
        (lambda text: text + "\nextra = 1\n", "extra"),
        (lambda text: text.replace("residual = ", "residual = nan #", 1), "residual"),
        (lambda text: "", "empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_remedy(slow, tmp_path, change, words):
    path = tmp_path / "calibration.toml"
    write_calibration(path, slow.learned, {"rows": 4})
    path.write_text(change(path.read_text()))
    with pytest.raises(InvalidInputError, match=words) as caught:
        read_calibration(path)
    assert "--calibration none" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_file_of_the_environment_is_read_and_none_goes_without(slow, tmp_path, monkeypatch):
    path = tmp_path / "calibration.toml"
    write_calibration(path, slow.learned, {"rows": 4})
    monkeypatch.setenv("RIGWISE_CALIBRATION", str(path))
    assert predict(case("resnet50")).provenance == "measured-here"
    monkeypatch.setenv("RIGWISE_CALIBRATION", "none")
    assert predict(case("resnet50")).provenance != "measured-here"
    monkeypatch.setenv("RIGWISE_CALIBRATION", str(tmp_path / "missing.toml"))
    with pytest.raises(InvalidInputError, match="missing"):
        predict(case("resnet50"))


def test_rows_that_cannot_be_fitted_are_named():
    rows = [
        row("resnet50", 1e3, where="rtx-4090"),
        row("resnet50", 1e-3),
        row("resnet50", 1.0, device="rtx-4099"),
        replace(row("resnet50", 1.0), model="no-such-net"),
        row("resnet50", 1.0, count=4),
        row("vgg16", 1.0),
    ]
    found = gather(rows, Shelf(), {"rtx-4090"})
    assert [r.model for r in found.rows] == ["vgg16"]
    reasons = " | ".join(one.reason for one in found.left_out)
    for words in ("times the prediction", "lower bound", "rtx-4099", "no-such-net", "4 devices"):
        assert words in reasons


def table(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return str(path)


def test_the_command_writes_reports_adds_and_keeps(tmp_path):
    good = table(tmp_path / "steps.csv", *(f"rtx-4090,{m},infer,amp_fp16,32,ms_per_step,14" for m in MODELS[:2]))
    more = table(tmp_path / "more.csv", "rtx-3090,resnet50,infer,amp_fp16,32,ms_per_step,14")
    bad = table(tmp_path / "bad.csv", "rtx-4090,resnet50,infer,amp_fp16,32,ms_per_step,-1")
    output = str(tmp_path / "new" / "calibration.toml")

    def run(*arguments):
        return CliRunner().invoke(root, ["calibrate", *arguments, "--output", output], standalone_mode=False)

    first = run(good, "--json")
    assert first.return_value == 0, first.output
    document = json.loads(first.stdout)
    assert document["rows"]["fitted"] == 2
    assert document["errors"][0]["device"] == "rtx-4090"
    assert {c["group"] for c in document["constants"]} >= {"conv", "gemm", "streaming"}
    assert read_calibration(output).devices == {"rtx-4090"}
    assert run(more).return_value == 0
    assert read_calibration(output).devices == {"rtx-3090", "rtx-4090"}
    kept = (tmp_path / "new" / "calibration.toml").read_text()
    refused = run(bad)
    assert refused.return_value == 1
    assert "bad.csv line 2: value is '-1'" in refused.output
    assert "stays in force" in refused.output
    assert run(more, "--device", "t4").return_value == 1
    assert (tmp_path / "new" / "calibration.toml").read_text() == kept
    (tmp_path / "new" / "calibration.toml").write_text("schema = 1")
    assert "--fresh" in str(run(good).exception)
    assert run(good, "--fresh", "--dry-run").return_value == 0
    assert (tmp_path / "new" / "calibration.toml").read_text() == "schema = 1"


def test_a_file_that_cannot_be_used_stops_answers_but_not_a_fresh_fit(tmp_path, monkeypatch):
    broken = tmp_path / "calibration.toml"
    broken.write_text("schema = ")
    monkeypatch.setenv("RIGWISE_CALIBRATION", str(broken))
    with pytest.raises(InvalidInputError, match="rigwise calibrate"):
        predict(case("resnet50"))
    good = table(tmp_path / "steps.csv", "rtx-4090,resnet50,infer,amp_fp16,32,ms_per_step,14")
    found = CliRunner().invoke(root, ["calibrate", good, "--fresh"], standalone_mode=False)
    assert found.return_value == 0, found.output
    assert predict(case("resnet50")).provenance == "measured-here"


def test_predict_takes_rows_with_the_question(tmp_path):
    steps = table(tmp_path / "steps.csv", "rtx-3090,resnet50,infer,amp_fp16,32,ms_per_step,20")
    flags = ["predict", "resnet50", "--device", "rtx-4090", "--task", "infer", "--batch", "32", "--dtype", "amp-fp16"]
    plain = json.loads(CliRunner().invoke(root, [*flags, "--json"]).stdout)
    told = json.loads(CliRunner().invoke(root, [*flags, "--measured", steps, "--json"]).stdout)
    assert told["step_time_s"]["p50"] > plain["step_time_s"]["p50"]
    assert any("1 of other devices" in words for words in told["assumed"])


def test_a_calibration_of_another_device_is_refused(slow, tmp_path):
    path = tmp_path / "calibration.toml"
    write_calibration(path, slow.learned, {"rows": 4})
    for command in (["predict", "resnet50", "--device", "t4"], ["compare", "resnet50", "--device", "t4,l4"]):
        found = CliRunner().invoke(root, [*command, "--calibration", str(path)])
        assert isinstance(found.exception, InvalidInputError)
        assert "fitted on rtx-4090, not on t4" in str(found.exception)
    assert CliRunner().invoke(root, ["predict", "resnet50", "--device", "t4", "--calibration", "none"]).exit_code == 0


def test_suggestions_differ_and_leave_less_and_less():
    found = suggest(device("rtx-4090"))
    assert len({(one.model, one.task) for one in found}) == 5
    left = [one.spread_left for one in found]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0]
    assert len({one.model.split("-")[0] for one in found}) > 2
