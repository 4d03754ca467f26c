"""``rigwise run -- COMMAND``: real processes, killed and told to end, and every way it can be asked wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rigwise.cli.main import main
from rigwise.errors import InvalidInputError
from rigwise.launch import commands
from rigwise.launch.asked import from_plan
from rigwise.launch.folder import SCHEMA, find_folder, new_folder, read_state
from rigwise.launch.steps import sessions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

#: A loop that does so many steps of 5 ms, saves its number when that is due, and goes on from there.
TRAIN = """
import json, os, sys, time
from pathlib import Path
from rigwise import monitor

saved = Path("saved.json")
first = json.loads(saved.read_text()) if saved.exists() else 0
done = Path("done.txt").open("a")
step = first
with monitor(samples=8, first_step=first) as m:
    while step < int(sys.argv[1]) and not m.stopping:
        time.sleep(0.005)
        step += 1
        print(step, time.time(), file=done, flush=True)
        m.step()
        if m.checkpoint_due():
            with m.checkpoint():
                saved.with_suffix(".new").write_text(str(step))
                saved.with_suffix(".new").replace(saved)
print("secret", os.environ.get("MY_API_KEY"), "from", first, "to", step)
"""
STEP_S, INTERVAL_S = 0.005, 0.2
WAIT_S = 60.0


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """The folder of runs; the current folder has the loop in it."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(TRAIN)
    monkeypatch.chdir(work)
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "store.sqlite"))
    return tmp_path / "runs"


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rigwise", "run", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=WAIT_S)
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode, out.decode(), errors.decode()


def run(*words: str) -> tuple[int, str, str]:
    return ended(start(*words))


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The same in this process, for what is refused before anything is started."""
    with pytest.raises(SystemExit) as stop:
        main(["run", *words])
    found = capsys.readouterr()
    return int(str(stop.value.code)), found.out, found.err


def loop(steps: int) -> list[str]:
    return ["--", sys.executable, "train.py", str(steps)]


def until(found: Callable[[], Any], what: str) -> Any:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        if answer := found():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"no {what}")


def folder_of(runs: Path) -> Path:
    return until(lambda: next(iter(sorted(runs.glob("*"))), None), "run")


def worker(runs: Path, attempt: int, after_steps: int = 20) -> int:
    """The process of an attempt, once so many steps were done in all."""
    folder = folder_of(runs)
    until(lambda: Path("done.txt").exists() and len(Path("done.txt").read_text().splitlines()) >= after_steps, "steps")
    path = until(lambda: next(iter(folder.glob(f"steps-{attempt}-0-*.jsonl")), None), "process")
    return int(path.stem.rpartition("-")[2])


def steps_done() -> Iterator[tuple[int, float]]:
    for line in Path("done.txt").read_text().splitlines():
        number, at_s = line.split()
        yield int(number), float(at_s)


def lost_by_interruptions() -> Iterator[tuple[float, float]]:
    """Work that was done twice, and the longest step until then: one more than the interval may be under way."""
    mine: dict[int, float] = {}
    longest_s = 0.0
    for number, at_s in steps_done():
        if number <= max(mine, default=0):
            yield max(mine.values()) - mine.get(number - 1, min(mine.values())), longest_s
            mine = {}
        longest_s = max(longest_s, at_s - mine[number - 1]) if number - 1 in mine else longest_s
        mine[number] = at_s


def document(output: str) -> dict[str, Any]:
    return json.loads(output)


def test_a_loop_is_measured_and_kept(runs, monkeypatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-very-secret-1")
    code, output, errors = run("--json", *loop(40))
    assert code == 0, errors
    found = document(output)
    assert found["phase"] == "finished"
    assert found["measured"]["steps"] == 40
    assert found["measured"]["step_time_s"]["p50"] >= STEP_S
    assert found["measured"]["samples_per_step"] == 8
    assert found["kept"] == 3
    assert "from 0 to 40" in errors
    everything = b"".join(path.read_bytes() for path in runs.parent.rglob("*") if path.is_file())
    assert b"sk-very-secret-1" not in everything
    assert b"[MY_API_KEY]" in everything
    history = subprocess.run(
        [sys.executable, "-m", "rigwise", "history", "--json", "--kind", "run"], capture_output=True, check=True
    )
    assert {record["name"] for record in json.loads(history.stdout)["records"]} >= {"step.train.py", "memory.train.py"}


def test_predicted_and_measured_stand_side_by_side(runs) -> None:
    code, output, errors = run("--model", "resnet18", "--batch", "8", "--image-size", "64", *loop(40))
    assert code == 0, errors
    assert "predicted" in output
    assert "measured" in output
    assert max(map(len, output.splitlines())) <= 80
    code, again, _ = run("--resume", "last", "--json")
    found = document(again)
    assert code == 0
    assert found["predicted"]["case"]["batch"] == 8
    assert found["ratio"] == pytest.approx(
        found["measured"]["step_time_s"]["p50"] / found["predicted"]["step_time_s"]["p50"]
    )


def test_a_killed_worker_is_started_again_and_loses_no_more_than_the_interval(runs) -> None:
    process = start("--checkpoint", "200ms", "--back-off", "50ms", *loop(150))
    for attempt, after in ((1, 60), (2, 110)):
        os.kill(worker(runs, attempt, after), signal.SIGKILL)
    code, output, errors = ended(process)
    assert code == 0, errors
    assert "3 attempts" in output
    assert errors.count("SIGKILL; starting again") == 2
    state = read_state(folder_of(runs))
    assert [one.exit_code for one in state.attempts] == [None, None, 0]
    numbers = [number for number, _ in steps_done()]
    assert sorted(set(numbers)) == list(range(1, 151))
    lost = list(lost_by_interruptions())
    assert len(lost) == 2
    assert all(lost_s <= INTERVAL_S + 2 * longest_s for lost_s, longest_s in lost)


def test_a_worker_told_to_end_saves_everything(runs) -> None:
    process = start("--checkpoint", "1h", "--back-off", "50ms", *loop(120))
    os.kill(worker(runs, 1, 50), signal.SIGTERM)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert [number for number, _ in steps_done()] == list(range(1, 121))


def test_a_command_that_is_killed_again_and_again_is_given_up(runs) -> None:
    words = ["--restarts", "2", "--back-off", "10ms", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    code, output, errors = run(*words)
    assert code == 1
    assert "failed" in output
    assert "SIGKILL 3 times" in errors
    assert len(read_state(folder_of(runs)).attempts) == 3


def test_the_exit_code_of_the_command_is_named_and_not_tried_again(runs) -> None:
    code, output, errors = run("--", sys.executable, "-c", "raise SystemExit(7)")
    assert code == 1
    assert "exit code 7" in errors
    assert "reported no step" in output
    state = read_state(folder_of(runs))
    assert (state.phase, len(state.attempts), state.attempts[0].exit_code) == ("failed", 1, 7)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on(runs, number, code) -> None:
    process = start("--checkpoint", "1h", *loop(100))
    worker(runs, 1, 20)
    process.send_signal(number)
    got, _, errors = ended(process)
    assert got == code
    state = read_state(folder_of(runs))
    assert state.phase == "interrupted"
    assert f"--resume {state.id}" in errors
    code, output, errors = run("--resume", "last", "--json")
    assert code == 0, errors
    assert document(output)["phase"] == "finished"
    assert [number for number, _ in steps_done()] == list(range(1, 101))


def test_the_command_outlives_its_launcher_and_is_found_again(runs) -> None:
    process = start("--checkpoint", "1h", *loop(200))
    worker(runs, 1, 20)
    process.kill()
    process.communicate()
    assert read_state(folder_of(runs)).phase == "running"
    code, output, errors = run("--resume", "last", "--json")
    assert code == 0, errors
    assert len(document(output)["attempts"]) == 1
    assert [number for number, _ in steps_done()] == list(range(1, 201))


def test_two_launchers_do_not_follow_one_run(runs) -> None:
    process = start(*loop(400))
    worker(runs, 1, 5)
    code, _, errors = run("--resume", "last")
    assert code == 2
    assert "another rigwise follows" in errors
    process.send_signal(signal.SIGINT)
    ended(process)


def test_a_killed_keeper_leaves_no_process_behind(runs) -> None:
    process = start("--checkpoint", "200ms", "--back-off", "50ms", *loop(150))
    first = worker(runs, 1, 60)
    keeper = read_state(folder_of(runs)).attempts[0].handle["pid"]
    os.kill(keeper, signal.SIGKILL)
    code, output, errors = ended(process)
    assert code == 0, errors
    assert "2 attempts" in output
    assert not psutil.pid_exists(first)


def test_a_command_that_does_not_listen_is_killed_after_the_grace(runs) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    process = start("--grace", "300ms", "--", sys.executable, "-c", deaf)
    folder = folder_of(runs)
    until(lambda: (folder / "log.txt").exists() and b"deaf" in (folder / "log.txt").read_bytes(), "output")
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == 130


def test_a_full_disk_is_one_line_and_the_state_is_whole(tmp_path) -> None:
    """On a file system of 300 kB, where one can be mounted: the command goes on, its log ends."""
    mount = f"mount -t tmpfs -o size=300k none {tmp_path}"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("no file system can be mounted here")
    noisy = "import time\\nfor _ in range(40): print('x' * 9999)\\nprint('the end')"
    script = f"{mount} && {sys.executable} -m rigwise run --quiet -- {sys.executable} -c \"exec('''{noisy}''')\""
    script += f"; echo code $?; cat {tmp_path}/*/state.json; tail -c 200 {tmp_path}/*/log.txt >&2"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=WAIT_S,
        env={**os.environ, "RIGWISE_RUNS": str(tmp_path), "RIGWISE_STORE": "none"},
    )  # fmt: skip
    assert "code 0" in done.stdout, done.stdout + done.stderr
    state = json.loads(done.stdout.partition("code 0\n")[2])
    assert (state["schema"], state["phase"]) == (SCHEMA, "finished")
    assert "the log ends here" in done.stderr
    assert "Traceback" not in done.stderr


PLAN = {
    "schema": "rigwise.plan/1",
    "job": {"model": "resnet18", "task": "train", "batch": 8, "method": "full", "lora_rank": 16},
    "plans": [
        {
            "rank": 1, "kind": "rent", "provider": "gcp", "instance": "n1", "region": "us-west1", "market": "spot",
            "device": "t4", "count": 2, "nodes": 1, "dtype": "fp32", "layout": "nchw", "mode": "eager",
            "micro_batch": 4, "accumulation": 1, "time_s": {"p10": 50.0, "p50": 60.0, "p90": 70.0},
            "cost_usd": {"p10": 0.1, "p50": 0.2, "p90": 0.3}, "recompute": "none",
            "parallel": {"data": 2, "micro_batch": 4},
        }
    ],
}  # fmt: skip


def plan_file(**changes: Any) -> str:
    text = json.dumps({**PLAN, **changes})
    Path("plan.json").write_text(text)
    return "plan.json"


def test_a_plan_says_the_case_the_ranks_and_the_interval(runs) -> None:
    asked = from_plan(plan_file(), 1, "slurm", None)
    assert asked.case is not None
    assert (asked.case.model, asked.case.device, asked.case.batch, asked.case.count) == ("resnet18", "t4", 8, 2)
    assert (asked.on, asked.ranks, asked.nodes, asked.gpus) == ("slurm", 2, 1, 2)
    assert asked.checkpoint_s
    assert 60 < asked.checkpoint_s < 86400
    here = from_plan(plan_file(), 1, "local", None)
    assert here.case is not None
    assert here.case.device == "this"
    assert "2 x t4" in here.notes[0]


def entry(**changes: Any) -> list[dict[str, Any]]:
    return [{**PLAN["plans"][0], **changes}]


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"schema": "rigwise.plan/2"}, [], "another version"),
        ({"schema": "rigwise.plan.staged/1"}, [], "of stages"),
        ({"schema": "rigwise.plan.serving/1"}, [], "serving"),
        ({"schema": "x"}, [], "no plan"),
        ({"plans": []}, [], "no plan"),
        ({}, ["--rank", "2"], "no plan of rank 2"),
        ({}, [], "where is that"),
        ({"plans": entry(device="rtx-0000")}, ["--on", "local"], "rtx-0000"),
        ({"plans": entry(kind="own")}, [], "this machine shows"),
        ({"plans": entry(kind="buy")}, ["--on", "local"], "bought"),
        ({}, ["--on", "local", "--batch", "4"], "the plan says the batch"),
        ({"plans": entry(nodes="many")}, ["--on", "local"], "nodes"),
        ({}, ["--on", "skypilot", "--yes"], "sky is not installed"),
    ],
)
def test_a_plan_that_cannot_be_run_is_one_line(runs, capsys, changes, words, said) -> None:
    code, output, errors = asked(capsys, plan_file(**changes), *words, *loop(1))
    assert (code, output) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert not runs.exists() or list(runs.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "no-such-program"], "no-such-program"),
        (["--", "python", "missing.py"], "missing.py"),
        (["plan.json"], "plan.json"),
        (["empty.json", "--", "true"], "is empty"),
        ([], "nothing to run"),
        (["job.toml", "--", "true"], "is no plan"),
        (["--batch", "4", "--", "true"], "--batch goes with --model"),
        (["--model", "no-such-model", "--", "true"], "no-such-model"),
        (["--restarts", "-1", "--", "true"], "--restarts -1"),
        (["--grace", "0", "--", "true"], "--grace is 0"),
        (["--checkpoint", "nan", "--", "true"], "nan"),
        (["--back-off", "3 parsecs", "--", "true"], "parsecs"),
        (["--resume", "nosuch"], "nosuch"),
        (["--resume", "../.."], "no run"),
        (["--resume", "last", "--restarts", "3"], "--restarts"),
        (["--items", "3", "--", "true"], "for applications"),
        (["--on", "torchrun", "--count", "2", "--nodes", "2", "--", "true"], "2 nodes"),
        (["--on", "dstack", "--", "true"], "needs a plan"),
        (["--on", "mars", "--", "true"], "mars"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_starts_nothing(runs, capsys, words, said) -> None:
    Path("empty.json").touch()
    code, output, errors = asked(capsys, *words)
    assert (code, output) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert not runs.exists() or list(runs.iterdir()) == []


def test_files_for_rented_machines_hold_no_secret_and_spend_nothing(runs, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret_2")
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    code, output, errors = run(plan_file(), "--on", "skypilot", "--", "python", "train.py", "--token=hf_very_secret_2")
    assert code == 0, errors
    assert "Nothing was started" in output
    (task,) = Path(".rigwise").rglob("task.yaml")
    assert "hf_very_secret_2" not in task.read_text() + output
    assert "HF_TOKEN" in output
    assert (task.parent / "requirements.txt").as_posix() in task.read_text()


def test_two_builds_of_torch_in_one_folder_are_refused(runs, tmp_path, monkeypatch) -> None:
    for version in ("2.1.0", "2.2.0"):
        info = tmp_path / "site" / f"torch-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    code, _, errors = run(*loop(1))
    assert code == 2
    assert "two builds of torch" in errors
    assert "2.1.0 and 2.2.0" in errors


def test_a_damaged_state_is_one_line(runs) -> None:
    folder = new_folder()
    (folder / "state.json").write_text('{"schema": "rigwise.run-state/9"}')
    code, _, errors = run("--resume", folder.name)
    assert code == 2
    assert "another version" in errors
    assert find_folder("last") == folder


def test_torchrun_starts_ranks_that_agree(runs) -> None:
    pytest.importorskip("torch")
    Path("ranks.py").write_text(
        "import torch, torch.distributed as dist\n"
        "from rigwise import monitor\n"
        "dist.init_process_group('gloo')\n"
        "with monitor(samples=4, checkpoint_every_s=1e-6) as m:\n"
        "    for _ in range(8):\n"
        "        dist.all_reduce(torch.ones(4)); m.step()\n"
        "        if m.checkpoint_due():\n"
        "            with m.checkpoint(): dist.barrier()\n"
        "dist.destroy_process_group()\n"
    )
    process = start("--json", "--on", "torchrun", "--count", "2", "--", sys.executable, "ranks.py")
    out, errors = process.communicate(timeout=4 * WAIT_S)
    assert process.returncode == 0, errors.decode()
    found = document(out.decode())
    assert found["measured"]["ranks"] == 2
    assert found["measured"]["samples_per_step"] == 8
    ranks = sessions(folder_of(runs))
    assert [(one.rank, one.steps, len(one.saves)) for one in ranks] == [(0, 8, 8), (1, 8, 8)]


@pytest.mark.slow
def test_a_killed_rank_is_seen_through_torchrun(runs) -> None:
    pytest.importorskip("torch")
    Path("ranks.py").write_text(
        "import os, signal, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "if os.environ['RIGWISE_ATTEMPT'] == '1' and dist.get_rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "dist.barrier()\n"
    )
    words = ["--on", "torchrun", "--count", "2", "--back-off", "50ms", "--", sys.executable, "ranks.py"]
    process = start("--quiet", *words)
    _, errors = process.communicate(timeout=4 * WAIT_S)
    assert process.returncode == 0, errors.decode()
    assert b"a rank of the command was ended by SIGKILL" in errors
    assert len(read_state(folder_of(runs)).attempts) == 2


def test_ranks_without_a_port_are_refused_before_anything_starts(monkeypatch) -> None:
    def refuse(self: Any, address: Any) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(commands.socket.socket, "bind", refuse, raising=False)
    with pytest.raises(InvalidInputError, match="no port"):
        commands.check_port()
