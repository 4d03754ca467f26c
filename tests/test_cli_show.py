"""``rigwise show`` and the sums behind it, on a model small enough to count by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.graph.dim import parse_size
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.rwg import write_model
from rigwise.graph.summary import costs_of
from rigwise.graph.tree import Load, Row, module_tree, sums
from rigwise.report.step_rows import counted_step
from rigwise.workload.case import Case

B, P, HALF = parse_size("b"), parse_size("p"), parse_size("(p-3)//2")
LAYERS = 4


def stem() -> Model:
    """A convolution with kernel 5 and stride 2, four layers nobody knows, and its weight gradient."""
    image, weight = Tensor((B, 3, P, P), role=Role.INPUT), Tensor((64, 3, 5, 5), role=Role.PARAMETER)
    features = Tensor((B, 64, HALF, HALF), producer=0, saved=True)
    conv = {"kind": Kind.CONV, "module": "stem", "attrs": {"stride": (2, 2), "groups": 1}}
    forward = (
        Op(name="aten.convolution", phase=Phase.FORWARD, inputs=(image, weight), outputs=(features,), **conv),
        Op(
            name="vendor.twist",
            kind=Kind.UNKNOWN,
            phase=Phase.FORWARD,
            inputs=(features,),
            outputs=(Tensor((B, 64), producer=1),),
            module="layers.*",
            repeat=LAYERS,
        ),
    )
    gradient = Tensor((64, 3, 5, 5), role=Role.GRADIENT, producer=2)
    backward = Op(
        name="rigwise.conv_wgrad", phase=Phase.BACKWARD, inputs=(features, image), outputs=(gradient,), **conv
    )
    return Model(
        name="stem",
        card=Card(title="A stem", assumed=("equal twists",)),
        parameters=(
            Parameter(name="weight", shape=(64, 3, 5, 5)),
            Parameter(name="bias", shape=(64,), trainable=False),
        ),
        graphs={
            "train": Graph(ops=(*forward, backward), symbols={"b": 2, "p": 65}),
            "infer": Graph(ops=forward, symbols={"b": 2, "p": 65}),
        },
    )


def rows(task: str = "train", **sizes: int) -> list[Row]:
    """The operators of the stem as ``show`` prices them."""
    case = Case(model="stem", device="", task=task, batch=sizes["batch"], image_size=sizes["image_size"])
    return list(counted_step(case, stem()).rows)


def test_sums_are_those_that_a_hand_makes() -> None:
    batch, image = 8, 65
    side = (image - 5) // 2 + 1
    found = rows(batch=batch, image_size=image)
    macs = batch * side**2 * 64 * 3 * 5**2
    features = 4 * batch * 64 * side**2
    by_kind, by_layer = sums(found, lambda row: row.op.kind), sums(found, lambda row: row.op.module)
    total = sum(by_kind.values(), Load())
    assert by_kind["conv"].cost.macs == 2 * macs
    assert total.cost.flops == 4 * macs
    assert {load.cost.macs for load in sums(found, lambda row: row.op.phase).values()} == {macs}
    assert total.cost.saved_bytes == features
    assert by_layer["layers.*"].cost.read_bytes == LAYERS * features
    assert by_layer["layers.*"].cost.write_bytes == LAYERS * 4 * batch * 64
    assert sums(found, lambda row: row.op.name)["vendor.twist"].cost.calls == LAYERS


def test_every_breakdown_adds_up_to_the_tree() -> None:
    found = rows(batch=3, image_size=65)
    tree = module_tree(found)
    for key in (lambda row: row.op.phase, lambda row: row.op.kind, lambda row: row.op.module, lambda row: row.op.name):
        whole = sum(sums(found, key).values(), Load())
        assert asdict(whole.cost) == pytest.approx(asdict(tree.total.cost))


def test_an_image_smaller_than_the_kernel_is_too_small() -> None:
    assert module_tree(rows("infer", batch=1, image_size=5)).total.cost.macs == 64 * 75
    with pytest.raises(InvalidInputError, match="batch 1, image_size 4 is too small for stem"):
        rows("infer", batch=1, image_size=4)


def test_sizes_that_no_number_holds_are_too_large() -> None:
    with pytest.raises(InvalidInputError, match="image_size 65 is too large for stem"):
        costs_of(stem().graphs["infer"].ops, {"b": 10**400, "p": 65}, "stem")


def test_a_task_without_a_graph_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="stem has no decode graph"):
        counted_step(Case(model="stem", device="", task="decode"), stem())


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "stem.rwg", stem())
    return tmp_path


def rigwise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rigwise", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )


def test_json_is_one_document_with_the_totals(folder: Path) -> None:
    done = rigwise(folder, "show", "stem.rwg", "--batch", "8", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == "rigwise.show/1"
    assert document["sizes"] == {"batch": 8, "image_size": 65}
    assert document["total"]["flops"] == 2 * document["total"]["macs"] == sum(r["flops"] for r in document["rows"])
    assert document["total"]["bytes"] == document["total"]["read_bytes"] + document["total"]["write_bytes"]
    assert set(document["phases"]) == {"forward", "backward"}
    assert [row["name"] for row in document["rows"]] == ["conv", "unknown"]
    assert document["unknown_ops"] == ["vendor.twist"]
    assert document["assumed"] == ["equal twists"]


def test_rows_can_be_layers_or_operators_and_few(folder: Path) -> None:
    done = rigwise(folder, "show", "stem.rwg", "--by", "layer", "--limit", "1", "--json")
    assert [row["name"] for row in json.loads(done.stdout)["rows"]] == ["stem"]
    done = rigwise(folder, "show", "stem.rwg", "--by", "op", "--limit", "1")
    assert "1 of 3 rows" in done.stdout


def test_the_tree_is_the_default_and_stands_in_the_document(folder: Path) -> None:
    done = rigwise(folder, "show", "stem.rwg", "--quiet")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.strip(" \u2500")] == [
        "module",
        "stem",
        "layers.*",
        "(itself)",
        "total",
    ]
    assert "layers.* x4" in done.stdout
    tree = json.loads(rigwise(folder, "show", "stem.rwg", "--json").stdout)["tree"]
    assert [child["path"] for child in tree["children"]] == ["stem", "layers"]
    assert tree["children"][1]["children"][0]["count"] == LAYERS
    assert tree["flops"] == sum(child["flops"] for child in tree["children"])


def test_one_phase_is_a_part_of_the_whole(folder: Path) -> None:
    total = {}
    for phase in ("forward", "backward"):
        document = json.loads(rigwise(folder, "show", "stem.rwg", "--phase", phase, "--json").stdout)
        assert set(document["phases"]) == {phase}
        total[phase] = document["total"]["bytes"]
    assert sum(total.values()) == json.loads(rigwise(folder, "show", "stem.rwg", "--json").stdout)["total"]["bytes"]


def test_a_number_format_changes_the_bytes_without_a_device(folder: Path) -> None:
    whole = json.loads(rigwise(folder, "show", "stem.rwg", "--task", "infer", "--json").stdout)
    half = json.loads(rigwise(folder, "show", "stem.rwg", "--task", "infer", "--dtype", "fp16", "--json").stdout)
    assert (whole["dtype"], half["dtype"]) == ("float32", "fp16")
    assert half["total"]["bytes"] == pytest.approx(whole["total"]["bytes"] / 2)
    assert half["total"]["flops"] == whole["total"]["flops"]


def test_the_page_fits_a_terminal_and_names_what_is_unknown(folder: Path) -> None:
    done = rigwise(folder, "show", "stem.rwg")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "unknown     vendor.twist (counted as memory traffic)" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("stem.rwg", "--batch", "0"), "batch is 0"),
        (("stem.rwg", "--batch", "-8"), "batch is -8"),
        (("stem.rwg", "--batch", "many"), "'many'"),
        (("stem.rwg", "--image-size", "0"), "image_size is 0"),
        (("stem.rwg", "--image-size", "4"), "too small for stem"),
        (("stem.rwg", "--seq", "8"), "stem has no seq"),
        (("stem.rwg", "--task", "decode"), "stem has no decode graph"),
        (("stem.rwg", "--task", "sleep"), "'sleep'"),
        (("stem.rwg", "--limit", "0"), "--limit"),
        (("stem.rwg", "--depth", "0"), "--depth"),
        (("stem.rwg", "--by", "colour"), "'colour'"),
        (("stem.rwg", "--task", "infer", "--phase", "backward"), "stem has no backward pass"),
        (("stem.rwg", "--device", "no-such-card"), "no-such-card"),
        (("stem.rwg", "--device", "H100"), "h100-sxm5-80gb"),
        (("stem.rwg", "--device", "this:gpu99"), "this machine shows"),
        (("stem.rwg", "--count", "8"), "--count needs --device"),
        (("stem.rwg", "--dot", "graph.png"), "--dot graph.png does not end in .dot"),
        (("stem.rwg", "--html", "page"), "name it page.html"),
        (("stem.rwg", "--html", "absent/page.html"), "there is no folder absent"),
        (("stem.rwg", "--dot", "a.dot", "--html", "./a.dot"), "both name a.dot"),
        (("stem.rwg", "--dot", "folder.dot"), "folder.dot cannot be written"),
        (("absent.rwg",), "there is no file absent.rwg"),
        ((".",), "holds no config.json"),
        (("",), "no model ''"),
        ((), "MODEL"),
    ],
)
def test_a_bad_question_is_one_line_and_exit_2(folder: Path, arguments: tuple[str, ...], expected: str) -> None:
    (folder / "folder.dot").mkdir()
    before = sorted(folder.iterdir())
    done = rigwise(folder, "show", *arguments)
    assert sorted(folder.iterdir()) == before
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
