"""A job of several stages as people plan it: text, JSON, stages that stay, and what cannot be kept together."""

import contextlib
import json
from dataclasses import replace
from datetime import date

import pytest

from rigwise.cli.main import main
from rigwise.cli.plan_job import outside
from rigwise.search.plan import catalogue_world
from rigwise.search.staged import plan_staged, read_staged, staged_document, verify_staged
from rigwise.workload.stages import any_job_from_toml

STAGES = """
[[stage]]
name = "prototype"
model = "resnet18"
samples = "1M"
[[stage]]
name = "scale"
model = "resnet18"
samples = "50M"
[constraints]
deadline = "{deadline}"
[market]
devices = ["l4"]
max_price_age = "20000d"
"""


@pytest.fixture
def plan(capfd, tmp_path):
    """Plan a job file in this process: exit code, stdout, stderr."""

    def run(text, *arguments):
        file = tmp_path / "job.toml"
        file.write_text(text)
        with pytest.raises(SystemExit) as stop:
            main(["plan", str(file), *arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def test_the_answer_fits_80_columns(plan) -> None:
    code, out, err = plan(STAGES.format(deadline="12h"))
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in ("2 stages, within 12.0 h", "prototype: resnet18", "scale: resnet18", "gap 0 %"):
        assert words in out


def test_the_sum_of_the_stages_is_the_whole(plan) -> None:
    answer = json.loads(plan(STAGES.format(deadline="12h"), "--json")[1])
    assert answer["schema"] == "rigwise.plan.staged/1"
    for key in ("time_s", "cost_usd"):
        for quantile in ("p10", "p50", "p90"):
            assert answer[key][quantile] == pytest.approx(sum(s["plan"][key][quantile] for s in answer["stages"]))
    assert answer["time_s"]["p90"] <= 12 * 3600
    assert answer["certificate"]["best"] == answer["cost_usd"]["p50"]
    assert answer["certificate"]["gap_frac"] == 0


def test_a_looser_deadline_never_costs_more(plan) -> None:
    costs = []
    for deadline in ("8h", "12h", "48h"):
        answer = json.loads(plan(STAGES.format(deadline=deadline), "--json")[1])
        costs.append(answer["cost_usd"]["p50"])
    assert costs == sorted(costs, reverse=True)


def test_a_stage_that_stays_is_on_the_machines_of_the_one_before(plan) -> None:
    text = STAGES.format(deadline="12h").replace('name = "scale"', 'name = "scale"\nstay = true')
    free, staying = (json.loads(plan(job, "--json")[1]) for job in (STAGES.format(deadline="12h"), text))
    first, second = (stage["plan"] for stage in staying["stages"])
    for key in ("provider", "instance", "region", "market", "nodes"):
        assert first[key] == second[key]
    assert second["cost_terms"].get("startup", 0.0) == 0.0
    assert free["certificate"]["best"] <= staying["certificate"]["best"] + second["usd_per_h"] * 300 / 3600
    assert "stays" in plan(text)[1]


def test_a_checkpoint_takes_its_time_to_move(plan) -> None:
    text = STAGES.format(deadline="12h").replace(
        'samples = "1M"', 'samples = "1M"\n[stage.data]\ncheckpoint = "12.5GB"'
    )
    answer = json.loads(plan(text, "--json")[1])
    assert [stage["move_s"] for stage in answer["stages"]] == [0.0, 100.0]
    assert answer["time_s"]["p50"] == pytest.approx(100.0 + sum(s["plan"]["time_s"]["p50"] for s in answer["stages"]))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"12h"', '"1s"', "stage 'prototype': no plan under 1.00 s"),
        ('deadline = "12h"', 'budget = "$1"', "budget"),
        ('"resnet18"', '"resnet81"', "resnet18"),
    ],
)
def test_what_cannot_be_kept_is_one_line(old, new, words, plan) -> None:
    code, out, err = plan(STAGES.format(deadline="12h").replace(old, new, 1))
    assert code in (1, 2)
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_stages_that_keep_a_deadline_only_one_by_one(plan) -> None:
    text = STAGES.format(deadline="48h").replace("50M", "1M")
    quickest = json.loads(plan(text + '[objective]\nminimize = "time"\n', "--json")[1])
    code, out, _ = plan(text.replace("48h", f"{0.8 * quickest['time_s']['p90']}s"), "--json")
    answer = json.loads(out)
    assert "and the stages take" in answer["infeasible"]["message"]
    assert (code, answer["stages"], answer["schema"]) == (1, [], "rigwise.plan.staged/1")
    assert "deadline" in answer["infeasible"]["message"]


def test_a_plan_of_stages_is_verified_and_a_changed_one_rejected(plan, capfd, tmp_path) -> None:
    file = tmp_path / "plan.json"
    assert plan(STAGES.format(deadline="12h"), "--output", str(file), "--quiet")[0] == 0

    def verify():
        with pytest.raises(SystemExit) as stop:
            main(["plan", "verify", str(file), "--json"])
        return stop.value.code, json.loads(capfd.readouterr()[0])

    assert verify() == (0, {"schema": "rigwise.plan.verify/1", "holds": True, "faults": []})
    answer = json.loads(file.read_text())
    answer["stages"][1]["plan"]["cost_usd"]["p50"] *= 0.5
    file.write_text(json.dumps(answer))
    code, verdict = verify()
    assert (code, verdict["holds"]) == (1, False)
    assert "stage 'scale': plan 1: the cost is" in verdict["faults"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": []}, "holds no plan"),
        ({"stages": [1]}, "plan.json: job is"),
        ({"job": {}}, "job.stages is missing"),
    ],
)
def test_a_file_that_is_no_plan_of_stages(change, words, capfd, tmp_path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"schema": "rigwise.plan.staged/1", "stages": [{}], "job": None, **change}))
    with pytest.raises(SystemExit) as stop:
        main(["plan", "verify", str(file)])
    out, err = capfd.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_the_report_is_one_page_that_loads_nothing(plan, tmp_path) -> None:
    page = tmp_path / "plan.html"
    code, _, err = plan(STAGES.format(deadline="12h").replace("prototype", "<b>first</b>"), "--report", str(page))
    assert code == 0
    assert "wrote" in err
    text = page.read_text().replace("http://www.w3.org/", "")
    assert text.startswith("<!doctype html>")
    assert "&lt;b&gt;first&lt;/b&gt;" in text
    assert "<b>first" not in text
    for word in ("<script", "http:", "https:", "src=", "nan", "None"):
        assert word not in text
    for word in ("One after the other", "Certificate", "rigwise plan verify"):
        assert word in text


def test_a_search_that_is_ended_keeps_its_best_and_an_honest_bound(tmp_path) -> None:
    job = any_job_from_toml(STAGES.format(deadline="12h"), "job.toml", outside(tmp_path))

    class Count:
        def __init__(self, most=float("inf")):
            self.calls, self.most = 0, most

        def __call__(self, best, bound):
            self.calls += 1
            return self.calls > self.most

    def world(model, stop=lambda best, bound: False):
        return replace(catalogue_world(model, date(2026, 8, 1)), stop=stop)

    every, ended = Count(), []
    whole = plan_staged(job, lambda model: world(model, every)).certificate
    with pytest.raises(KeyboardInterrupt):
        plan_staged(job, lambda model: world(model, Count(0)))
    for calls in {every.calls * share // 100 for share in (80, 95)} | {every.calls - 1}:
        with contextlib.suppress(KeyboardInterrupt):  # a stage has no leaf yet
            ended.append(plan_staged(job, lambda model, calls=calls: world(model, Count(calls))))
    assert ended
    for answer in ended:
        assert answer.certificate.lower_bound <= whole.best * (1 + 1e-9) <= answer.certificate.best * (1 + 2e-9)
        claim = read_staged(json.loads(json.dumps(staged_document(answer))), "plan.json")
        assert verify_staged(claim, world) == []
        if whole.best < answer.certificate.best * (1 - 1e-6):
            higher = replace(claim.certificate, lower_bound=claim.certificate.best, gap_frac=0.0)
            assert verify_staged(replace(claim, certificate=higher), world)


def test_a_machine_that_is_bought_and_stays_loses_its_first_value_once(plan, tmp_path) -> None:
    """Two stages on one bought machine cost what the same work costs as one job."""
    bought = """
[market]
devices = ["rtx-5070-ti"]
max_price_age = "20000d"
buy = true
"""
    stage = '[[stage]]\nname = "{}"\nmodel = "resnet50"\nsamples = "10G"\n{}\n'
    answer = tmp_path / "plan.json"
    code, out, _ = plan(
        stage.format("first", "") + stage.format("second", "stay = true") + bought, "--output", str(answer)
    )
    assert code == 0
    stages = json.loads(answer.read_text())
    code, out, _ = plan('[workload]\nmodel = "resnet50"\nsamples = "20G"\n' + bought, "--json")
    assert code == 0
    whole = json.loads(out)["plans"][0]
    assert {one["plan"]["kind"] for one in stages["stages"]} == {whole["kind"]} == {"buy"}
    assert stages["cost_usd"]["p50"] == pytest.approx(whole["cost_usd"]["p50"], rel=0.01)
    with pytest.raises(SystemExit) as stop:
        main(["plan", "verify", str(answer)])
    assert stop.value.code == 0
