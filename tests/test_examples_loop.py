"""What the examples ask of ``run``: tasks of one rank, several loops, cores that others had, names of graphs."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from rigwise.calibrate.kept import measurements_of
from rigwise.launch.folder import State
from rigwise.launch.keep import records, status_of
from rigwise.launch.measured import Measured, measured
from rigwise.launch.monitor import Monitor
from rigwise.launch.result import Result, differences
from rigwise.launch.steps import FOLDER, Session, sessions

CASE: dict[str, Any] = {
    "model": "graphs/mine.rwg", "batch": 8, "count": 1, "task": "train", "dtype": "fp32", "layout": "nchw",
    "mode": "eager", "optimizer": "adamw", "runtime": "torch",
}  # fmt: skip
PREDICTED = {"case": CASE, "device": "epyc-zen-5-2-cores", "step_time_s": {"p10": 0.9, "p50": 1.0, "p90": 1.1}}
FOUND = Measured(
    steps=20, ranks=1, step_time_s={"p10": 1.0, "p50": 1.0, "p90": 1.0}, samples=16, samples_per_step=8.0, cores=1.9,
    facts={"threads": 2, "cores": 2, "torch": "2.13.0"},
)  # fmt: skip


def result(case: dict[str, Any] | None = None, **found: Any) -> Result:
    state = State(id="r", command=("python", "train.py"), started=("python",), cwd="/", on="local", phase="finished")
    predicted = {**PREDICTED, "case": {**CASE, **(case or {})}}
    return Result(state=state, measured=replace(FOUND, **found), predicted=predicted, wall_s=30.0)


def test_loops_one_after_the_other_in_one_process_are_told_apart(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for steps in (6, 4):
        with Monitor(samples=8) as m:
            for _ in range(steps):
                m.step()
    told = sessions(tmp_path)
    assert [one.steps for one in told] == [6, 4]
    assert [len(one.times_s) for one in told] == [6, 4]
    assert measured(told).steps == 10
    assert measured(told).samples_per_step == 8


def test_tasks_of_one_rank_have_the_batch_of_one() -> None:
    tasks = [Session(rank=0, attempt=1, pid=pid, steps=5, samples=40.0, times_s=[(1.0, 1)] * 5) for pid in (1, 2, 3)]
    assert measured(tasks).samples_per_step == 8
    ranks = [replace(one, rank=rank) for rank, one in enumerate(tasks)]
    assert measured(ranks).samples_per_step == 24


def test_time_of_the_processor_counts_from_entering() -> None:
    before_s = sum(os.times()[:2])
    with Monitor() as m:
        m.step()
    assert measured([m.summary]).cpu_step_s < before_s / 2


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({}, "ok"),
        ({"cores": 1.0}, "busy"),
        ({"facts": {"threads": 1, "cores": 1}, "cores": 0.5}, "busy"),
        ({"facts": {"threads": 1, "cores": 1}, "cores": 0.95}, "ok"),
        ({"facts": {"threads": 1, "cores": 2}, "cores": 0.95}, "some of the cores"),
        ({"facts": {"threads": 1, "cores": 2, "device": "NVIDIA H200"}, "cores": 0.5}, "ok"),
    ],
)
def test_a_step_that_did_not_have_its_cores_is_not_what_was_predicted(found, status) -> None:
    assert status_of(result(**found)) == status
    said = " ".join(differences(result(**found)))
    assert ("others had the CPU" in said) == (status == "busy")
    assert ("had no thread of it" in said) == (status == "some of the cores")


def test_ranks_that_share_a_cpu_are_no_step_of_one_process() -> None:
    found = {"facts": {"threads": 1, "cores": 2}, "cores": 0.95, "ranks": 2}
    assert status_of(result(**found)) == "several ranks on one CPU"
    assert status_of(result({"count": 2}, **found)) == "ok"


def test_another_runtime_is_no_step_of_pytorch() -> None:
    assert status_of(result({"runtime": "onnxruntime"})) == "another runtime"


def test_calibrate_names_a_run_that_it_does_not_use() -> None:
    snapshot = json.dumps({"schema": "rigwise.machine/1"})
    found, left_out = measurements_of(records(result(), snapshot), 2)
    assert [(one.model, one.batch, one.value) for one in found] == [("mine", 8, 1.0)]
    assert not left_out
    found, left_out = measurements_of(records(result(cores=1.0), snapshot), 2)
    assert not found
    assert [one.reason for one in left_out] == ["the run was not what was predicted: busy"]
