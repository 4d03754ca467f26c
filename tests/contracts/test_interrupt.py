"""Ctrl-C: no traceback, no half file, no process left behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from rigwise.edge import write_atomically

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and named pipes of POSIX")

GPT2 = (
    '{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12,'
    ' "n_positions": 1024, "vocab_size": 50257, "activation_function": "relu"}'  # which no template has
)


def start(folder, *arguments: str) -> subprocess.Popen[bytes]:
    """A command in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "rigwise", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[bytes]) -> str:
    """Ctrl-C as a terminal sends it: to the whole group. Returns what stderr got."""
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    return errors.decode().strip()


def test_while_a_job_file_is_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "cases.jsonl")
    process = start(tmp_path, "predict", "--cases", "cases.jsonl")
    with (tmp_path / "cases.jsonl").open("wb"):  # returns once the command has opened the other end
        assert interrupt(process) == "rigwise: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["cases.jsonl"]


def test_while_a_model_is_captured(tmp_path, tmp_path_factory, monkeypatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("RIGWISE_CACHE", str(tmp_path_factory.mktemp("empty")))
    (tmp_path / "config.json").write_text(GPT2)
    process = start(tmp_path, "capture", "config.json", "-o", "out.rwg")
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.01)
    assert children, process.communicate()[1].decode()
    assert interrupt(process) == "rigwise: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert psutil.wait_procs(children, timeout=30)[1] == []


def test_while_a_file_is_written(tmp_path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "plan.json").write_text("old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "plan.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").read_text() == "old"
