"""``rigwise models``: the zoo as a table and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from rigwise.graph.load import load_model, zoo_names

RESNET50_MACS = 4.089e9  # torchvision's table of models, ResNet50_Weights


def rigwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rigwise", "models", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )


def rows(*arguments: str) -> list[dict[str, Any]]:
    done = rigwise(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["schema"] == "rigwise.models/1"
    models: list[dict[str, Any]] = document["models"]
    return models


def test_json_lists_every_model_of_the_zoo_once() -> None:
    assert [row["name"] for row in rows()] == list(zoo_names())


def test_a_row_says_what_the_model_says() -> None:
    (row,) = rows("resnet50")
    model = load_model("resnet50")
    assert row["parameters"] == model.parameter_count
    assert row["forward_macs"] == pytest.approx(RESNET50_MACS, rel=1e-3)
    assert row["sizes"] == {"batch": 1, "image_size": 224}
    assert row["tasks"] == list(model.graphs)
    assert row["reference_batch"] == model.card.reference_batch


def test_rows_are_filtered_and_sorted() -> None:
    small = rows("--parameters", "<1e9", "--sort", "-macs")
    assert small
    assert all(row["parameters"] < 1e9 for row in small)
    assert [row["forward_macs"] for row in small] == sorted((r["forward_macs"] for r in small), reverse=True)
    assert {row["family"] for row in rows("--family", "=resnet")} == {"resnet"}


def test_the_table_fits_a_terminal() -> None:
    done = rigwise("--limit", "0")
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert all(name in done.stdout for name in zoo_names())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("resnet5",), "did you mean resnet50"),
        (("--sort", "size"), "size"),
        (("--parameters", "many"), "--parameters"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_a_bad_question_is_one_line_and_exit_2(arguments: tuple[str, ...], expected: str) -> None:
    done = rigwise(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
