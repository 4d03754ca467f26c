"""Scores, folds and baselines on small tables, and the command around them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rigwise.calibrate.baselines import PEAK_FRAC, SIBLING, flops_over_peak, linear, roofline, sibling, simple_baselines
from rigwise.calibrate.judge import judge, judge_document, sampled
from rigwise.calibrate.metrics import coverage_at, errors_of, intervals_of
from rigwise.calibrate.question import question
from rigwise.calibrate.regret import choices, read_prices, regret_of
from rigwise.calibrate.rows import folds, rows_of
from rigwise.calibrate.score import CALL_S, call_s, score
from rigwise.calibrate.shelf import Shelf
from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import resolve_device
from rigwise.measurement.measurement import Measurement
from rigwise.measurement.tables import read_tables

STEPS = Path(__file__).parent / "data" / "measured" / "steps.csv"


@pytest.fixture(scope="module")
def few() -> tuple[Measurement, ...]:
    return read_tables([STEPS])[0]


@pytest.fixture(scope="module")
def many(few):
    """Two networks on two cards at 24 batches, each measured at 1.25 times what is predicted."""
    asked = [replace(m, batch=batch, metric="s_per_step") for m in few[:4] for batch in range(8, 200, 8)]
    scores, _ = score([question(m) for m in asked], Shelf())
    return rows_of([replace(one, measured_s=one.p50_s * 1.25) for one in scores])


def test_errors_are_what_their_definitions_say(many) -> None:
    everything = np.ones(len(many.scores), dtype=bool)
    found = errors_of(many.predicted_s, many.measured_s, everything)
    assert found.n == 96
    assert found.mape_frac == pytest.approx(1 - 1 / 1.25)
    assert found.geo_err_frac == pytest.approx(0.25)
    assert found.p90_frac == pytest.approx(0.25)
    assert found.bias_frac == pytest.approx(1 / 1.25 - 1)
    assert errors_of(np.full(96, np.nan), many.measured_s, everything) is None


def test_intervals_are_scored_in_logarithms() -> None:
    low, high, true = np.array([1.0, 1.0]), np.array([math.e, math.e]), np.array([2.0, math.e**2])
    found = intervals_of(low, high, true, np.array([True, True]))
    assert found.coverage_frac == 0.5
    assert found.width == pytest.approx(math.e)
    assert found.interval_score == pytest.approx((1 + 1 + 10 * 1) / 2)


def test_coverage_follows_a_log_normal() -> None:
    draws = np.exp(np.random.default_rng(0).normal(0, 0.3, 20_000))
    z90 = 1.2815515655446004
    low, high = np.full_like(draws, np.exp(-0.3 * z90)), np.full_like(draws, np.exp(0.3 * z90))
    inside = coverage_at(low, np.ones_like(draws), high, draws, np.array([0.2, 0.5, 0.8]))
    assert inside == pytest.approx([0.2, 0.5, 0.8], abs=0.01)


def test_no_fold_is_fitted_on_what_it_is_judged_on(many) -> None:
    families = replace(many, family_fold=np.arange(96) % 3)
    for rows, fold in ((many, "device"), (families, "family")):
        tested = np.zeros(96, dtype=int)
        for test, train in folds(rows, fold):
            key = rows.device if fold == "device" else rows.family_fold
            assert not set(key[test]) & set(key[train])
            tested += test
        assert tested.tolist() == [1] * 96


def test_rows_that_beat_their_bound_are_not_fitted(many) -> None:
    doubted = replace(many, trusted=np.arange(96) % 2 == 0)
    assert not any(train[1::2].any() for _, train in folds(doubted, "device"))


def test_flops_over_peak_is_arithmetic(few) -> None:
    gemm = next(m for m in few if m.model == "op:linear")
    rows = rows_of(score([question(gemm)], Shelf())[0])
    peak = resolve_device("v100-pcie-32gb").peak("fp32")
    assert flops_over_peak(rows) == pytest.approx([2 * 4096**3 / (PEAK_FRAC * peak)])


def test_what_a_table_adds_to_every_call_is_told_to_all_that_are_not_fitted(few) -> None:
    gemm = next(m for m in few if m.model == "op:linear")
    around_s = CALL_S["neusight_ops"]["linear"]
    plain, timed = (question(replace(gemm, source=source)) for source in ("made-up", "neusight_ops"))
    found, _ = score([plain, timed], Shelf())
    assert found[1].p50_s - found[0].p50_s == pytest.approx(around_s)
    assert found[1].bound_s == found[0].bound_s
    first, second = flops_over_peak(rows_of(found))
    assert second - first == pytest.approx(around_s)
    assert call_s(question(replace(gemm, source="neusight_ops", model="op:gelu", shape="B8 H64"))) == 12e-6


def test_a_roofline_finds_its_efficiency_beside_what_a_table_adds(many) -> None:
    roof = np.maximum(
        many.flops / many.peak_flops_per_s,
        (many.activation_bytes + many.parameter_bytes) / many.memory_bytes_per_s,
    )
    slower = replace(many, measured_s=roof / 0.4 + 1e-3, call_s=np.full(len(roof), 1e-3))
    assert roofline(slower, "device") == pytest.approx(slower.measured_s)


def test_baselines_recover_a_law_of_their_own_form(many) -> None:
    compute_s = many.flops / many.peak_flops_per_s
    stream_s = many.activation_bytes / many.memory_bytes_per_s
    lawful = replace(many, measured_s=3 * compute_s + 2 * stream_s)
    for fold in ("device",):
        assert linear(lawful, fold) == pytest.approx(lawful.measured_s, rel=1e-6)
    roof = np.maximum(compute_s, (many.activation_bytes + many.parameter_bytes) / many.memory_bytes_per_s)
    assert roofline(replace(many, measured_s=roof / 0.4), "device") == pytest.approx(roof / 0.4)


def test_a_sibling_scales_by_the_root_of_peak_and_bandwidth(many) -> None:
    scale = np.sqrt(many.peak_flops_per_s * many.memory_bytes_per_s)
    batch = np.array([one.question.case.batch for one in many.scores])
    assert sibling(replace(many, measured_s=batch / scale)) == pytest.approx(batch / scale)
    alone = rows_of([one for one in many.scores if one.question.device.id == "rtx-3090"])
    assert np.isnan(sibling(alone)).all()
    assert SIBLING not in simple_baselines(alone, "family")


def test_trees_answer_in_both_folds_or_say_what_they_need(many) -> None:
    pytest.importorskip("sklearn", reason="extra judge")
    from rigwise.calibrate.baselines_trees import trees

    found, half = trees(replace(many, family_fold=np.arange(96) % 2), "device")
    assert np.isfinite(found).all()
    assert (half > 0).all()


def test_trees_bear_columns_that_nobody_knows(many) -> None:
    pytest.importorskip("sklearn", reason="extra judge")
    from rigwise.calibrate.baselines_trees import trees

    def elsewhere(one):
        question = replace(one.question, measurement=replace(one.question.measurement, framework="X 1.0"))
        return replace(one, question=replace(question, device=replace(question.device, tdp_w=None, l2_bytes=None)))

    unknown = rows_of([elsewhere(one) for one in many.scores])
    assert np.isfinite(trees(unknown, "device")[0]).all()


def test_regret_is_the_cost_of_the_wrong_card(many) -> None:
    groups = choices(many, {})
    assert sorted(map(len, groups)) == [2, 2]
    assert regret_of(many.predicted_s, many, groups, {}).mean_frac == 0
    backwards = regret_of(1 / many.predicted_s, many, groups, {})
    assert backwards.wrong_frac == 1
    slow, quick = (many.measured_s[many.device == name].sum() for name in ("rtx-3090", "rtx-4090"))
    assert 0.5 < backwards.mean_frac / (slow / quick - 1) < 2
    even = {"rtx-3090": 1.0, "rtx-4090": 100.0}
    assert regret_of(1 / many.predicted_s, many, choices(many, even), even).wrong_frac < 1


def test_a_row_in_the_wrong_unit_is_reported_by_physics(few) -> None:
    wrong = [replace(m, metric="us_per_step") for m in few[2:3]]
    found = judge([*few[:2], *wrong], Shelf())
    assert [bool(one.beats_bound) for one in found.rows.scores] == [False, False, True]
    (beaten,) = judge_document(found, [], [])["beat_bound"]
    (other,) = (one for one in found.rows.scores[:2] if one.question.measurement.model == beaten["model"])
    assert beaten["others"] == 1
    assert beaten["others_median_frac"] == pytest.approx(other.measured_s / other.bound_s)


def test_several_machines_in_one_table_are_told_apart(few) -> None:
    found = judge(few, Shelf(), ("device",))
    assert [group.labels["device"] for group in found.groups] == sorted(
        ["rtx-3090", "rtx-4090", "v100-pcie-32gb", "a100-sxm4-80gb x8"]
    )
    assert not any(group.is_claim for group in found.groups)


def test_halves_add_up_to_the_step(few) -> None:
    rows = [replace(few[0], task=task, notes="no optimizer") for task in ("fwd", "bwd", "train")]
    scores, _ = score([question(m) for m in rows], Shelf())
    time_s = {one.question.part: one.p50_s for one in scores}
    assert time_s["forward"] + time_s["backward"] == pytest.approx(time_s["step"], rel=0.05)
    assert all(one.bound_s <= one.p10_s <= one.p50_s <= one.p90_s for one in scores)


def test_sampling_is_even(few) -> None:
    assert [m.where for m in sampled(few, 3)] == [few[0].where, few[2].where, few[4].where]


# The command


def run(*arguments: str):
    return CliRunner().invoke(command_line, ["judge", *arguments])


def test_the_document_counts_every_row(tmp_path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(STEPS.read_text() + "lab,RTX 9999,,1,resnet18,infer,fp32,,1,,,ms_per_step,1,\n" + "lab,,\n")
    answer = run(str(table), "--json")
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["rows"] == {"read": 8, "unreadable": 1, "left_out": 1, "scored": 6, "steps": 4, "beat_bound": 0}
    assert sum(group["rigwise"]["n"] for group in document["groups"]) == 6
    assert any("rtx-" in one["reason"] for one in document["left_out"])


def test_the_page_and_its_pictures_are_written(tmp_path) -> None:
    pytest.importorskip("vl_convert", reason="extra plot")
    page = tmp_path / "accuracy.md"
    answer = run(str(STEPS), "--output", str(page), "--group", "source,device")
    assert answer.exit_code == 0, answer.output
    text = page.read_text(encoding="utf-8")
    pictures = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert pictures
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert not any(line.startswith("| None") for line in text.splitlines())
    assert "| made-up | rtx-3090 |" in text
    assert "## How to read it" in text
    assert "linear 49 us" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        ([str(STEPS), "--group", "colour"], "colour"),
        ([str(STEPS), "--graphs", "nowhere"], "nowhere"),
        ([str(STEPS), "--output", "no/such/folder.md"], "no/such"),
        ([str(STEPS), "--prices", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], word: str) -> None:
    answer = run(*arguments)
    assert isinstance(answer.exception, InvalidInputError)
    assert word in str(answer.exception)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"device,model\n1,2\n", STEPS.read_bytes().replace(b"resnet", b"x")]
)
def test_a_table_of_which_nothing_is_left_is_refused(content: bytes, tmp_path) -> None:
    table = tmp_path / "t.csv"
    lines = content.splitlines(keepends=True)
    table.write_bytes(b"".join(line for line in lines if b"op:" not in line))
    answer = run(str(table))
    assert isinstance(answer.exception, InvalidInputError)
    assert "t.csv" in str(answer.exception)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "device,usd_per_h\nt4,0\n", "device,usd_per_h\nt4,dear\n"])
def test_prices_that_are_none_are_refused(text: str, tmp_path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError):
        read_prices(path)
    path.write_text("device,usd_per_h\nTesla T4,0.35\n")
    assert read_prices(path) == {"t4": 0.35}
