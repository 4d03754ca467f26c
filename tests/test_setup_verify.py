"""rigwise setup verify: an environment that works, and stand-ins for every way in which one does not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from rigwise.cli.setup import command
from rigwise.errors import InvalidInputError
from rigwise.machine.doctor.types import Status
from rigwise.report.verify_text import verification_text
from rigwise.sandbox import trial
from rigwise.sandbox import verify as module
from rigwise.sandbox.check import main as check
from rigwise.sandbox.check import products_of_torch, tolerance_frac
from rigwise.sandbox.verify import Asked, Check, Row, Verification, python_of, verify

ROOT = Path(__file__).parents[1]
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
posix = pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")

TORCH = "__version__ = '9.9.0'\nclass cuda:\n    device_count = staticmethod(lambda: {gpus})\n" \
    "    get_device_name = staticmethod(lambda place: 'Stand-in')\n"  # fmt: skip


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["verify", *arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment with a Python and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    return folder


def packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


@pytest.fixture
def with_torch(environment):
    """Put a stand-in for torch into the environment, and take it out again."""

    def put(text: str, number: str = "9.9.0") -> Path:
        (packages(environment) / "torch").mkdir()
        (packages(environment) / "torch" / "__init__.py").write_text(text)
        (packages(environment) / "torch" / "version.py").write_text(f"__version__ = '{number}'\n")
        (packages(environment) / "torch-9.9.0.dist-info").mkdir()
        return environment

    yield put
    for place in packages(environment).glob("torch*"):
        shutil.rmtree(place)


@pytest.fixture
def alone(monkeypatch) -> None:
    """Without the doctor, who takes a second."""
    monkeypatch.setattr(module, "_examined", lambda found: found)


def found_in(environment: Path, *names: str, **asked: object) -> dict[str, Check]:
    """The checks of an environment by name."""
    found = verify(Asked(python=python_of(str(environment)), **asked))
    checks = {one.name: one for one in found.checks}
    return {name: checks[name] for name in names} if names else checks


@needs_torch
def test_this_environment_works_and_every_check_was_done() -> None:
    run = ask("--json", "--disk", "1MB", "--workers", "1")
    document = json.loads(run.stdout)
    assert (document["schema"], document["framework"], document["holds"]) == ("rigwise.setup.verify/1", "torch", True)
    assert run.return_value == 0
    checks = {one["name"]: one for one in document["checks"]}
    assert {name for name, one in checks.items() if one["status"] == "problem"} == set()
    rows = {row["what"]: row["evidence"] for one in checks.values() for row in one["rows"]}
    assert {"cpu float64", "cpu float32", "cpu float16", "cpu bfloat16", "gloo", "nccl", "workers"} <= set(rows)
    assert rows["workers"].startswith("1 workers made 3 batches")
    reference = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    assert [key for key in document if f"`{key}`" not in reference] == []


@pytest.mark.usefixtures("alone")
def test_an_environment_without_a_framework_says_so_and_the_rest_goes_on(environment) -> None:
    checks = found_in(environment)
    assert checks["imports"].status is Status.PROBLEM
    assert "none of torch, jax, tensorflow" in checks["imports"].rows[0].evidence
    assert {checks[name].status for name in ("product", "all-reduce", "loader")} == {Status.UNKNOWN}
    assert checks["disk"].rows


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import os; os._exit(3)", "exit code 3"),
        ("print('not an answer')", "no attribute '__version__'"),
    ],
)
@posix
def test_a_framework_that_breaks_is_a_problem_of_one_line(with_torch, text: str, word: str) -> None:
    checks = found_in(with_torch(text))
    assert (checks["imports"].status, checks["product"].status) == (Status.PROBLEM, Status.UNKNOWN)
    assert word in checks["imports"].rows[0].evidence
    assert "\n" not in checks["imports"].rows[0].evidence


@pytest.mark.usefixtures("alone")
def test_what_a_framework_prints_is_no_answer(with_torch) -> None:
    printed = "import os; print('{}'); os.write(1, b'{\"rows\": []}\\n')\n"
    checks = found_in(with_torch(printed + TORCH.format(gpus=0)))
    assert checks["imports"].facts["version"] == "9.9.0"


def hangs(folder: Path) -> str:
    """A torch that starts a process, writes its id down and then never ends."""
    return (
        "import subprocess, time\n"
        f"child = subprocess.Popen(['sleep', '1000'])\nopen({str(folder / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(1000)\n"
    )


def is_gone(number: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("alone")
@posix
def test_a_check_that_hangs_is_stopped_with_all_that_it_started(with_torch, tmp_path) -> None:
    checks = found_in(with_torch(hangs(tmp_path)), limit_s=3.0)
    assert "did not end within 3 s" in checks["imports"].rows[0].evidence
    assert is_gone(int((tmp_path / "pid").read_text()))


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_command_is_ended(with_torch, tmp_path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "rigwise", "setup", "verify", "--in", str(with_torch(hangs(tmp_path)))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert errors.strip() == ("rigwise: interrupted" if number is signal.SIGINT else "")
    assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("seen", "status"), [(2, Status.OK), (1, Status.PROBLEM)])
def test_gpus_that_are_not_seen(with_torch, seen: int, status: Status) -> None:
    imports = found_in(with_torch(TORCH.format(gpus=seen)), "imports", gpus=2)["imports"]
    assert imports.rows[1].status is status
    assert "Stand-in" in imports.rows[1].evidence


def answers(name: str, **request: object) -> dict[str, trial.Row]:
    """One trial in this process: its rows by what they are of."""
    return {row[0]: row for row in getattr(trial, name)(request)[0]}


def test_two_builds_in_one_environment_are_found(environment, with_torch, monkeypatch) -> None:
    folder = packages(with_torch(TORCH.format(gpus=0)))
    monkeypatch.setattr(sys, "path", [str(folder), str(folder / ".." / "site-packages")])
    assert answers("builds")["torch"][1:] == ("ok", "one build: torch 9.9.0")
    (folder / "torch-9.8.0+cu126.dist-info").mkdir()
    assert "installed 2 times: torch 9.8.0+cu126" in answers("builds")["torch"][2]


def test_a_build_that_was_put_over_another_is_found(with_torch, monkeypatch) -> None:
    folder = packages(with_torch(TORCH.format(gpus=0), number="9.7.0+cu126"))
    monkeypatch.setattr(sys, "path", [str(folder)])
    assert "says it is 9.7.0+cu126, torch 9.9.0 was installed" in answers("builds")["torch"][2]


def test_a_second_copy_earlier_on_the_path_is_found(with_torch, tmp_path, monkeypatch) -> None:
    folder = packages(with_torch(TORCH.format(gpus=0)))
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(folder)])
    assert f"lies in {tmp_path} and {folder}" in answers("builds")["torch"][2]


def test_onnxruntime_for_cpu_and_gpu_are_two_builds_of_one_package(tmp_path, monkeypatch) -> None:
    for name in (
        "onnxruntime-1.31.1.dist-info",
        "onnxruntime_gpu-1.31.1.dist-info",
        "onnxruntime_extensions-1.dist-info",
    ):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "installed 2 times" in answers("builds")["onnxruntime"][2]


def test_room_that_is_there_and_room_that_is_not(tmp_path) -> None:
    asked = {"folder": str(tmp_path), "of": "free"}
    assert answers("room", **asked, least_bytes=1.0)["room"][1] == "ok"
    short = answers("room", **asked, least_bytes=1e17)["room"]
    assert (short[1], "93,132,257.5 GiB are needed" in short[2]) == ("problem", True)
    assert answers("room", **asked, least_bytes=1.0)["files"][2] == "16 MiB were written and read back"
    assert answers("room", **{**asked, "folder": str(tmp_path / "none")}, least_bytes=1.0)["room"][1] == "unknown"
    assert list(tmp_path.iterdir()) == []


def in_small_shared_memory(*words: str) -> subprocess.CompletedProcess:
    """A command where /dev/shm has 8 MiB."""
    script = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words], capture_output=True, text=True, check=False, input=""
    )


needs_mounts = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("unshare") or in_small_shared_memory("true").returncode != 0,
    reason="no /dev/shm of one's own can be mounted",
)


@needs_torch
@needs_mounts
def test_little_shared_memory_is_seen_and_ends_the_workers() -> None:
    script = (
        "import json\nfrom rigwise.sandbox import verify as module\nwhole = module._requests\n"
        "names = ('imports', 'loader', 'shared-memory')\n"
        "module._requests = lambda asked: (one for one in whole(asked) if one[0] in names)\n"
        "found = module.verify(module.Asked(workers=1))\nprint(json.dumps(module.document(found)))\n"
    )
    run = in_small_shared_memory(sys.executable, "-c", script)
    document = json.loads(run.stdout)
    rows = {one["name"]: one["rows"][0] for one in document["checks"]}
    assert (rows["shared-memory"]["status"], rows["loader"]["status"]) == ("problem", "problem")
    assert "has 8 MiB, 512 MiB are needed" in rows["shared-memory"]["evidence"]
    assert "shared-memory" in {one["rule"] for one in document["findings"]}
    assert any(
        "shared memory" in cause["text"] or "shm" in cause["text"]
        for one in document["errors"]
        for cause in one["causes"]
    )


def test_more_workers_than_cpus_is_a_problem() -> None:
    assert trial.within_limit(2, 2.0)[1] == "ok"
    assert trial.within_limit(2, 1.5)[1:] == ("problem", "2 workers, 1.5 CPUs may be used (affinity and control group)")
    assert trial.within_limit(2, None)[1] == "unknown"


@needs_torch
def test_a_device_that_computes_wrongly_is_found(capsys) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Wrong(TorchDispatchMode):
        """Products in fp32 are off by a ten-thousandth."""

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            found = function(*arguments, **(named or {}))
            is_product = function is torch.ops.aten.mm.default and found.dtype is torch.float32
            return found * (1 + 1e-4) if is_product else found

    assert {status for _, status, _ in products_of_torch(torch, "cpu")} == {"ok", "unknown"}
    with Wrong():
        wrong = {name for name, status, _ in products_of_torch(torch, "cpu") if status == "problem"}
        assert check([]) == 1
    assert wrong == {"float32"}
    assert "off by 1.0e-04" in capsys.readouterr().err


def test_tolerances_are_ordered_as_the_formats_are() -> None:
    limits = [tolerance_frac(name, 2.0) for name in ("float64", "float32", "float16", "bfloat16")]
    assert limits == sorted(limits)
    assert tolerance_frac("bfloat16", 2.0) < 0.05


def test_the_doctor_names_the_cause_of_an_error_that_was_met(with_torch) -> None:
    text = "raise RuntimeError('Found no NVIDIA driver on your system.')"
    run = ask("--in", str(with_torch(text)), "--disk", "1MB")
    assert run.return_value == 1
    assert "Found no NVIDIA driver" in run.stdout
    assert "causes, likeliest" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80 or "/" in max(run.stdout.splitlines(), key=len)


def test_the_text_keeps_to_80_columns_and_says_what_is_unknown() -> None:
    rows = (
        Row(what="cpu bfloat16", status=Status.PROBLEM, evidence="is off by 1.0e-01 (limit 2.7e-02) " * 4),
        Row(what="nccl", status=Status.UNKNOWN, evidence="needs two GPUs, 0 are seen"),
    )
    found = Verification(
        python="/environment/bin/python", python_version="3.11.7", framework="torch", version="2.13.0",
        checks=(Check(name="product", time_s=1.25, rows=rows),),
    )  # fmt: skip
    text = verification_text(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "does not work as it is: 0 ok, 1 unknown, 1 wrong" in text
    assert "needs two GPUs" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--in", "missing"], "missing"), (["--in", ""], "Python"), (["--framework", "trch"], "torch"),
        (["--folder", "missing"], "missing"), (["--folder", " "], "--folder"), (["--disk", "many"], "many"),
        (["--disk", "-1GB"], "--disk"), (["--disk", "nan"], "nan"), (["--within", "0"], "--within"),
        (["--within", "fast"], "fast"), (["--within", "1e9"], "--within"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments: list[str], word: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = ask(*arguments).exception
    assert isinstance(error, InvalidInputError)
    assert (error.exit_code, "\n" in str(error)) == (2, False)
    assert word in str(error)


def test_flags_of_targets_are_none_of_verify_and_the_other_way_round() -> None:
    import click

    for arguments in (
        ["verify", "--plan", "x"],
        ["verify", "now"],
        ["pip", "--within", "1s"],
        ["verify", "--count", "-1"],
    ):
        error = CliRunner().invoke(command, arguments, standalone_mode=False).exception
        assert isinstance(error, click.UsageError), arguments
    assert "Does this environment work" in CliRunner().invoke(command, ["verify", "--help"]).output


def test_a_program_that_is_no_python_is_told(tmp_path) -> None:
    program = tmp_path / "python"
    program.write_text("no program\n")
    program.chmod(0o755)
    with pytest.raises(InvalidInputError, match="cannot be started"):
        verify(Asked(python=python_of(str(program)), folder=os.curdir))
    for script, word in (("exit 3", "exit code 3"), ("echo python 3 8", "Python 3.8"), ("echo >&2 no; exit 1", ": no")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(InvalidInputError, match=word):
            verify(Asked(python=python_of(str(program))))
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    with pytest.raises(InvalidInputError, match="did not answer"):
        verify(Asked(python=python_of(str(program)), limit_s=0.5))
