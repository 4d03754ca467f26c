"""The examples that train, simulate and compare: the command of each README, at a few steps, in a copy of them."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("resnet18-ddp", "gpt-finetune", "onnx-int8", "lennard-jones", "ray-sweep")
WAIT_S = 300.0


def command_of(name: str) -> list[str]:
    """The words of the README's command after ``rigwise``."""
    match = re.search(r"^rigwise (run .*)$", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return [sys.executable if word == "python" else word for word in shlex.split(match[1])]


def run(name: str, folder: Path, *more: str, **environment: str) -> tuple[dict[str, Any], str]:
    """The document of the run, and what the command printed."""
    for path in (EXAMPLES / name).glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    words = command_of(name)
    place = words.index("--")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RIGWISE_RUNS": str(folder / "runs"), **environment}
    env["RIGWISE_STORE"] = str(folder / "store.sqlite")
    done = subprocess.run(
        [sys.executable, "-m", "rigwise", *words[:place], "--json", *words[place:], *more],
        cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


def checked(document: dict[str, Any], steps: int) -> None:
    """A finished run whose steps have the batch that was predicted."""
    assert document["phase"] == "finished"
    assert document["measured"]["steps"] == steps
    assert document["measured"]["samples_per_step"] == document["predicted"]["case"]["batch"]
    assert document["ratio"] > 0
    assert document["kept"] >= 3


def test_two_processes_train_a_classifier(tmp_path) -> None:
    document, printed = run("resnet18-ddp", tmp_path, "--steps", "6")
    checked(document, 6)
    assert document["measured"]["ranks"] == document["ranks"] == 2
    assert document["predicted"]["case"]["count"] == 2
    assert re.search(r"step 6: \d+% of new images are right", printed)


def test_a_gpt_is_tuned_and_goes_on_from_its_checkpoint(tmp_path) -> None:
    document, printed = run("gpt-finetune", tmp_path, "--steps", "16", RIGWISE_CHECKPOINT_S="1e-6")
    checked(document, 16)
    before, after = map(float, re.search(r"step 16: loss on new sums ([\d.]+) -> ([\d.]+)", printed).groups())
    assert after < before
    import torch

    assert torch.load(tmp_path / "tuned.pt", weights_only=True)["step"] == 16


def test_runtimes_agree(tmp_path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(name)
    document, printed = run("onnx-int8", tmp_path, "--steps", "6", "--train", "2")
    checked(document, 6)
    rows = re.findall(r"^(\w+(?: int8)?) +[\d.]+ ms +[\d,]+ +([\d.]+)% +([\d.]+)%$", printed, re.MULTILINE)
    assert [name for name, *_ in rows] == ["eager", "onnxruntime", "onnxruntime int8", "openvino", "openvino int8"]
    differences = {name: float(difference) for name, _, difference in rows}
    assert max(differences["onnxruntime"], differences["openvino"]) < 0.1
    assert 0 < differences["onnxruntime int8"] < 10
    assert 0 < differences["openvino int8"] < 10
    assert (tmp_path / "net.int8.onnx").stat().st_size < 0.5 * (tmp_path / "net.onnx").stat().st_size


def test_atoms_keep_their_energy(tmp_path) -> None:
    document, printed = run("lennard-jones", tmp_path, "--steps", "60")
    checked(document, 60)
    assert "512 atoms, 60 steps: energy within" in printed


def test_atoms_that_move_too_far_in_a_step_do_not(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "lennard-jones"))
    import torch

    atoms = __import__("atoms")
    monkeypatch.setattr(atoms, "STEP", 0.04)
    step, state = atoms.Verlet(), atoms.start(1)
    first = atoms.energy(state[0], state[1])
    with torch.inference_mode():
        for _ in range(60):
            state = step(*state)
    drift = (atoms.energy(state[0], state[1]) - first).abs() / (state[1] ** 2).sum() * 2
    assert not float(drift) < 0.01
    del sys.modules["atoms"]


def test_forces_are_the_slope_of_the_energy(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "lennard-jones"))
    import torch

    atoms = __import__("atoms")
    places, speeds, _ = (part.double() for part in atoms.start(1))
    places += 0.05 * torch.randn(places.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    moved = places.clone().requires_grad_()
    slope = torch.autograd.grad(atoms.energy(moved, speeds).sum(), moved)[0]
    torch.testing.assert_close(atoms.forces(places), -slope, rtol=1e-6, atol=1e-6)
    del sys.modules["atoms"]


@pytest.mark.parametrize("place", ["ray", "loop"])
def test_a_sweep_tries_three_rates(tmp_path, place) -> None:
    if place == "ray":
        pytest.importorskip("ray")
    for attempt in range(3):  # Ray gives itself half a minute to start, which a busy machine may exceed
        folder = tmp_path / str(attempt)
        folder.mkdir()
        document, printed = run("ray-sweep", folder, "--steps", "5", SWEEP_ON=place)
        if "Ray does not start" not in printed:
            break
    checked(document, 15)
    assert len(re.findall(r"^learning rate [\d.]+: loss", printed, re.MULTILINE)) == 3
    assert ("one after the other" in printed) == (place == "loop")
    assert document["measured"]["samples"] > 9  # of all three, not of the last


@pytest.mark.parametrize("name", NAMES)
def test_figures_stand_beside_each_example(name) -> None:
    found = tomllib.loads((EXAMPLES / name / "result.toml").read_text(encoding="utf-8"))
    assert shlex.split(found["command"])[1:] == [w if w != sys.executable else "python" for w in command_of(name)]
    assert [one["learned_from"] for one in found["run"]] == [name != "resnet18-ddp", False]
    for one in found["run"]:
        for key in ("predicted_before_s", "predicted_after_s"):
            assert 0 < one[key]["p10"] <= one[key]["p50"] <= one[key]["p90"]
        assert one["measured_s"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_job_file_is_a_job(name) -> None:
    from rigwise.cli.plan_job import job_at

    job, words = job_at(str(EXAMPLES / name / "job.toml"), {}, None), command_of(name)
    assert job.model == words[words.index("--model") + 1]
    assert job.batch == int(words[words.index("--batch") + 1])
