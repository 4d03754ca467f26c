"""``rigwise rig``: answers, exit codes and messages as a user sees them."""

import json

import pytest
from click.testing import CliRunner

from rigwise.cli.rig import command
from rigwise.errors import RigwiseError

GOOD = '[[part]]\nkind = "gpu"\nname = "RTX 3090"\n'


def run(*arguments: str):
    return CliRunner().invoke(command, list(arguments), standalone_mode=False)


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "rig.toml"
    path.write_text(GOOD)
    return str(path)


def test_problems_are_exit_1(tmp_path):
    path = tmp_path / "rig.toml"
    path.write_text(GOOD + '[[part]]\nkind = "ram"\nname = "DDR4 1x8 GB"\n')
    result = run("check", str(path))
    assert result.return_value == 1
    assert "PROBLEM  memory-per-vram: 8 GiB of memory for 24 GiB" in result.output


def test_a_check_with_a_model_says_whether_it_fits(listed):
    result = run("check", listed, "--for", "gpt2", "--batch", "4", "--json")
    found = {f["rule"]: f for f in json.loads(result.output)["findings"]}
    assert result.return_value == 0
    assert found["model-fits"]["severity"] == "ok"


def test_a_model_that_does_not_fit_is_a_problem(listed):
    result = run("check", listed, "--for", "llama-3.1-70b", "--batch", "1", "--quiet")
    assert result.return_value == 1
    assert "model-fits" in result.output


def test_a_build_is_printed_within_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = run("build", "--budget", "$1500", "--device", "rtx-3060-12gb", "--mains", "us-15")
    assert result.exit_code == 0, result.exception
    assert max(map(len, result.output.splitlines())) <= 80
    for word in ("GeForce RTX 3060 12 GB", "why these", "certificate", "more money", "gap 0"):
        assert word in result.output


def test_a_build_writes_its_document(tmp_path):
    path = tmp_path / "build.json"
    result = run("build", "--budget", "1200", "--device", "rtx-3060-12gb", "--json", "--output", str(path))
    assert json.loads(path.read_text()) == json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--budget", "$-5"], "--budget"),
        (["build", "--budget", "1e99"], "--budget"),
        (["build", "--budget", "NaN"], "--budget"),
        (["build", "--budget", "€2000"], "--budget"),
        (["build", "--budget", "2000 W"], "unit"),
        (["build", "--mains", "us-51"], "us-15"),
        (["build", "--device", "rtx-9999"], "rtx-9999"),
        (["build", "--vendor", "nvidea"], "nvidea"),
        (["build", "--deadline", "3h"], "--job"),
        (["build", "--from", "missing.toml"], "missing.toml"),
        (["build", "--storage", "0"], "--storage"),
        (["build", "--job", "missing.toml", "--for", "gpt2"], "--for"),
        (["check", "missing.toml"], "missing.toml"),
    ],
)
def test_bad_flags_are_one_clear_line(arguments, words):
    result = run(*arguments)
    assert isinstance(result.exception, RigwiseError)
    assert result.exception.exit_code == 2
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_how_to_run_needs_a_model(listed):
    result = run("check", listed, "--batch", "4")
    assert "add --for" in str(result.exception)


def test_an_empty_and_a_huge_file_are_refused(tmp_path):
    empty, huge = tmp_path / "empty.toml", tmp_path / "huge.toml"
    empty.write_text("")
    huge.write_text("#" * (2**20 + 1))
    assert "empty" in str(run("check", str(empty)).exception)
    assert "bytes" in str(run("check", str(huge)).exception)
