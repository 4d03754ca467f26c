"""Many jobs at once: the same answers in the same order, wherever they are computed; a failure stands in its place."""

import json
import math
import os
import subprocess
import sys
from multiprocessing import active_children

import pytest

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.spread import Engine, engine_of, spread

JOB = """
[workload]
model = "{model}"
samples = "1M"
[constraints]
deadline = "{deadline}"
[market]
devices = ["l4", "a10"]
max_price_age = "20000d"
"""
STAGED = """
[[stage]]
model = "resnet18"
samples = "1M"
[[stage]]
model = "resnet18"
samples = "2M"
[market]
devices = ["l4"]
max_price_age = "20000d"
"""


@pytest.fixture
def folder(tmp_path):
    """Jobs that are planned, that have no plan, and that cannot be read."""
    jobs = {
        "a.toml": JOB.format(model="resnet18", deadline="2d"),
        "b.toml": JOB.format(model="resnet18", deadline="1s"),
        "c.toml": JOB.format(model="resnet18", deadline="2d").replace("samples", "sampels"),
        "d.toml": STAGED,
        "e.toml": JOB.format(model="no-such-model", deadline="2d"),
    }
    for name, text in jobs.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def rigwise(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def without_clock(document):
    for result in document["results"]:
        result.get("certificate", {}).pop("wall_s", None)
    return document


def test_answers_keep_their_order_and_their_faults(rigwise, folder) -> None:
    code, out, err = rigwise("plan", folder / "*.toml", "--jobs", "1", "--json")
    document = json.loads(out)
    assert (code, err) == (1, "")
    assert document["schema"] == "rigwise.plans/1"
    results = document["results"]
    assert [result["file"][-6:] for result in results] == ["a.toml", "b.toml", "c.toml", "d.toml", "e.toml"]
    assert results[0]["schema"] == "rigwise.plan/1"
    assert results[0]["plans"][0]["rank"] == 1
    assert "deadline" in results[1]["infeasible"]["message"]
    assert "sampels" in results[2]["error"]["message"]
    assert results[3]["schema"] == "rigwise.plan.staged/1"
    assert results[4]["error"]["type"] == "UnknownNameError"


def test_a_pool_of_processes_gives_the_same_answers(rigwise, folder) -> None:
    alone, pooled = (
        without_clock(json.loads(rigwise("plan", folder / "*.toml", "--jobs", jobs, "--json")[1])) for jobs in (1, 2)
    )
    assert alone == pooled
    assert active_children() == []


def test_all_planned_is_exit_0_and_one_alone_gives_the_same(rigwise, folder) -> None:
    for name in ("b.toml", "c.toml", "e.toml"):
        (folder / name).unlink()
    code, out, _ = rigwise("plan", folder / "a.toml", folder / "d.toml", "--jobs", "1", "--json")
    results = json.loads(out)["results"]
    assert code == 0
    alone = json.loads(rigwise("plan", folder / "a.toml", "--json")[1])
    assert without_clock({"results": [alone]})["results"][0] == {
        key: value for key, value in without_clock({"results": results})["results"][0].items() if key != "file"
    }


def test_the_table_fits_80_columns(rigwise, folder) -> None:
    code, out, err = rigwise("plan", folder / "*.toml", "--jobs", "1", "--output", folder / "all.json", "--quiet")
    assert (code, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in ("2 of 5 jobs planned", "no plan", "the deadline is too short", "sampels", "no-such-model"):
        assert words in " ".join(out.split())
    assert json.loads((folder / "all.json").read_text())["schema"] == "rigwise.plans/1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["*.toml", "--spot"], "--spot cannot be combined"),
        (["*.toml", "--engine", "rya"], "no engine 'rya'"),
        (["*.toml", "--engine", "process:1.2.3.4"], "no engine"),
        (["*.toml", "--jobs", "0"], "--jobs"),
        (["none-*.toml"], "no file is called like none-*.toml"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, words, rigwise, folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    code, out, err = rigwise("plan", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_word_that_is_no_job_file_stands_in_its_place(rigwise, folder) -> None:
    code, out, _ = rigwise("plan", folder / "a.toml", "resnet50", "--jobs", "1", "--json")
    assert code == 1
    assert "resnet50 is no job file" in json.loads(out)["results"][1]["error"]["message"]


# Where work is spread


def test_an_engine_by_its_name() -> None:
    assert engine_of("process") == Engine(kind="process")
    assert engine_of("ray:auto", 3) == Engine(kind="ray", address="auto", workers=3)
    with pytest.raises(InvalidInputError):
        engine_of("process", 0)


def test_a_process_that_dies_is_an_error_in_the_place_of_its_answer() -> None:
    found = list(spread(os._exit, [3, 3], Engine(workers=2)))
    assert [type(one) for one in found] == [RunError, RunError]
    assert active_children() == []


def test_answers_of_a_pool_keep_their_order() -> None:
    assert list(spread(math.sqrt, [float(n * n) for n in range(50)], Engine(workers=2))) == list(range(50))


def test_a_missing_ray_names_its_extra(rigwise, folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = rigwise("plan", folder / "*.toml", "--engine", "ray")
    assert code == 2
    assert "pip install 'rigwise[ray]'" in err


#: A cluster of its own, as an administrator would have started one, and the command that uses it by its address.
BY_ADDRESS = """
import subprocess, sys, ray
address = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False).address_info["address"]
run = subprocess.run([*sys.argv[1:], "--engine", "ray:" + address, "--json"], check=False)
ray.shutdown()
sys.exit(run.returncode)
"""


@pytest.mark.slow
def test_ray_gives_the_same_answers(rigwise, folder) -> None:
    """On a cluster of its own, and on one that stands already."""
    pytest.importorskip("ray")
    here = without_clock(json.loads(rigwise("plan", folder / "*.toml", "--jobs", "1", "--json")[1]))
    command = [sys.executable, "-m", "rigwise", "plan", *map(str, sorted(folder.glob("*.toml")))]
    started = [*command, "--engine", "ray", "--jobs", "2", "--json"]
    for run in (started, [sys.executable, "-c", BY_ADDRESS, *command]):
        answer = subprocess.run(
            run, capture_output=True, check=False, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        )
        assert answer.returncode == 1
        assert without_clock(json.loads(answer.stdout)) == here
