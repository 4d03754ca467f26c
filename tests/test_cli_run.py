"""``rigwise run``: the user's functions, the report, and every way it can go wrong in one line."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from rigwise.cli.main import main, root

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

APP = """
[application]
name = "chain"
flow = ["read -> work -> store"]

[place.cpu]
cores = 2

[component.read]
outputs = {{ number = {{ bytes = 8 }} }}
call = "{functions}:numbers"
cost.cpu = {{ time = "1us" }}

[component.work]
inputs = {{ number = "number" }}
outputs = {{ number = {{ bytes = 8, ratio = {ratio} }} }}
call = "{functions}:{work}"
run = "{run}"
workers = 2
cost.cpu = {{ time = "10ms" }}

[component.store]
inputs = {{ number = "number" }}
call = "{functions}:store"
run = "inline"
cost.cpu = {{ time = "1us" }}
"""

FUNCTIONS = """
import itertools, time

def numbers():
    return itertools.count()

def slow(item):
    time.sleep(0.01)
    return item

def every_other(item):
    return item if item % 2 else None

def noisy(item):
    print("working on", item)
    return item

def fails(item):
    if item == 3:
        raise ValueError("three")
    return item

def never_returns(item):
    time.sleep(1000 if item == 3 else 0)
    return item

def store(item):
    pass
"""


@pytest.fixture
def app(tmp_path):
    """Writes an application with functions in a module of its own; returns its path."""

    def write(work: str = "slow", run: str = "thread", ratio: str = "1") -> str:
        functions = f"functions_{abs(hash(tmp_path)):x}"
        (tmp_path / f"{functions}.py").write_text(FUNCTIONS)
        (tmp_path / "app.toml").write_text(APP.format(functions=functions, work=work, run=run, ratio=ratio))
        return str(tmp_path / "app.toml")

    yield write
    sys.modules.pop(f"functions_{abs(hash(tmp_path)):x}", None)


@pytest.fixture
def rigwise(capfd):
    """Runs a command line: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        return stop.value.code, *capfd.readouterr()

    return call


def document(*arguments: str) -> dict:
    result = CliRunner().invoke(root, ["run", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.parametrize("run", ["thread", "process"])
def test_predicted_and_measured_stand_side_by_side(app, run):
    found = document(app(run=run), "--items", "40")
    assert found["schema"] == "rigwise.run/1"
    assert (found["application"], found["ended"], found["alone"], found["simulated"]) == ("chain", "items", False, [])
    read, work, store = found["components"]
    assert (read["items_out"], work["items_in"], store["items_in"]) == ([40], 40, 40)
    assert (work["run"], work["workers"], work["item_s"]["predicted"]) == (run, 2, 0.01)
    assert work["item_s"]["measured"] >= 0.01
    assert found["throughput_per_s"]["measured"] <= 2 / 0.01 * 1.5  # two workers, a short window
    assert found["latency_s"]["measured"]["p50"] >= 0.01


def test_a_ratio_that_is_not_the_stated_one_is_told(app):
    found = document(app("every_other", ratio="0.25"), "--items", "200")
    assert "work gives 0.5 items for each item in, the file says 0.25" in found["differences"]
    assert found["sinks"][0]["items"] == 100


def test_what_is_slower_than_stated_is_told(app):
    path = Path(app())
    path.write_text(path.read_text().replace('"10ms"', '"1ms"'))
    found = document(str(path), "--items", "40")
    assert any(line.startswith("work takes ") and "1.00 ms were expected" in line for line in found["differences"])
    assert any(line.startswith("throughput is 0.") for line in found["differences"])


def test_alone_gives_costs_that_fit_into_the_file(app):
    path = Path(app())
    found = document(str(path), "--items", "20", "--alone")
    costs = tomllib.loads("\n".join(found["costs"]))
    assert set(costs["component"]) == {"read", "work", "store"}
    assert 10 <= float(costs["component"]["work"]["cost"]["cpu"]["time"].removesuffix("ms")) < 1000
    assert [line for line in found["differences"] if "expected" in line] == []


def test_components_without_a_function_sleep_if_told_to(app):
    path = Path(app())
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("call")))
    found = document(str(path), "--items", "20", "--simulate")
    assert found["simulated"] == ["read", "work", "store"]
    assert found["components"][1]["items_in"] == 20
    text = CliRunner().invoke(root, ["run", str(path), "--items", "20", "--simulate"]).stdout
    assert "simulated, these only slept: read, work, store" in text


def test_the_report_keeps_to_80_columns(app):
    result = CliRunner().invoke(root, ["run", app(), "--items", "20"])
    assert result.exit_code == 0
    assert "predicted" in result.stdout
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []
    brief = CliRunner().invoke(root, ["run", app(), "--items", "20", "--quiet"]).stdout
    assert "throughput" in brief
    assert "component" not in brief


@pytest.mark.parametrize("run", ["thread", "process"])
def test_prints_of_functions_do_not_spoil_the_document(app, run, rigwise):
    code, output, errors = rigwise("run", app("noisy", run=run), "--items", "3", "--json")
    assert code == 0
    assert json.loads(output)["schema"] == "rigwise.run/1"
    assert "working on 2" in errors


@pytest.mark.parametrize("run", ["thread", "process"])
def test_a_failing_function_is_one_line_and_exit_1(app, run, rigwise):
    code, output, errors = rigwise("run", app("fails", run=run))
    assert (code, output) == (1, "")
    assert errors.startswith("rigwise: stage work, item 4: failed at functions_")
    assert errors.endswith("ValueError: three\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("run", ["thread", "process"])
def test_a_function_that_never_returns_is_one_line_and_exit_1(app, run):
    command = [sys.executable, "-m", "rigwise", "run", app("never_returns", run=run), "--call-limit", "1s"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert "stage work did not return from item 4 within" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("call = ", "# "), "component.read has no call"),
        ((":slow", ":slower"), "has no 'slower'; did you mean slow"),
        ((":slow", ""), "write module:function"),
        (("functions_", "no_functions_"), "there is no Python module 'no_functions_"),
        (('run = "thread"', 'run = "inline"\nbatch = 2'), "work cannot run inline"),
    ],
)
def test_an_application_that_cannot_run_is_one_line_and_exit_2(app, change, words, rigwise):
    path = Path(app())
    path.write_text(path.read_text().replace(*change))
    code, output, errors = rigwise("run", str(path))
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan.json", "--", "python", "train.py"], "there is no file plan.json"),
        (["missing.toml"], "missing.toml"),
        (["APP", "--items", "0"], "--items is 0"),
        (["APP", "--items", "2.5"], "--items is 2.5"),
        (["APP", "--items", "many"], "many"),
        (["APP", "--duration", "-1s"], "--duration is -1"),
        (["APP", "--duration", "soon"], "soon"),
        (["APP", "--grace", "0"], "--grace is 0"),
        (["APP", "more"], "is no plan"),
    ],
)
def test_bad_words_are_one_line_and_exit_2(app, arguments, words, tmp_path, monkeypatch, rigwise):
    path = app()
    monkeypatch.chdir(tmp_path)
    code, output, errors = rigwise("run", *(path if word == "APP" else word for word in arguments))
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_with_a_report_and_leaves_nothing(app, number, code, word):
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise", "run", app("noisy", run="process"), "--duration", "600s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr.readline().startswith("working on")
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "interrupted" in output
    assert errors.endswith(f"rigwise: {word}\n")
    assert psutil.wait_procs(workers, timeout=30)[1] == []
