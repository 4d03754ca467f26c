"""What scripts rely on: one JSON document on stdout, no escape codes, honest exit codes, one line on stderr."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rigwise.cli.main import COMMANDS
from rigwise.cli.main import root as command_line

PLAN = ["plan", "resnet50", "--task", "train", "--samples", "1e7", "--deadline", "24h"]

#: An answer of every command; ``None`` where a command writes a file and is asked below.
ANSWERS = {
    "inspect": ["inspect"],
    "doctor": ["doctor", "--install", "torch", "--device", "V100-SXM2-32GB", "--driver", "580.65.06"],
    "watch": ["watch", "--every", "0.1s", "--count", "1"],
    "bench": ["bench", "launch", "--each", "20ms", "--threads", "1"],
    "devices": ["devices"],
    "cpus": ["cpus"],
    "offers": ["offers"],
    "parts": ["parts"],
    "models": ["models"],
    "capture": None,
    "show": ["show", "resnet50"],
    "predict": ["predict", "resnet50", "--device", "rtx-4090", "--batch", "64"],
    "compare": ["compare", "resnet50", "--device", "rtx-4090", "--device", "t4"],
    "plan": PLAN,
    "rig": ["rig", "check", "examples/rigs/alienware-aurora-r12.toml"],
    "setup": ["setup", "docker", "--device", "t4"],
    "run": ["run", "examples/camera-detectors/app.toml", "--items", "8"],
    "trace": ["trace", "tests/data/trace/cuda-like.json"],
    "judge": ["judge", "tests/data/measured/steps.csv"],
    "calibrate": ["calibrate", "tests/data/measured/steps.csv", "--dry-run", "--fresh"],
    "history": ["history"],
    "lab": ["lab", "list"],
    "serve": None,
}

#: Commands with subcommands, and the schema of the one that is asked.
SUBCOMMANDS = {"lab": "lab.list", "rig": "rig.check"}

#: What was asked wrongly, and the word that the message must repeat.
BAD_INPUT = [
    (["predict", "no-such-model", "--device", "t4"], "no-such-model"),
    (["predict", "resnet50", "--device", "no-such-device"], "no-such-device"),
    (["predict", "resnet50", "--device", "H100"], "h100-sxm5-80gb"),
    (["predict", "resnet50", "--device", "t4", "--batch", "0"], "batch"),
    (["predict", "resnet50", "--device", "t4", "--batch", "many"], "many"),
    (["predict", "resnet50", "--device", "k80", "--dtype", "fp8"], "fp8"),
    (["plan", "missing.toml"], "missing.toml"),
    (["plan", "resnet50", "--samples", "1e400"], "1e400"),
    (["show", "missing.rwg"], "missing.rwg"),
    (["rig", "check", "missing.txt"], "missing.txt"),
    (["rig", "build", "--budget", "$0"], "--budget"),
    (["doctor", "--snapshot", "missing.json"], "missing.json"),
    (["nosuchcommand"], "nosuchcommand"),
    (["predict", "resnet50", "--devise", "t4"], "--devise"),
]

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


def rigwise(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "rigwise", *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    """What a command writes to a terminal of 80 columns."""
    import pty

    master, slave = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        if name not in environment:
            settings.pop(name, None)
    command = [sys.executable, "-m", "rigwise", *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=settings, close_fds=True) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed: the command has ended
                break
            if not part:
                break
            written += part
        os.close(master)
    assert process.returncode == 0, written.decode()
    return written


def test_every_command_is_asked_here() -> None:
    assert set(ANSWERS) == set(COMMANDS)


@pytest.mark.parametrize("name", [name for name, arguments in ANSWERS.items() if arguments])
def test_json_is_one_versioned_and_documented_document(name: str, root) -> None:
    run = rigwise(*ANSWERS[name], "--json")
    assert run.returncode == 0, run.stderr.decode()
    assert run.stderr == b""
    assert b"\x1b" not in run.stdout
    document = json.loads(run.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert document["schema"] == f"rigwise.{SUBCOMMANDS.get(name, name)}/1"
    reference = (root / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    assert [key for key in answer_keys(document) if f"`{key}`" not in reference] == []


def answer_keys(document: dict) -> set[str]:
    """Keys of the document itself and, for plans and predictions, of what it is made of."""
    if "plans" in document:
        return {*document, *document["plans"][0], *document["certificate"], *document["certificate"]["cover"][0]}
    if "results" in document:
        return {*document, *document["results"][0]}
    return {*document, *document.get("case", ()), *document.get("case", {}).get("parallel", ())}


@pytest.mark.parametrize("name", [name for name, arguments in ANSWERS.items() if arguments])
def test_a_pipe_gets_plain_text(name: str) -> None:
    run = rigwise(*ANSWERS[name], FORCE_COLOR="1", NO_COLOR="1")
    assert run.returncode == 0
    assert run.stdout
    assert b"\x1b" not in run.stdout


@needs_pty
@pytest.mark.parametrize("name", ["devices", "predict", "plan"])
def test_no_color_is_honoured_on_a_terminal(name: str) -> None:
    written = on_a_terminal(*ANSWERS[name], NO_COLOR="1")
    assert written
    assert b"\x1b" not in written


@needs_pty
def test_json_on_a_terminal_has_no_escape_codes() -> None:
    written = on_a_terminal(*ANSWERS["predict"], "--json")
    assert b"\x1b" not in written
    assert json.loads(written)["schema"] == "rigwise.predict/1"


@needs_pty
@pytest.mark.parametrize("name", ["devices", "offers", "models", "show", "predict", "compare", "plan", "judge", "rig"])
def test_answers_keep_to_80_columns(name: str) -> None:
    lines = on_a_terminal(*ANSWERS[name], NO_COLOR="1").decode().splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(("arguments", "word"), BAD_INPUT, ids=[" ".join(a) for a, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], word: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = rigwise(*arguments)
    assert run.returncode == 2
    assert run.stdout == b""
    message = run.stderr.decode()
    assert message.startswith("rigwise: ")
    assert word in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_feasible_is_exit_1() -> None:
    run = rigwise(*PLAN[:-1], "1s")
    assert run.returncode == 1
    assert b"Traceback" not in run.stderr
    assert run.stderr.startswith(b"rigwise: no plan")
    assert run.stderr.count(b"\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_not_a_fault(unbuffered) -> None:
    command = f"set -o pipefail; {sys.executable} -m rigwise devices --json | head -n 1"
    here = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    run = subprocess.run(["bash", "-c", command], env=here, capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_answers(name: str) -> None:
    result = CliRunner().invoke(command_line, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: root {name}")
    assert command_line.get_command(None, name).help
