"""Captures in a child process: what goes wrong in the user's code comes back as one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")

from rigwise.errors import CaptureError, InvalidInputError, MissingExtraError
from rigwise.graph.capture import factory, run
from rigwise.graph.capture.run import Limits, capture_factory, capture_hf

NETS = """
import os, sys, time
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, what=None):
        super().__init__()
        self.layer, self.what = nn.Linear(8, 4), what

    def forward(self, x):
        if self.what:
            self.what(x)
        return self.layer(x)


def spin(x):
    open("pid", "w").write(str(os.getpid()))
    while True:
        time.sleep(0.05)

def fail(x): raise ValueError("no such thing")
def abort(x): os.abort()
def leave(x): sys.exit(3)
def look(x): return x.sum().item() > 0
def shout(x): print("x" * 100_000, flush=True)

def good(): return Net(), torch.randn(4, 8)
def named(): return Net(), {"x": torch.randn(4, 8)}
def sized(batch=3, seq=5): return Net(), torch.randn(batch, seq, 8)
def loud(): return Net(shout), torch.randn(4, 8)
def failing(): return Net(fail), torch.randn(4, 8)
def aborting(): return Net(abort), torch.randn(4, 8)
def leaving(): return Net(leave), torch.randn(4, 8)
def looking(): return Net(look), torch.randn(4, 8)
def spinning(): return Net(spin), torch.randn(4, 8)
def greedy():
    kept = []
    while True:
        kept.append(bytearray(2**26))
def nonsense(): return 5
def alone(): return Net()
def strange(): return Net(), "inputs"
def broken(): return 1 / 0
a_number = 5
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def captured_here(spec):
    """What the child would do, in this process."""
    return factory.model({"spec": spec, "name": spec.partition(":")[2]})


@pytest.fixture
def nets_here(nets, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(nets), *sys.path])
    yield nets
    for name in ("nets", "half"):
        sys.modules.pop(name, None)


def test_a_factory_in_the_current_folder_is_captured(nets):
    model = capture_factory("nets:loud")
    assert (model.name, model.parameter_count) == ("loud", 8 * 4 + 4)
    assert {task: set(graph.symbols) for task, graph in model.graphs.items()} == {"train": {"b"}, "infer": {"b"}}


def test_example_inputs_may_be_named(nets_here):
    assert captured_here("nets:named").graphs == captured_here("nets:good").graphs


def test_parameters_of_a_factory_are_symbols(nets_here):
    model = captured_here("nets:sized")
    assert dict(model.graphs["infer"].symbols) == {"b": 3, "s": 5}
    assert [str(size) for size in model.graphs["infer"].ops[0].outputs[0].shape] == ["b*s", "4"]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("nets:failing", CaptureError, r"failing \(train\) failed at nets.py:\d+: ValueError: no such thing"),
        ("nets:looking", CaptureError, r"failed at nets.py:\d+: .*looks at the value of a tensor"),
        ("nets:nonsense", CaptureError, r"returned a int, not a torch.nn.Module"),
        ("nets:alone", CaptureError, r"without example inputs; return a pair"),
        ("nets:strange", CaptureError, r"returned a str as example inputs"),
        ("nets:broken", CaptureError, r"failed at nets.py:\d+: ZeroDivisionError"),
        ("nets:a_number", InvalidInputError, r"nets:a_number is a int, not a function"),
        ("nets:absent", InvalidInputError, r"the module nets has no 'absent'"),
        ("nowhere.at_all:net", InvalidInputError, r"there is no Python module 'nowhere'"),
        ("half:net", CaptureError, r"importing half failed at half.py:2: .*not_installed_here"),
    ],
)
def test_a_fault_of_the_users_code_is_one_line_with_its_place(nets_here, spec, error, words):
    (nets_here / "half.py").write_text("import torch\nimport not_installed_here\n")
    with pytest.raises(error, match=words) as caught:
        captured_here(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nets:failing", r"failing \(train\) failed at nets.py:\d+: ValueError: no such thing"),
        ("nets:aborting", r"ended Python at nets.py:\d+ with SIGABRT"),
        ("nets:leaving", r"stopped Python \(SystemExit\)"),
    ],
)
def test_the_child_brings_the_fault_home(nets, spec, words):
    with pytest.raises(CaptureError, match=words) as caught:
        capture_factory(spec)
    assert "\n" not in str(caught.value)


def test_only_a_module_and_a_name_are_accepted():
    with pytest.raises(InvalidInputError, match=r"not of the form package.module:factory"):
        capture_factory("os; print(1)")


def test_an_endless_loop_is_stopped_where_it_runs(nets):
    with pytest.raises(CaptureError, match=r"took over 8 s and was stopped at nets.py:\d+; does its forward pass end"):
        capture_factory("nets:spinning", limits=Limits(time_s=8))
    assert _gone(int((nets / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits are enforced on Linux")
def test_memory_beyond_the_limit_is_refused(nets):
    with pytest.raises(CaptureError, match="may not use that much memory"):
        capture_factory("nets:greedy", limits=Limits(memory_bytes=2 * 2**30))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_child_too(nets):
    code = "from rigwise.graph.capture.run import capture_factory; capture_factory('nets:spinning')"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        pid = nets / "pid"
        _wait(lambda: pid.exists() and pid.read_text())
        parent.send_signal(signal.SIGINT)
        parent.wait(timeout=60)
        _wait(lambda: _gone(int(pid.read_text())))
    finally:
        parent.kill()
        parent.wait()


def test_a_configuration_does_not_run_code_beside_it(nets):
    (nets / "transformers.py").write_text("open('ran', 'w').close()\n")
    (nets / "torch.py").write_text("open('ran', 'w').close()\n")
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 99, "n_embd": 32, "n_layer": 2,
        "n_head": 2, "auto_map": {"AutoModel": "nets.Net"},
    }  # fmt: skip
    model = capture_hf(config, "some/folder/config.json")
    assert (model.name, model.card.causal, set(model.graphs)) == (
        "folder",
        True,
        {"train", "infer", "prefill", "decode"},
    )
    assert not (nets / "ran").exists()


def test_a_torchvision_that_does_not_fit_is_mended(nets, monkeypatch):
    package = nets / "path" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        'import torch\ntorch.library.register_fake("torchvision::nms")(lambda *a: a)\n'
    )
    (nets / "sees.py").write_text("import torchvision\nfrom nets import good\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    assert capture_factory("sees:good").parameter_count == 36


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs torch, which is not installed; pip install 'rigwise"):
        capture_hf({"model_type": "gpt2"}, "config.json")


def _gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _wait(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_files_a_factory_came_from_are_told(nets):
    (nets / "reads.py").write_text(
        "import json, torch\nfrom nets import Net\n"
        "def good():\n    json.load(open('sizes.json'))\n    return Net(), torch.randn(4, 8)\n"
    )
    (nets / "sizes.json").write_text("{}")
    (nets / "not_read.py").write_text("")
    _, paths = run.capture_factory_with_sources("reads:good")
    assert {os.path.basename(path) for path in paths} == {"reads.py", "nets.py", "sizes.json"}
