"""The command: exit codes, one document, one line for bad input, fixes only after they were agreed to."""

import json
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.cli.doctor import command
from rigwise.machine.doctor.rules import examine, rules
from rigwise.machine.doctor.types import Facts
from rigwise.machine.probe import http_child
from rigwise.machine.probe.source import open_root


def run(*arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), input=stdin, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.output


def of_process(*arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "rigwise", "doctor", *arguments], input=stdin, capture_output=True, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


@pytest.fixture
def v100(trees, tmp_path) -> str:
    gpu = {"name": "Tesla V100-SXM2-32GB", "bus": "0000:01:00.0", "cc": "7.0", "memory": 32768, "ecc": "0"}
    return str(trees.build(tmp_path / "v100", trees.merged(trees.clean("gaming"), {"gpus": [gpu]})))


@pytest.fixture
def laptop(trees, tmp_path) -> str:
    return str(trees.build(tmp_path / "laptop", trees.clean("laptop")))


def test_a_clean_machine_is_exit_0_and_a_problem_exit_1(laptop, v100) -> None:
    code, text = run("--root", laptop)
    assert code == 0
    assert "nothing wrong" in text
    code, text = run("--root", v100)
    assert code == 1
    assert "PyTorch holds no code for this GPU" in text
    assert "cu126" in text
    assert max(map(len, text.splitlines())) <= 80


def test_json_is_one_document(v100) -> None:
    code, text = run("--root", v100, "--json")
    found = json.loads(text)
    assert code == 1
    assert found["schema"] == "rigwise.doctor/1"
    assert {finding["rule"] for finding in found["findings"]} == set(rules())
    assert sum(found["counts"].values()) == len(rules())
    assert found["counts"]["problem"] == 1


def test_an_error_text_by_flag_and_by_stdin(v100) -> None:
    text = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    code, by_flag = run("--root", v100, "--error", text)
    assert code == 0
    assert run("--root", v100, "--error", "-", stdin=text) == (0, by_flag)
    assert by_flag.index("PyTorch holds no code") < by_flag.index("an extension")
    assert run("--root", v100, "--error", "KeyError: 'x'")[0] == 1
    document = json.loads(run("--root", v100, "--error", text, "--json")[1])
    assert document["errors"][0]["causes"][0]["speaks"] == "problem"


def test_all_of_a_long_log_is_read_and_its_end_counts(laptop) -> None:
    log = b"step 1 loss 0.5\n" * 800_000 + b"CUDA out of memory\n"
    done = of_process("--root", laptop, "--error", "-", stdin=log)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"out-of-memory" in done.stdout


def test_escape_codes_of_a_log_do_not_reach_the_terminal(laptop) -> None:
    _, text = run("--root", laptop, "--error", "\x1b[2J\x1b]0;title\x07CUDA out of memory")
    assert "\x1b" not in text
    assert "\x07" not in text


def test_what_to_install_elsewhere(laptop) -> None:
    code, text = run("--root", laptop, "--install", "torch", "--device", "V100-SXM2-32GB", "--driver", "580.65.06")
    assert code == 0
    assert "torch==2.14.1" in text
    assert "cu126" in text
    assert run("--root", laptop, "--install", "torch", "--device", "V100-SXM2-32GB", "--driver", "390.46")[0] == 1
    assert run("--root", laptop, "--install", "torch", "--device", "V100", "--driver", "580.65.06") == (code, text)


def test_a_snapshot_is_judged_and_what_it_lacks_is_unknown(v100, tmp_path) -> None:
    from rigwise.machine.inspect import inspect
    from rigwise.machine.snapshot import snapshot_text

    file = tmp_path / "machine.json"
    file.write_text(snapshot_text(inspect(open_root(v100))))
    code, text = run("--snapshot", str(file))
    assert code == 1
    assert "PyTorch holds no code for this GPU" in text
    assert "could not be told" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--snapshot", "missing.json"], "missing.json"), (["--root", "missing"], "missing"),
        (["--error", " "], "empty"),
        (["--script", "missing.py"], "missing.py"), (["--install", "caffe"], "caffe"),
        (["--driver", "580"], "--install"),
        (["--install", "torch", "--driver", "many"], "many"), (["--install", "torch", "--device", "rtx-0"], "rtx-0"),
        (["--install", "torch", "--device", "mi300x"], "compute capability"), (["--fix", "--undo"], "--undo"),
        (["--fix", "--root", "."], "--root"), (["--yes"], "--fix"), (["--snapshot", "a", "--root", "b"], "--root"),
        (["--install", "torch", "--python", "-1"], "--python"), (["--install", "torch", "--glibc", "nan"], "nan"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, word, tmp_path) -> None:
    done = of_process(*arguments, stdin=b"")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert word in done.stderr.decode()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "rigwise.inspect/9"}', "\0\0", '{"schema": 1}'])
def test_a_snapshot_that_is_none(content, tmp_path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    done = of_process("--snapshot", str(file))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("content", ["def", "\0", "x = (" * 500])
def test_a_script_that_is_no_python(content, laptop, tmp_path) -> None:
    file = tmp_path / "train.py"
    file.write_text(content)
    done = of_process("--root", laptop, "--script", str(file))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1


def test_a_fix_is_shown_then_done_then_undone(tmp_path) -> None:
    home = tmp_path / "home"
    key = home / ".ssh" / "id_rsa"
    key.parent.mkdir(parents=True)
    home.chmod(0o755)
    key.write_text("not a key")
    key.chmod(0o644)
    at = {"HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "state")}
    shown = of_process("--fix", **at).stdout.decode()
    assert "644 -> 600" in shown
    assert "nothing was changed" in shown
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    document = json.loads(of_process("--fix", "--yes", "--json", **at).stdout)
    assert [(change["before"], change["after"]) for change in document["done"] if change["kind"] == "mode"] == [
        ("644", "600")
    ]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    undone = of_process("--undo", **at)
    assert undone.returncode == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    assert of_process("--undo", **at).stdout.decode() == "nothing to undo\n"


def test_what_is_gone_or_was_changed_since_is_said_once(tmp_path) -> None:
    home = tmp_path / "home"
    gone, changed = home / ".ssh" / "id_rsa", home / ".ssh" / "id_ed25519"
    gone.parent.mkdir(parents=True)
    home.chmod(0o755)
    for key in (gone, changed):
        key.write_text("not a key")
        key.chmod(0o644)
    at = {"HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "state")}
    of_process("--fix", "--yes", **at)
    gone.unlink()
    changed.chmod(0o640)
    undone = of_process("--undo", **at)
    assert (undone.returncode, undone.stdout) == (1, b"")
    assert b"id_rsa" in undone.stderr
    assert b"id_ed25519 has mode 640 by now" in undone.stderr
    again = of_process("--undo", **at)
    assert (again.returncode, again.stdout, again.stderr) == (0, b"nothing to undo\n", b"")


class Notebook(BaseHTTPRequestHandler):
    """Answers as an open notebook server does, below /locked as a closed one."""

    def do_GET(self) -> None:
        code = 403 if self.path.startswith("/locked") else 200
        body = b'{"type": "directory"}' if code == 200 else b'{"message": "Forbidden"}'
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body if self.path != "/page" else b"<html>")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Notebook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_is_asked_without_a_password(port, capsys) -> None:
    assert http_child.main([f"{port}/api/contents", f"{port}/locked", f"{port}/page", "1/none"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{port}/api/contents 200 json", f"{port}/locked 403 json", f"{port}/page 200 other", "1/none none other",
    ]  # fmt: skip


WEIRD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text(max_size=12),
    st.lists(st.one_of(st.text(max_size=6), st.dictionaries(st.text(max_size=4), st.integers())), max_size=3),
    st.dictionaries(st.text(max_size=6), st.one_of(st.text(max_size=6), st.integers(), st.lists(st.integers()))),
)  # fmt: skip
NAMES = sorted(
    {need for rule in rules().values() for need in rule.needs}
    | {
        f"gpus.0.{key}"
        for key in ("name", "vendor", "compute_capability", "throttle", "processes", "memory_bytes", "mig")
    }
    | {"driver.nvidia", "software.torch", "software.torch_cuda", "software.torch_archs", "container.kind"}
    | {"container.engines", "container.variables", "container.nvidia_devices", "scheduler.given", "scheduler.installed"}
    | {"seen.answers", "seen.slots", "seen.path_libraries", "seen.script.loaders", "listeners.0.port", "pcie.0.vendor"}
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), WEIRD))
def test_no_facts_break_a_rule(values) -> None:
    from rigwise.machine.doctor.install import FRAMEWORKS, advise, target_of

    facts = Facts(values={name: value for name, value in values.items() if value is not None})
    assert len(examine(facts)) == len(rules())
    for framework in FRAMEWORKS:
        advise(framework, target_of(facts))


def test_a_notebook_below_another_path_is_asked_there(trees, tmp_path) -> None:
    from rigwise.machine.doctor.look_open import notebook_paths

    runtime = "/home/user/.local/share/jupyter/runtime"
    machine = trees.merged(trees.clean("laptop"), {"files": {
        f"{runtime}/jpserver-7.json": '{"base_url": "/x/", "port": 8897, "token": "sesame"}',
        f"{runtime}/jpserver-8.json": '{"base_url": "/;rm", "port": 8898}', f"{runtime}/jpserver-9.json": "{",
    }})  # fmt: skip
    assert notebook_paths(open_root(trees.build(tmp_path / "tree", machine))) == {8897: "/x/api/contents?content=0"}
