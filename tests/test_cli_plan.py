"""``rigwise plan`` as people call it: a model or a file, text or JSON, verified afterwards."""

import json
from pathlib import Path

import pytest

from rigwise.cli.main import main

SWEEP = Path(__file__).parents[1] / "examples" / "sweep.toml"
#: Prices age; what these tests look for is older than no limit.
ANY_AGE = ["--max-price-age", "20000d"]
FEW = ["--device", "l4", "--device", "a10", "--device", "l40s", *ANY_AGE]
JOB = ["plan", "resnet50", "--task", "train", "--samples", "1e7", "--deadline", "48h"]


@pytest.fixture
def rigwise(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def test_the_answer_comes_first_and_fits_80_columns(rigwise) -> None:
    code, out, err = rigwise(*JOB, *FEW)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("resnet50: train 10.0 M samples")
    assert [line.split()[0] for line in lines[2:6]] == ["rent", "at", "cost", "time"]
    assert max(map(len, lines)) <= 80
    for word in ("why the first", "certificate", "gap 0 %", "left out of the catalogue", "good to know"):
        assert word in out


def test_quiet_is_the_answer_only(rigwise) -> None:
    _, out, _ = rigwise(*JOB, *FEW, "--quiet")
    assert 5 <= len(out.splitlines()) <= 7


def test_json_has_what_others_build_on(rigwise) -> None:
    code, out, err = rigwise(*JOB, *FEW, "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["schema"] == "rigwise.plan/1"
    certificate = answer["certificate"]
    assert certificate["gap_frac"] == 0
    assert certificate["candidates"] == certificate["estimated"] + sum(certificate["pruned"].values())
    assert set(certificate["pruned"]) == {"memory", "deadline", "budget", "bound"}
    ranks = [plan["rank"] for plan in answer["plans"]]
    assert ranks == list(range(1, len(ranks) + 1))
    costs = [plan["cost_usd"]["p50"] for plan in answer["plans"]]
    assert costs == sorted(costs)
    assert certificate["best"] == costs[0] == answer["cheapest"]["cost_usd"]["p50"]
    for plan in answer["plans"]:
        assert plan["time_s"]["p90"] <= 48 * 3600
        assert plan["fit_probability"] >= 0.9
        assert plan["device"] in ("l4", "a10", "l40s")
    front = [(plan["cost_usd"]["p50"], plan["time_s"]["p50"]) for plan in answer["frontier"]]
    assert front == sorted(front)
    assert [time for _, time in front] == sorted((time for _, time in front), reverse=True)
    assert front[0][0] == costs[0]
    assert front[-1][1] == answer["fastest"]["time_s"]["p50"]
    assert all({"reason", "count"} == set(group) for group in answer["excluded"])


def test_the_same_job_as_a_file_gives_the_same_answer(rigwise, tmp_path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        '[workload]\nmodel = "resnet50"\nsamples = "10M"\n[constraints]\ndeadline = "2d"\n'
        '[market]\ndevices = ["l4", "a10", "l40s"]\nmax_price_age = "20000d"\n'
    )
    answers = [json.loads(rigwise(*arguments, "--json")[1]) for arguments in ((*JOB, *FEW), ("plan", file))]
    for answer in answers:
        answer["certificate"].pop("wall_s")
    assert answers[0] == answers[1]


def test_a_plan_is_verified_and_a_changed_one_rejected(rigwise, tmp_path) -> None:
    file = tmp_path / "plan.json"
    code, _, err = rigwise(*JOB, *FEW, "--output", file, "--quiet")
    assert (code, err) == (0, "")
    code, out, _ = rigwise("plan", "verify", file)
    assert code == 0
    assert "the certificate holds" in out
    answer = json.loads(file.read_text())
    answer["plans"][0]["cost_usd"]["p50"] *= 0.5
    answer["certificate"]["best"] *= 0.5
    file.write_text(json.dumps(answer))
    code, out, _ = rigwise("plan", "verify", file)
    assert code == 1
    assert "the best is said to be" in out
    code, out, _ = rigwise("plan", "verify", file, "--json")
    verdict = json.loads(out)
    assert code == 1
    assert (verdict["schema"], verdict["holds"]) == ("rigwise.plan.verify/1", False)
    assert verdict["faults"]


def test_a_plan_file_cannot_make_us_run_code(rigwise, tmp_path) -> None:
    file = tmp_path / "plan.json"
    rigwise(*JOB, *FEW, "--output", file, "--quiet")
    answer = json.loads(file.read_text())
    answer["job"]["model"] = "os:getcwd"
    file.write_text(json.dumps(answer))
    code, _, err = rigwise("plan", "verify", file)
    assert code == 2
    assert "code to run" in err


def test_owned_machines_cost_what_they_cost(rigwise, tmp_path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[owned]]\nname = "box under the desk"\ndevice = "rtx-3090"\n')
    answer = json.loads(rigwise(*JOB, *FEW, "--own", own, "--json")[1])
    best = answer["plans"][0]
    assert (best["kind"], best["market"], best["instance"]) == ("own", "owned", "box under the desk")
    assert best["cost_usd"] == {"p10": 0, "p50": 0, "p90": 0}
    assert answer["certificate"]["lower_bound"] == 0


def test_spot_is_slower_and_says_what_it_assumes(rigwise) -> None:
    answer = json.loads(rigwise(*JOB, *FEW, "--spot", "--json")[1])
    spot = [plan for plan in answer["plans"] if plan["market"] == "spot"]
    assert spot
    for plan in spot:
        assert plan["cost_terms"]["interruptions"] > 0
        assert sum(plan["cost_terms"].values()) == pytest.approx(plan["cost_usd"]["p50"])
    assert any("spot" in sentence for sentence in answer["advice"])


def test_nothing_feasible_names_the_limit_and_what_would_do(rigwise) -> None:
    code, out, err = rigwise(*JOB[:-1], "1s", *FEW)
    assert (code, out) == (1, "")
    assert "deadline" in err
    assert "there is" in err
    assert err.count("\n") == 1
    code, out, err = rigwise(*JOB[:-1], "1s", *FEW, "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer["plans"] == []
    assert answer["infeasible"]["message"] in err


def test_a_budget_too_small(rigwise) -> None:
    code, _, err = rigwise(*JOB, *FEW, "--budget", "$0.01")
    assert code == 1
    assert "$0.01" in err
    assert "under $" in err.partition(";")[2]


def test_a_model_that_nothing_holds(rigwise) -> None:
    code, _, err = rigwise("plan", "llama-3.1-405b", "--samples", "100", "--batch", "1", *FEW)
    assert code == 1
    assert "weights, gradients and optimizer state need" in err


def test_nothing_to_rent(rigwise) -> None:
    code, _, err = rigwise(*JOB, "--max-price-age", "0d")
    assert code == 1
    assert "no offer can be used" in err
    assert "older than" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plan"], "Missing argument"),
        (["plan", "resnet50"], "no amount of work"),
        (["plan", "resnet50", "--samples", "1e400"], "--samples"),
        (["plan", "resnet50", "--samples", "5", "--deadline", "soon"], "--deadline"),
        (["plan", "resnet50", "--samples", "5", "--task", "serve"], "--samples means nothing when serving"),
        (["plan", "resnet50", "--tokens", "5"], "no sequence"),
        (["plan", "resnet50", "--samples", "5", "--provider", "awz"], "awz"),
        (["plan", "resnet50", "--samples", "5", "--device", "h100"], "h100-sxm5-80gb"),
        (["plan", "resnet50", "--samples", "5", "--own", "none.toml"], "none.toml"),
        (["plan", "resnet5", "--samples", "5"], "resnet50"),
        (["plan", "none.toml"], "none.toml"),
        (["plan", str(SWEEP), "--samples", "5"], "--samples cannot be combined"),
        (["plan", "verify"], "takes one plan file"),
        (["plan", "verify", "none.json"], "none.json"),
        (["plan", "verify", "a.json", "--spot"], "takes one plan file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, word, rigwise, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = rigwise(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("rigwise: ")
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("{", "not JSON"),
        ("[]", "is no plan"),
        ('{"schema": "rigwise.predict/1"}', "is no plan"),
        ('{"schema": "rigwise.plan/1", "plans": []}', "holds no plan"),
        ('{"schema": "rigwise.plan/1", "plans": [{}]}', "plan.json"),
        ('{"schema": "rigwise.plan/1", "plans": [1], "job": {"model": "x"}}', "plan.json"),
    ],
)
def test_a_file_that_is_no_plan_cannot_be_verified(text, word, rigwise, tmp_path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    code, out, err = rigwise("plan", "verify", file)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


def test_the_example_is_planned_and_proven(rigwise, request, tmp_path) -> None:
    """Once all prices of the catalogue are older than a year, nothing is left to rent."""
    file = tmp_path / "plan.json"
    code, out, _ = rigwise("plan", request.config.rootpath / "examples" / "finetune-llama.toml", "--json")
    answer = json.loads(out)
    assert answer["job"]["amount"] == 20e6
    assert (answer["job"]["deadline_s"], answer["job"]["budget_usd"]) == (24 * 3600, 100)
    if code == 0:
        file.write_text(out)
        assert rigwise("plan", "verify", file)[0] == 0
