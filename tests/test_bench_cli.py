"""``rigwise bench`` as a whole: the child that measures may do what it likes, the answer comes all the same."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from rigwise.bench import supervise
from rigwise.bench.types import Benchmark, Context
from rigwise.cli.main import root as command_line
from rigwise.errors import MissingExtraError, UnsupportedError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

FIGURE = 'Raw(name="{name}", unit="1/s", timing=Timing(samples_s=(0.5,)))'
FAKES = {
    "good": f"    yield {FIGURE.format(name='good')}\n",
    "dies": f"    yield {FIGURE.format(name='dies.first')}\n    os.kill(os.getpid(), 9)\n",
    "hangs": "    time.sleep(600)\n    yield\n",
    "raises": "    raise ValueError('a fault of\\na library')\n    yield\n",
    "prints": f"    print('not JSON')\n    os.system('echo neither')\n    yield {FIGURE.format(name='prints')}\n",
    "overflows": "    yield Raw(name='overflows', unit='', value=float('inf'))\n",
    "forks": (
        "    worker = multiprocessing.get_context('fork').Process(target=int)\n    worker.start()\n"
        f"    worker.join()\n    yield {FIGURE.format(name='forks')}\n"
    ),
}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Benchmarks that misbehave, as modules that a new process can import."""
    head = "import multiprocessing, os, time\nfrom rigwise.bench.types import Raw, Timing\n\ndef run(context):\n"
    for name, body in FAKES.items():
        (tmp_path / f"fake_{name}.py").write_text(head + body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(Benchmark, "module", property(lambda benchmark: f"fake_{benchmark.name}"))

    def run(*names: str, **changed) -> dict[str, str]:
        found = supervise.Found()
        benchmarks = [Benchmark(name=name, group="compute", figures=1, answers="") for name in names]
        context = Context(each_s=0.01, **changed)
        supervise.supervise(benchmarks, context, time.monotonic() + 3600, found, lambda name, done, total: None)
        return {raw.name: raw.skipped for raw in found.raws}

    return run


def test_a_crash_costs_one_benchmark(fakes) -> None:
    found = fakes("dies", "good")
    assert found == {"dies.first": "", "dies": found["dies"], "good": ""}
    assert "SIGKILL" in found["dies"]


def test_the_workers_of_a_loader_end_though_their_parent_waits_on_its_stdin(fakes, monkeypatch) -> None:
    monkeypatch.setattr(supervise, "_SILENT_S", 20.0)
    assert fakes("forks") == {"forks": ""}


def test_a_hang_is_ended(fakes, monkeypatch) -> None:
    monkeypatch.setattr(supervise, "_SILENT_S", 4.0)
    assert fakes("hangs") == {"hangs": "it did not answer any more and was ended"}
    assert not any("rigwise.bench.child" in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_faults_and_prints_of_libraries(fakes) -> None:
    found = fakes("raises", "prints", "overflows", "good")
    assert found["raises"] == "ValueError: a fault of a library"
    assert found["overflows"] == "the result is no finite number"
    assert found["prints"] == found["good"] == ""


def test_a_target_that_pytorch_cannot_use_is_an_error(fakes) -> None:
    torch = pytest.importorskip("torch")
    if torch.backends.mps.is_available():
        pytest.skip("it can")
    with pytest.raises((UnsupportedError, MissingExtraError)):
        fakes("good", target="mps")


def answer(*arguments: str) -> dict:
    result = CliRunner().invoke(command_line, ["bench", *arguments, "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_document_and_its_table(tmp_path) -> None:
    pytest.importorskip("torch")
    saved = tmp_path / "here.csv"
    found = answer("matmul.fp32", "disk.random", "--each", "30ms", "--folder", str(tmp_path), "--save", str(saved))
    assert found["schema"] == "rigwise.bench/1"
    by_name = {figure["name"]: figure for figure in found["figures"]}
    product = by_name["matmul.fp32"]
    middle_s = sorted(product["samples_s"])[len(product["samples_s"]) // 2]
    assert product["value"] == pytest.approx(product["amount"] / middle_s, rel=0.5)
    assert product["low"] <= product["value"] <= product["high"] <= product["best"] * (1 + 1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["here.csv"]


def test_the_table_is_one_that_calibrate_reads(tmp_path) -> None:
    from rigwise.bench.limits import judged
    from rigwise.bench.suite import Report
    from rigwise.bench.types import Raw, State, Timing
    from rigwise.calibrate.question import measured_s, question
    from rigwise.facts.catalogue import resolve_device
    from rigwise.measurement.tables import read_tables
    from rigwise.report.bench_text import measurements_csv

    device = resolve_device("core-i9-10940x")
    conv = {"n": 8, "c": 64, "h": 28, "w": 28, "k": 64, "r": 3}
    works = [
        {"law": "gemm", "m": 64, "n": 64, "k": 64, "format": "fp32"},
        {"law": "conv", **conv, "format": "fp32", "layout": "nhwc"},
        {"law": "step", "model": "resnet18", "task": "train", "batch": 16, "image_size": 224},
        {"law": "step", "model": "gpt2", "task": "infer", "batch": 1, "seq": 128},
    ]
    raws = [Raw(name="x", unit="1/s", amount=4.0, timing=Timing(samples_s=(0.5,) * 5), work=work) for work in works]
    busy = Raw(name="y", unit="1/s", timing=Timing(samples_s=(0.5,)), work=works[0], state=State(others_frac=0.9))
    figures = tuple(judged(raw, device, 14) for raw in (*raws, busy))
    report = Report(
        started="2026-01-01T00:00:00Z",
        name="x",
        threads=14,
        device=device,
        software={"torch": "2.13.0"},
        figures=figures,
    )
    text, left_out = measurements_csv(report)
    assert left_out == 1
    (tmp_path / "here.csv").write_text(text)
    rows, rejected = read_tables([tmp_path])
    assert rejected == ()
    assert [measured_s(row) for row in rows] == [0.5] * 4
    asked = [question(row) for row in rows]
    assert [one.case.task for one in asked if one.is_step] == ["train", "infer"]
    assert [one.op.kind for one in asked if not one.is_step] == ["gemm", "conv"]
    assert asked[2].case.optimizer == "none"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["matmull"], "did you mean matmul"),
        (["--device", "gpu7", "launch"], "GPU"),
        (["--device", "tpu", "launch"], "tpu"),
        (["--each", "0", "launch"], "0 s"),
        (["--each", "fast", "launch"], "fast"),
        (["--threads", "0", "launch"], "--threads 0"),
        (["--folder", "no-such-folder", "launch"], "no-such-folder"),
        (["--save", "here.xlsx", "launch"], "here.xlsx"),
    ],
)
def test_bad_input(arguments, word, monkeypatch, tmp_path) -> None:
    from rigwise.errors import RigwiseError

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command_line, ["bench", *arguments])
    assert isinstance(result.exception, RigwiseError)
    assert word in str(result.exception)
    assert result.exception.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(command_line, ["bench", "launch.sideways", "--each", "10ms"], standalone_mode=False)
    assert result.return_value == 1
    assert "launch.sideways: there is no such figure here; rigwise bench launch" in result.stdout


def test_a_folder_that_cannot_be_written_costs_the_disk_only(tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(0o500)
    result = CliRunner().invoke(command_line, ["bench", "disk", "launch", "--each", "10ms", "--folder", str(tmp_path)])
    assert "no folder can be written" in result.stdout


def test_the_list_names_every_benchmark() -> None:
    result = CliRunner().invoke(command_line, ["bench", "--list"])
    assert result.exit_code == 0
    assert "matmul" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_text_keeps_to_80_columns(tmp_path) -> None:
    found = CliRunner().invoke(
        command_line, ["bench", "stream", "formats", "disk", "--each", "10ms", "--folder", str(tmp_path)]
    )
    assert found.exit_code == 0
    assert [line for line in found.stdout.splitlines() if len(line) > 80] == []


def test_two_processes_sum_between_them(tmp_path) -> None:
    pytest.importorskip("torch.distributed")
    from rigwise.bench import all_reduce

    (samples,) = all_reduce.measured(Context(each_s=0.01, folder=str(tmp_path)), [4096])
    assert len(samples) >= 5
    assert min(samples) > 0
    assert list(tmp_path.iterdir()) == []


def measures(process: psutil.Process) -> bool:
    try:
        return "rigwise.bench.child" in process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return False


def started(folder) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A long benchmark of the disk, and what it started, once it measures."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise", "bench", "launch", "--each", "100s"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    children: list[psutil.Process] = []
    while not children and process.poll() is None:
        found = psutil.Process(process.pid).children(recursive=True)
        children = [child for child in found if measures(child)]
        time.sleep(0.01)
    assert children, process.communicate()[1].decode()
    return process, children


def test_after_ctrl_c_nothing_is_left(tmp_path) -> None:
    process, children = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "rigwise: interrupted"
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert list(tmp_path.iterdir()) == []


def test_after_kill_9_nothing_is_left(tmp_path) -> None:
    process, children = started(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert list(tmp_path.iterdir()) == []
