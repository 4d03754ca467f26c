"""What the command line does where its output cannot be written."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from rigwise.cli.output import json_bytes

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"]])
def test_a_full_disk_is_one_line_and_no_traceback(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "rigwise", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ran.returncode == 2
    assert ran.stderr == "rigwise: the output cannot be written: No space left on device\n"


def test_an_answer_that_fits_in_part_is_not_taken_for_written(tmp_path) -> None:
    resource = pytest.importorskip("resource")
    raw = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (9000, 9000))
    for kind in (["--json"], ["--limit", "0"]):
        with (tmp_path / "models").open("wb") as file:
            ran = subprocess.run(
                [sys.executable, "-m", "rigwise", "devices", *kind],
                stdout=file, stderr=subprocess.PIPE, text=True, check=False, env=raw, preexec_fn=limit,
            )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (2, "rigwise: the output cannot be written: File too large\n")


def test_a_locale_that_lacks_a_character_gets_a_question_mark() -> None:
    words = ["-m", "rigwise", "show", str(Path(__file__).parents[1] / "examples/camera-detectors/app.toml")]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=plain)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "?    camera   on cpu" in ran.stdout


def test_a_name_that_is_no_utf_8_does_not_break_json() -> None:
    name = os.fsdecode(b"b\xff.rwg")
    assert json.loads(json_bytes({"model": name, "words": "ünï"})) == {"model": name, "words": "ünï"}


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_as_good_as_one_that_goes_nowhere(closed: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'exec "$0" -m rigwise models --limit 0 {closed}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert bool(ran.stdout) == (closed == "2>&-")
