"""``rigwise capture``: a whole file and a summary, or one line and nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rigwise.graph.dim import parse_size
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.rwg import read_model, write_model


def linear() -> Model:
    """One linear layer, four times."""
    b = parse_size("b")
    op = Op(
        name="aten.mm",
        kind=Kind.GEMM,
        phase=Phase.FORWARD,
        inputs=(Tensor((b, 8), producer=0), Tensor((8, 8), role=Role.PARAMETER)),
        outputs=(Tensor((b, 8), producer=0),),
        repeat=4,
    )
    return Model(
        name="linear",
        card=Card(title="Four layers", assumed=("balanced experts",)),
        parameters=(Parameter(name="*.weight", shape=(8, 8), count=4),),
        graphs={"infer": Graph(ops=(op,), symbols={"b": 2})},
        captured_with={"torch": "2.13.0"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "linear.rwg", linear())
    return tmp_path


def rigwise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rigwise", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "RIGWISE_CACHE": str(folder / "cache")},
    )


def test_json_names_the_file_and_what_it_holds(folder: Path) -> None:
    done = rigwise(folder, "capture", "linear.rwg", "-o", "out.rwg", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["schema"] == "rigwise.capture/1"
    assert document["parameters"] == 4 * 8 * 8
    assert document["graphs"] == {"infer": {"ops": 1, "calls": 4, "symbols": ["batch"], "folded": {}}}
    assert document["file_bytes"] == (folder / "out.rwg").stat().st_size
    assert read_model(folder / "out.rwg") == linear()


def test_explain_says_what_was_assumed(folder: Path) -> None:
    done = rigwise(folder, "capture", "linear.rwg", "-o", "out.rwg", "--explain")
    assert "assumed: balanced experts" in done.stdout
    assert "captured with torch 2.13.0" in done.stdout
    assert "wrote out.rwg" in done.stderr


def test_quiet_writes_the_file_and_nothing_else(folder: Path) -> None:
    done = rigwise(folder, "capture", "linear.rwg", "-o", "out.rwg", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    assert read_model(folder / "out.rwg") == linear()


@pytest.mark.parametrize(
    ("model", "output", "expected"),
    [
        ("linear.rwg", "out.json", "does not end in .rwg"),
        ("linear.rwg", "absent/out.rwg", "there is no folder absent"),
        ("linear.rwg", "linear.rwg/out.rwg", "there is no folder linear.rwg"),
        ("damaged.rwg", "out.rwg", "damaged.rwg is truncated"),
        ("no-such-model", "out.rwg", "there is no model 'no-such-model'"),
        ("broken.json", "out.rwg", "broken.json is not JSON"),
    ],
)
def test_a_failed_capture_is_one_line_and_writes_nothing(folder: Path, model: str, output: str, expected: str) -> None:
    (folder / "damaged.rwg").write_bytes((folder / "linear.rwg").read_bytes()[:-9])
    (folder / "broken.json").write_text("{")
    before = sorted(folder.rglob("*"))
    done = rigwise(folder, "capture", model, "-o", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert sorted(folder.rglob("*")) == before
