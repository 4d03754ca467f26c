"""Labs: text to notebook, answers and their mistakes, and labs 1 to 4 executed without a browser."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError, MissingExtraError, RigwiseError, UnknownNameError
from rigwise.labs import check, predict, progress, reveal, server, sized
from rigwise.labs.answers01 import batch_at_ridge, intensity
from rigwise.labs.execute import execute
from rigwise.labs.exercise import BINARY, BITS, MULTIPLY_ADD, Verdict, choice, number
from rigwise.labs.learner import QUICK, STATES
from rigwise.labs.notebook import Cell, Lab, notebook, read_lab
from rigwise.labs.shelf import exercise, exercises, lab, labs

MINE = (1, 2, 3, 4)


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress.json"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv(QUICK, "1")


def run(*arguments: str):
    return CliRunner().invoke(command_line, ["lab", *arguments], standalone_mode=False)


def a_lab(*cells: Cell) -> Lab:
    return Lab(number=1, name="lab01_x", title="T", question="Q?", minutes=1, needs=(), cells=cells)


def code(source: str) -> Cell:
    return Cell(is_code=True, source=source)


HEAD = "---\ntitle: T\nquestion: Q?\nminutes: 9\nneeds:\n---\n"


# The text and the notebook


def test_there_are_ten_labs_whose_notebooks_are_valid() -> None:
    nbformat = pytest.importorskip("nbformat")
    assert [one.number for one in labs()] == list(range(1, 11))
    for one in labs():
        nbformat.validate(nbformat.reads(notebook(one), as_version=4))


@given(
    st.lists(
        st.tuples(st.booleans(), st.text("ab #`\n", min_size=1).map(str.strip).filter(bool)), min_size=1, max_size=6
    )
)
def test_cells_come_back_as_they_were_written(parts: list[tuple[bool, str]]) -> None:
    parts = [(is_code, text) for is_code, text in parts if not any(w.startswith("```") for w in text.splitlines())]
    alternating = [part for place, part in enumerate(parts) if place == 0 or part[0] or parts[place - 1][0]]
    text = HEAD + "".join(f"```python\n{words}\n```\n" if is_code else f"{words}\n" for is_code, words in alternating)
    found = [(cell.is_code, cell.source) for cell in read_lab(text, "lab01_x").cells]
    assert found == [(is_code, words) for is_code, words in alternating]


def test_other_fences_are_text() -> None:
    text = HEAD + "A\n```sh\n```python is not a cell here\n```\nB\n```python\n1\n```\n"
    assert [cell.is_code for cell in read_lab(text, "lab01_x").cells] == [False, True]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "head"),
        ("# Title\n", "head"),
        ("---\ntitle: T\n---\n", "question"),
        (HEAD.replace("minutes", "munites"), "munites"),
        (HEAD.replace("needs:", "needs:\ntitle: U"), "title"),
        (HEAD + "A\n```python\n1\n", "line 8"),
    ],
)
def test_a_text_that_is_no_lab_is_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        read_lab(text, "lab01_x")


def test_every_lab_asks_first_measures_and_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "lab.md").read_text("utf-8")
    for one in labs():
        assert f"| {one.number} | {one.title} | {one.question} |" in page
        source = "\n".join(cell.source for cell in one.cells if cell.is_code)
        asked = re.findall(r"predict\(\"(\d+\.\d+)\", (?:None|\.\.\.)", source)
        assert asked, one.name
        for name in asked:
            assert source.index(f'predict("{name}"') < source.index(f'reveal("{name}"')
        assert all(f'check("{name}"' in source for name in exercises(one.number)), one.name


# Answers


def test_every_exercise_says_why_when_nothing_sensible_is_answered() -> None:
    for one in labs():
        assert exercises(one.number), one.name
        for name in exercises(one.number):
            asked = exercise(name)
            for answer in ("no such word", float("nan"), True, [], {}, object()):
                try:
                    verdict = asked.judge(answer, {})
                except KeyError:  # what was measured decides it, and nothing was
                    continue
                assert not verdict.right, (name, answer)
                assert len(verdict.because) > 5


@pytest.mark.parametrize(
    ("factor", "mistakes", "word"),
    [(8, BITS, "bits"), (1 / 8, BITS, "bytes"), (2, MULTIPLY_ADD, "2 FLOP"), (0.5, MULTIPLY_ADD, "2 FLOP")],
)
def test_a_wrong_number_is_told_its_mistake(factor: float, mistakes: dict, word: str) -> None:
    verdict = number(12.0, "so", mistakes=mistakes)(12.0 * factor, {})
    assert not verdict.right
    assert word in verdict.because


def test_kib_for_kb_is_told_where_the_tolerance_is_fine_enough() -> None:
    judge = number(1e9, "so", within_frac=0.005, mistakes=BINARY)
    assert "GiB" in judge(1e9 * 1.024**3, {}).because
    assert "kB" in judge(1e9 * 1.024, {}).because
    assert judge(1.004e9, {}).right


@pytest.mark.parametrize(
    ("answer", "word"),
    [(-12, "sign"), (1 / 12, "one over"), (12e3, "power of ten"), (0, "not zero"), (11, "small"), (13, "large")],
)
def test_what_else_can_be_wrong_with_a_number(answer: float, word: str) -> None:
    assert word in number(12.0, "so")(answer, {}).because


@given(st.floats(1e-6, 1e12), st.floats(-0.9, 10))
def test_an_answer_is_right_exactly_within_its_tolerance(right: float, off: float) -> None:
    judge = number(right, "so", within_frac=0.02, mistakes={**BITS, **MULTIPLY_ADD})
    if abs(off) < 0.019:
        assert judge(right * (1 + off), {}).right
    if abs(off) > 0.021:
        assert not judge(right * (1 + off), {}).right


def test_a_choice_tells_why_for_each_word() -> None:
    judge = choice(lambda given: given["best"], {"a": "because of {best}", "b": "no"})
    assert judge("A", {"best": "a"}) == Verdict(right=True, because="because of a")
    assert not judge("c", {"best": "a"}).right


RIGHT = {
    "1.3": (intensity(2048, 64), {}),
    "1.4": (batch_at_ridge({"peak": 60e9, "bandwidth": 20e9, "N": 4096}), {"peak": 60e9, "bandwidth": 20e9, "N": 4096}),
    "2.3": (65504, {}),
    "2.4": (32, {}),
    "2.5": ("bf16", {}),
    "3.3": ((150528, 1, 672, 3), {}),
    "3.4": (3 * 224 * 224 * 4, {}),
    "3.5": ("copies", {}),
    "4.2": (2 * 8 * 64 * 128 * 9 * 16 * 16, {}),
    "4.3": ("3", {}),
    "4.4": (0.1, {}),
}
WRONG = [
    ("1.3", 128, "4 bytes"),
    ("1.3", 32, "weights alone"),
    ("1.3", intensity(2048, 64) / 2, "2 FLOP"),
    ("2.3", 65536, "nearly"),
    ("2.3", 131072, "infinity"),
    ("2.3", 65535, "whole number"),
    ("2.4", 64, "half"),
    ("2.4", 16, "vanishes"),
    ("2.4", 33, "power of two"),
    ("2.4", 5, "factor"),
    ("2.5", "fp16", "6e-8"),
    ("3.3", (150528, 50176, 224, 1), "NCHW"),
    ("3.3", (602112, 4, 2688, 12), "bytes"),
    ("3.3", (1, 2, 3), "four"),
    ("3.4", 224 * 224 * 4, "wanted"),
    ("4.2", 8 * 64 * 128 * 9 * 16 * 16, "MAC"),
    ("4.2", 2 * 8 * 64 * 128 * 9 * 32 * 32, "16 x 16"),
    ("4.3", "2", "backward"),
    ("4.4", 10, "percent"),
]


def test_right_answers_of_these_labs_are_right() -> None:
    assert set(RIGHT) == {name for one in MINE for name in exercises(one)}
    for name, (answer, facts) in RIGHT.items():
        verdict = exercise(name).judge(answer, facts)
        assert verdict.right, (name, verdict.because)


@pytest.mark.parametrize(("name", "answer", "word"), WRONG)
def test_wrong_answers_of_these_labs_are_told_their_mistake(name: str, answer: object, word: str) -> None:
    verdict = exercise(name).judge(answer, RIGHT[name][1])
    assert not verdict.right
    assert word in verdict.because


# What a learner sees


def test_a_guess_is_set_beside_what_was_measured(capsys) -> None:
    predict("1.2", None)
    reveal("1.2", 4.0)
    predict("1.2", 16)
    reveal("1.2", 4.0)
    said = " ".join(capsys.readouterr().out.split())
    assert "No guess yet" in said
    assert "You guessed 16 times, it is 4 times, your guess over 4" in said
    assert progress.read().guesses == {"1.2": 16.0}


def test_a_right_answer_is_kept_and_a_wrong_one_is_not(capsys) -> None:
    for answer in (None, ..., 1, "x"):
        check("4.4", answer)
    assert progress.read().solved == {}
    check("4.4", 0.1)
    assert set(progress.read().solved) == {"4.4"}
    assert [line.split("  ")[1].startswith(STATES) for line in capsys.readouterr().out.splitlines() if line[0] == "4"]


def test_progress_that_cannot_be_kept_stops_no_lab(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "file" / "p.json"))
    predict("1.1", 3)
    check("4.4", 0.1)
    said = capsys.readouterr().out
    assert said.count("not kept") == 2
    assert "Right" in said


@pytest.mark.parametrize("name", ["1.99", "77.1", "x", "", "1"])
def test_names_that_no_lab_asks_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        check(name, 1)


def test_a_quick_run_is_smaller(monkeypatch) -> None:
    assert sized(8, 2) == 2
    monkeypatch.setenv(QUICK, "0")
    assert sized(8, 2) == 8


# Running


def with_answers(text: str) -> str:
    """A notebook with right answers in place of ``None``."""
    document = json.loads(text)
    for cell in document["cells"]:
        for name, (answer, _) in RIGHT.items():
            if name != "1.4":
                cell["source"] = [
                    line.replace(f'check("{name}", None', f'check("{name}", {answer!r}') for line in cell["source"]
                ]
    return json.dumps(document)


@pytest.mark.slow
@pytest.mark.parametrize("number_", MINE)
def test_the_labs_run_and_know_right_answers(number_: int, tmp_path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("nbclient")
    ran = execute(with_answers(notebook(lab(number_))), tmp_path)
    assert ran.fault == ""
    expected = {name: "No answer yet" if name == "1.4" else "Right" for name in exercises(number_)}
    assert ran.states == expected
    pictures = [o for c in json.loads(ran.document)["cells"] for o in c.get("outputs", []) if "data" in o]
    assert any("<svg" in "".join(o["data"].get("text/html", "")) for o in pictures)


def test_a_cell_that_fails_is_one_line(tmp_path) -> None:
    pytest.importorskip("nbclient")
    ran = execute(notebook(a_lab(code("1 + 1"), code("print('4.4  Right: so.')\n1 / 0"), code("2"))), tmp_path)
    assert ran.fault == "cell 3: ZeroDivisionError: division by zero"
    assert ran.states == {"4.4": "Right"}


def test_a_kernel_that_dies_is_one_line(tmp_path) -> None:
    pytest.importorskip("nbclient")
    ran = execute(notebook(a_lab(code("import os\nos._exit(9)"))), tmp_path)
    assert ran.fault.startswith("cell 2: the kernel died")
    assert "\n" not in ran.fault


def test_a_cell_that_never_ends_is_ended(tmp_path) -> None:
    pytest.importorskip("nbclient")
    ran = execute(notebook(a_lab(code("while True: pass"))), tmp_path, timeout_s=1.0)
    assert "took longer than 1 s" in ran.fault


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": 3}', '{"nbformat": 4, "nbformat_minor": 5}'])
def test_what_is_no_notebook_is_refused(text: str, tmp_path) -> None:
    pytest.importorskip("nbclient")
    with pytest.raises(RigwiseError):
        execute(text, tmp_path)


def test_a_missing_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nbclient", None)
    with pytest.raises(MissingExtraError, match=r"rigwise\[lab\]"):
        execute(notebook(a_lab()), tmp_path)


def test_check_runs_the_notebook_of_the_learner_and_leaves_it(tmp_path) -> None:
    pytest.importorskip("nbclient")
    file = server.notebook_path(lab(4), tmp_path)
    file.write_text(notebook(a_lab(code("from rigwise.labs import check\ncheck('4.4', 10)"))))
    before = file.read_bytes()
    result = run("check", "4", "--folder", str(tmp_path), "--json", "--output", str(tmp_path / "ran.ipynb"))
    document = json.loads(result.stdout)
    assert result.return_value == 1
    assert document["exercises"] == {"4.2": "not reached", "4.3": "not reached", "4.4": "Not yet"}
    assert document["ran"]
    assert file.read_bytes() == before
    assert "is percent" in (tmp_path / "ran.ipynb").read_text()


def test_ctrl_c_ends_the_kernel_too(tmp_path) -> None:
    pytest.importorskip("nbclient")
    source = "import os, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\nwhile True: pass"
    server.notebook_path(lab(4), tmp_path).write_text(notebook(a_lab(code(source))))
    words = ["lab", "check", "4", "--folder", str(tmp_path)]
    with subprocess.Popen([sys.executable, "-m", "rigwise", *words], stderr=subprocess.PIPE, text=True) as started:
        pid = tmp_path / "pid"
        ends_s = time.monotonic() + 120
        while started.poll() is None and not (pid.is_file() and pid.read_text()) and time.monotonic() < ends_s:
            time.sleep(0.1)
        kernel = psutil.Process(int(pid.read_text()))
        started.send_signal(signal.SIGINT)
        told = started.communicate()[1]
    assert started.returncode == 130, told
    assert told.splitlines()[-1] == "rigwise: interrupted"
    assert psutil.wait_procs([kernel], timeout=10)[1] == []


# The folder and the server


def test_notebooks_that_are_there_are_never_written_over(tmp_path) -> None:
    mine = server.notebook_path(lab(2), tmp_path)
    mine.write_text("mine")
    assert len(server.lay_out(tmp_path)) == len(labs()) - 1
    assert mine.read_text() == "mine"
    assert server.lay_out(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="--folder"):
        server.lay_out(tmp_path / "file" / "labs")


def test_the_server_is_that_of_the_sandbox_behind_password_and_tls(tmp_path) -> None:
    pytest.importorskip("jupyterlab")
    start = server.prepare(tmp_path, lab(3), free_port(), allow_root=True)
    place = tmp_path / "data" / "rigwise" / "labs" / "server"
    config = (place / "jupyter_server_config.py").read_text()
    for line in ('ip = "127.0.0.1"', "password_required = True", "certfile", "allow_remote_access = False"):
        assert line in config
    assert place.stat().st_mode & 0o077 == 0
    assert start.url.endswith("/lab/tree/lab03_layouts.ipynb")
    assert not start.has_password
    assert f"--ServerApp.root_dir={tmp_path}" in start.command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_one_line(tmp_path) -> None:
    pytest.importorskip("jupyterlab")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidInputError, match="--port"):
            server.prepare(tmp_path, None, taken.getsockname()[1], allow_root=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root is asked")
def test_root_has_to_say_so(tmp_path) -> None:
    pytest.importorskip("jupyterlab")
    with pytest.raises(InvalidInputError, match="--allow-root"):
        server.prepare(tmp_path, None, free_port())


@pytest.mark.slow
def test_the_server_starts_and_lets_nobody_in_without_the_password(tmp_path) -> None:
    pytest.importorskip("jupyterlab")
    port = free_port()
    words = ["lab", "open", "2", "--folder", str(tmp_path / "mine"), "--port", str(port), "--allow-root"]
    with subprocess.Popen(
        [sys.executable, "-m", "rigwise", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        started.stdin.write("twelve letters or more\n")
        started.stdin.close()
        try:
            status = answer(started, port, "/login")
            assert (status, answer(started, port, "/api/contents")) == (200, 403)
        finally:
            started.terminate()
        told = started.stderr.read()
    assert f"https://localhost:{port}/lab/tree/lab02_formats.ipynb" in told
    assert len(list((tmp_path / "mine").glob("*.ipynb"))) == len(labs())


def answer(started: subprocess.Popen, port: int, path: str) -> int:
    """Status over TLS, as soon as the server answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    ends_s = time.monotonic() + 120
    while started.poll() is None and time.monotonic() < ends_s:
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
            connection.request("GET", path)
            return connection.getresponse().status
        except ConnectionRefusedError:
            time.sleep(0.2)
        finally:
            connection.close()
    return 0


def test_without_jupyterlab_the_install_line_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rigwise\[lab\]"):
        server.prepare(tmp_path, None, free_port())


# The command


def test_the_list_names_every_lab_and_what_is_solved() -> None:
    check("4.4", 0.1)
    document = json.loads(run("list", "--json").stdout)
    assert [row["number"] for row in document["labs"]] == list(range(1, 11))
    assert document["labs"][3]["solved"] == ["4.4"]
    assert "1 of 3 solved" in run("list").stdout


@pytest.mark.parametrize(
    "words",
    ["chek 1", "check 11", "check x", "check 1 --folder no/such", "open 0", "--port 80", "--port 9000 list", "list x"],
)
def test_what_cannot_be_asked_is_refused(words: str) -> None:
    result = run(*words.split())
    assert isinstance(result.exception, RigwiseError | click.ClickException)
