"""``rigwise trace`` and ``run --trace`` as a person meets them."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import main
from rigwise.cli.trace import command
from rigwise.launch.tracing import MOST_STEPS, TRACE, WARM_UP, Tracer, tracer_of, traces

_FILES = runpy.run_path(str(Path(__file__).with_name("profile_files.py")))
cuda_like, nsight_export = _FILES["cuda_like"], _FILES["nsight_export"]
PERF = " 6,000,000,000 cycles\n 9,000,000,000 instructions\n 2.0 seconds time elapsed\n"


@pytest.fixture
def recorded(tmp_path) -> str:
    return str(cuda_like().write(tmp_path / "step.json"))


def answer(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["trace", *arguments])
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_the_summary_says_where_the_step_went_in_80_columns(recorded) -> None:
    text = answer(recorded)
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in ("ProfilerStep#1", "busy           519 us, 52 %", "input 100 us", "78.0 us idle over 1 piece",
                  "10.0 GB/s", "not pinned", "33.0 us of it exposed (67 % overlapped)", "addmm"):  # fmt: skip
        assert words in text


def test_the_document_adds_up(recorded) -> None:
    document = json.loads(answer(recorded, "--json"))
    assert (document["schema"], document["source"], document["comparison"]) == ("rigwise.trace/1", "torch", None)
    (device,) = document["devices"]
    assert device["busy_s"] + sum(device["idle_s"].values()) == pytest.approx(device["window_s"])
    assert document["steps"]["count"] == len(document["steps"]["times_s"]) == 3
    assert sum(one["time_s"] for one in document["kernels"]) == pytest.approx(device["kernel_s"])


def test_a_model_brings_the_prediction_and_the_device_of_the_trace(recorded) -> None:
    document = json.loads(answer(recorded, "--json", "--model", "resnet18", "--batch", "8", "--optimizer", "sgd"))
    other = document["comparison"]
    assert other["device"] == "a100-sxm4-40gb"
    assert not other["sizes_agree"]
    assert any("--batch" in note for note in document["notes"])
    assert other["optimizer"]["measured_s"] == pytest.approx(30e-6)
    for one in other["operators"]:
        assert one["seen"] <= one["calls"]
        assert sum(one["by"].values()) == one["seen"]
    text = answer(recorded, "--model", "resnet18", "--batch", "8", "--limit", "3")
    assert "3 of" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_an_export_without_names_of_operators(tmp_path) -> None:
    path = nsight_export(tmp_path / "a.sqlite", cuda_like(), operators=False)
    document = json.loads(answer(str(path), "--json", "--model", "resnet18"))
    assert {key for one in document["comparison"]["operators"] for key in one["by"]} == {"kernel"}
    assert "Nsight Systems" in answer(str(path))


def test_counters(tmp_path) -> None:
    path = tmp_path / "perf.txt"
    path.write_text(PERF)
    assert "1.50 per cycle (IPC)" in answer(str(path))
    document = json.loads(answer(str(path), "--json"))
    assert document["counters"]["quotients"]["instructions_per_cycle"] == pytest.approx(1.5)


def test_control_codes_in_names_do_not_reach_the_terminal(tmp_path) -> None:
    made = cuda_like()
    for event in made.events:
        event["name"] = event["name"].replace("aten::relu", "aten::\x1b[31mrelu")
    assert "\x1b" not in answer(str(made.write(tmp_path / "a.json")))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["missing.json"], "missing.json"),
        (["STEP", "--batch", "8"], "--batch needs --model"),
        (["STEP", "--to-rows", "x.csv"], "--to-rows needs --model"),
        (["STEP", "--model", "resnet81"], "resnet81"),
        (["STEP", "--model", "resnet18", "--device", "h1000"], "h1000"),
        (["STEP", "--steps", "7"], "marks 3"),
        (["STEP", "--steps", "0"], "--steps"),
        (["STEP", "--model", "resnet18", "--batch", "0"], "batch"),
        (["STEP", "--model", "resnet18", "--to-rows", "no/such/folder/x.csv"], "sizes"),
        (["PERF", "--model", "resnet18"], "counts whole runs"),
        (["HOST", "--model", "resnet18"], "--device"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, recorded, arguments, word) -> None:
    perf, host = tmp_path / "perf.txt", tmp_path / "host.json"
    perf.write_text(PERF)
    host.write_text(
        json.dumps([{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 2, "pid": 1, "tid": 1}])
    )
    files = {"STEP": recorded, "PERF": str(perf), "HOST": str(host)}
    assert word in refused(capsys, *(files.get(word, word) for word in arguments))


# run --trace

LOOP = """
import sys
import torch
from rigwise import monitor

net = torch.nn.Linear(4, 4)
with monitor() as m:
    for _ in range(int(sys.argv[1])):
        net(torch.randn(2, 4)).sum().backward()
        m.step()
"""


def run_traced(folder: Path, steps: int, asked: int) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("torch")
    script = folder / "loop.py"
    script.write_text(LOOP)
    environment = {**os.environ, "RIGWISE_RUNS": str(folder / "runs"), "RIGWISE_STORE": "none", "OMP_NUM_THREADS": "1"}
    words = ["run", "--trace", str(asked), "--no-store", "--", sys.executable, str(script), str(steps)]
    return subprocess.run(
        [sys.executable, "-m", "rigwise", *words], capture_output=True, text=True, check=False, env=environment
    )


def test_a_run_records_the_steps_that_were_asked_for(tmp_path) -> None:
    done = run_traced(tmp_path, 20, 3)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").glob("*/trace-1.json.gz")
    assert f"rigwise trace {path}" in done.stderr
    document = json.loads(answer(str(path), "--json"))
    assert document["steps"]["count"] == 3
    assert "linear" in {one["name"] for one in document["operators"]}


def test_a_run_that_ends_before_it_is_warm_says_so(tmp_path) -> None:
    done = run_traced(tmp_path, 2, 3)
    assert done.returncode == 0
    assert "no step was recorded" in done.stderr
    assert not list((tmp_path / "runs").glob("*/*trace*"))


class Profiler:
    """Fails as a profiler may."""

    def __init__(self, **settings: object) -> None:
        del settings

    def start(self) -> None:
        raise RuntimeError("CUPTI is taken\nby another")


def test_a_profiler_that_fails_does_not_end_the_loop(tmp_path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.profiler, "profile", Profiler)
    tracer = Tracer(tmp_path / "trace-1.json.gz", 2)
    for _ in range(WARM_UP + 4):
        tracer.step()
    tracer.close()
    assert tracer.fault == "steps were not recorded: RuntimeError: CUPTI is taken"
    assert traces(tmp_path) == []


@pytest.mark.parametrize(("text", "expected"), [("3", True), ("", False), ("0", False), ("-2", False), ("many", False)])
def test_only_the_first_rank_of_a_run_that_asked_records(tmp_path, monkeypatch, text, expected) -> None:
    monkeypatch.setenv(TRACE, text)
    assert (tracer_of(tmp_path, 1, 0) is not None) is expected
    assert tracer_of(tmp_path, 1, 1) is None
    assert tracer_of(None, 1, 0) is None


def test_too_many_steps_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "--trace", str(MOST_STEPS + 1), "--", "true"])
    assert end.value.code == 2
    assert "--trace" in capsys.readouterr().err
