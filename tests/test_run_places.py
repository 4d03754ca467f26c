"""``rigwise run --on slurm`` on a real cluster of this machine, and ``--on ray`` on a real Ray."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rigwise.errors import InvalidInputError
from rigwise.launch import launcher, slurm
from rigwise.launch.asked import Asked
from rigwise.launch.commands import by_torchrun
from rigwise.launch.folder import find_folder, read_state
from rigwise.launch.launcher import Launcher
from rigwise.launch.ray_cluster import Runner
from rigwise.launch.start import How, prepare

LOOP = """
import sys, time
from rigwise import monitor
with monitor(samples=2) as m:
    for _ in range(int(sys.argv[1])):
        time.sleep(0.01)
        m.step()
        m.checkpoint_due()
        if m.stopping:
            break
print("the loop has ended")
"""


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("loop.py").write_text(LOOP)
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "store.sqlite"))
    return tmp_path


@pytest.fixture
def on_slurm(work, slurm, monkeypatch) -> Any:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return slurm


def rigwise(*words: str) -> tuple[int, str, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise", "run", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=180)
    finally:
        if process.poll() is None:  # told, not killed: what it started has to end with it
            process.terminate()
            process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode, output, errors


def loop(steps: int) -> list[str]:
    return ["--", sys.executable, "loop.py", str(steps)]


def test_a_job_of_slurm_is_measured(on_slurm) -> None:
    code, output, errors = rigwise("--json", "--on", "slurm", *loop(20))
    assert code == 0, errors
    assert "the loop has ended" in errors
    found = json.loads(output)
    assert found["measured"]["steps"] == 20
    assert found["kept"] == 3
    script = (find_folder("last") / "job-1.sh").read_text()
    assert "export" not in script


def test_the_exit_code_comes_home(on_slurm) -> None:
    code, _, errors = rigwise("--on", "slurm", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert code == 1
    assert "exit code 7" in errors


@pytest.mark.parametrize("word", ["--partition=nosuch", "--gpus-per-node=9", "--no-such-option"])
def test_a_job_that_is_denied_is_one_line(on_slurm, word) -> None:
    code, _, errors = rigwise("--quiet", "--on", "slurm", f"--option={word}", *loop(1))
    assert code == 2
    assert "Slurm does not take the job" in errors
    assert errors.count("\n") == 1
    assert on_slurm.jobs() == []


def test_a_scheduler_that_is_down_is_one_line(work, tmp_path, monkeypatch) -> None:
    if subprocess.run(["sh", "-c", "command -v sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm here")
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "ClusterName=x\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nAuthType=auth/none\nCredType=cred/none\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(conf))
    code, output, errors = rigwise("--on", "slurm", *loop(1))
    assert (code, output) == (1, "")
    assert "controller cannot be reached" in errors
    assert errors.count("\n") == 1


def prepared(steps: int) -> Launcher:
    folder, state = prepare(loop(steps)[1:], Asked(on="slurm"), How(grace_s=5.0), {})
    return Launcher(folder, state, lambda text: None)


def test_ctrl_c_tells_the_job_and_it_goes_on_later(on_slurm, monkeypatch) -> None:
    one = prepared(100_000)

    def interrupt(text: bytes = b"") -> None:
        if not one.told and any(one.folder.glob("steps-*")):
            one.told, one._signals = 2, 1

    monkeypatch.setattr(one, "_show", interrupt)
    state = one.run()
    assert state.phase == "interrupted"
    assert [session.ended for session in launcher.sessions(one.folder)] == ["stopped"]


def test_a_scheduler_that_is_lost_is_said_once_and_the_job_watched(on_slurm, monkeypatch, capsys) -> None:
    one = prepared(300)
    asked = slurm._asked

    def lost(words: list[str]) -> Any:
        if words[0] == "scontrol":
            raise slurm.RunError("scontrol does not answer")
        return asked(words)

    monkeypatch.setattr(slurm, "_asked", lost)
    assert one.run().phase == "finished"
    assert capsys.readouterr().err.count("does not answer") == 1


def test_a_run_that_nobody_answers_for_is_lost_and_found(on_slurm, monkeypatch) -> None:
    one = prepared(300)
    with monkeypatch.context() as broken:
        broken.setattr(launcher, "LOST_AFTER_S", 0.2)
        broken.setattr(Launcher, "_is_beating", lambda self: False)
        broken.setattr(slurm, "_state", lambda job: None)
        state = one.run()
    assert (state.phase, state.attempts[0].ended_s) == ("lost", None)
    again = Launcher(one.folder, read_state(one.folder), lambda text: None)
    state = again.run()
    assert (state.phase, len(state.attempts)) == ("finished", 1)


def test_torchrun_on_two_nodes_is_one_command_for_bash() -> None:
    words = by_torchrun(["python", "train.py", "a b"], 4, 2)
    assert words[:2] == ["bash", "-c"]
    echoed = words[2].replace("exec srun", "printf '%s|'").replace("$(scontrol", "$(: ")
    done = subprocess.run(
        ["bash", "-c", echoed, *words[3:]], capture_output=True, text=True, check=True,
        env={**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"},
    )  # fmt: skip
    said = done.stdout.split("|")
    assert said[:2] == ["--ntasks=2", "--ntasks-per-node=1"]
    assert "--nproc-per-node=2" in said
    assert "--nnodes=2" in said
    assert said[-4:] == ["python", "train.py", "a b", ""]


@pytest.mark.slow
def test_a_command_on_ray_is_measured(work) -> None:
    pytest.importorskip("ray")
    code, output, errors = rigwise("--json", "--on", "ray", "--restarts", "0", "--grace", "5s", *loop(20))
    if "cannot be reached" in errors:
        pytest.skip("Ray did not start on this machine within its own time")
    assert code == 0, errors
    assert "the loop has ended" in errors
    assert json.loads(output)["measured"]["steps"] == 20


def test_ray_at_an_address_where_nobody_is_fails(work) -> None:
    pytest.importorskip("ray")
    code, output, errors = rigwise("--on", "ray", "--address", "127.0.0.1:1", "--restarts", "0", *loop(1))
    assert code == 1
    assert "cannot be reached" in output
    assert "cannot be reached" in errors


def test_nothing_is_left_of_a_command_that_ray_ran(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runner = Runner([sys.executable, "-c", "print('done')"], str(tmp_path), {})
    assert len(list(tmp_path.iterdir())) == 1
    told, code, until = b"", None, time.monotonic() + 60
    while code is None and time.monotonic() < until:
        text, _, code = runner.poll(0.2)
        told += text
    assert (told, code) == (b"done\n", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_folder_is_named(tmp_path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(gone)
    gone.rmdir()
    asked = Asked(on="local", ranks=1, nodes=1)
    with pytest.raises(InvalidInputError, match="current folder has been deleted"):
        prepare(["true"], asked, How(), None)
