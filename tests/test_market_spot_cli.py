"""``rigwise plan --explain spot`` as people call it."""

import json

import pytest

from rigwise.cli.main import main

JOB = ["plan", "resnet50", "--samples", "1e7", "--max-price-age", "20000d", "--device", "t4"]
SPOT = [*JOB, "--spot", "--explain", "spot"]


@pytest.fixture
def rigwise(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def test_the_text_fits_80_columns_and_says_what_to_do(rigwise) -> None:
    code, out, err = rigwise(*SPOT, "--deadline", "48h")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for word in (
        "capacity",
        "assumed, usual",
        "save",
        "expected",
        "follow",
        "uniform progress",
        "late",
        "between them",
    ):
        assert word in out


def test_the_document(rigwise) -> None:
    code, out, err = rigwise(*SPOT, "--deadline", "48h", "--json")
    answer = json.loads(out)
    assert (code, err, answer["schema"]) == (0, "", "rigwise.plan.spot/1")
    assert answer["in_force"] == "usual"
    assert answer["question"]["deadline_s"] == 48 * 3600
    names = [scenario["name"] for scenario in answer["scenarios"]]
    assert names == ["pessimistic", "usual", "optimistic"]
    planned = answer["scenarios"][1]
    assert planned["interruption"]["source_class"] == "assumed"
    assert planned["paid_s"] > answer["question"]["work_s"]["p50"]
    assert planned["wall_s"] > planned["paid_s"]
    for outcome in planned["policies"]:
        assert set(outcome["cost_usd"]) == {"p10", "p50", "p90", "mean"}
        assert 0 <= outcome["late_frac"] <= 1


def test_a_trace_of_ones_own(rigwise, tmp_path) -> None:
    file = tmp_path / "zone.csv"
    file.write_text("hour,available\n" + "".join(f"{h},{int(h % 6 != 5)}\n" for h in range(240)))
    code, out, err = rigwise(*SPOT, "--trace", file, "--quiet")
    assert (code, err) == (0, "")
    assert "it runs 5.00 h on average, then 1.00 h to wait" in out
    assert "stretches of the trace" in out
    assert "good to know" not in out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--explain", "spot"], "add --spot"),
        (["--spot", "--trace", "zone.csv"], "--trace is for --explain spot"),
        (["--spot", "--explain", "spot", "--trace", "no-such.csv"], "there is no file no-such.csv"),
        (["--spot", "--explain", "spot", "--report", "page.html"], "without --report"),
        (["--spot", "--explain", "stop"], "'stop' is not"),
        (["--spot", "--explain", "spot", "--jobs", "2"], "without --jobs"),
    ],
)
def test_what_cannot_be_explained_is_one_line(rigwise, flags, named) -> None:
    code, out, err = rigwise(*JOB, *flags)
    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--init", "--explain", "spot"],
        ["plan", "verify", "plan.json", "--explain", "spot"],
        ["plan", "resnet50", "vgg16", "--samples", "1e6", "--explain", "spot"],
        ["plan", "no-such.toml", "--explain", "spot"],
        ["plan", "resnet50", "--task", "serve", "--rate", "9/s", "--explain", "spot"],
    ],
)
def test_only_one_job_is_explained(rigwise, arguments) -> None:
    code, out, err = rigwise(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_an_empty_and_a_useless_trace(rigwise, tmp_path) -> None:
    file = tmp_path / "zone.csv"
    file.write_text("")
    code, _, err = rigwise(*SPOT, "--trace", file)
    assert code == 2
    assert "is empty" in err
    file.write_text("hour,available\n0,0\n1,0\n2,0\n")
    code, out, err = rigwise(*SPOT, "--trace", file, "--json")
    assert code == 1
    assert "capacity in no step" in err
    assert json.loads(out)["infeasible"]["type"] == "InfeasibleError"


def test_no_spot_plan_is_an_answer(rigwise) -> None:
    code, _, err = rigwise(*JOB, "--provider", "paperspace", "--spot", "--explain", "spot")
    assert code == 1
    assert err.count("\n") == 1
