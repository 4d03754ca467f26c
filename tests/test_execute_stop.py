"""Every way a dataflow can be stopped: one clear line, nothing left behind, no waiting for ever."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.dataflow import run
from rigwise.execute.stage import Limits, Stage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

FUNCTIONS = Path(__file__).parent / "data" / "execute"
SOURCE = Stage(name="source", call="stage_functions:numbers")


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No thread and no process outlives a run, however it ends."""
    monkeypatch.syspath_prepend(str(FUNCTIONS))
    threads, children = set(threading.enumerate()), set(psutil.Process().children(recursive=True))
    yield
    assert set(threading.enumerate()) - threads == set()
    assert set(psutil.Process().children(recursive=True)) - children == set()


def stage(function: str, where: str = "thread", **more) -> Stage:
    return Stage(name="work", call=f"stage_functions:{function}", after=("source",), run=where, **more)


def fails(*stages: Stage, limits: Limits | None = None) -> str:
    """The one line with which a dataflow fails."""
    with pytest.raises(RunError) as raised:
        run([SOURCE, *stages], limits or Limits(items=500))
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    return str(raised.value)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def line_of(text: str) -> int:
    """Number of the line of the functions that holds ``text``."""
    lines = (FUNCTIONS / "stage_functions.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("where", ["thread", "process", "inline"])
def test_an_exception_names_stage_item_and_line(where):
    place = f"stage_functions.py:{line_of('five is too many')}"
    assert fails(stage("fails_on_five", where)) == (
        f"stage work, item 6: failed at {place}: ValueError: five is too many"
    )


@pytest.mark.parametrize("where", ["thread", "process"])
def test_an_exception_of_a_source_names_it(where):
    source = Stage(name="camera", call="stage_functions:source_fails", run=where)
    with pytest.raises(RunError, match=r"source camera, item 2: failed at stage_functions.py:\d+: OSError: the camera"):
        run([source, Stage(name="end", call="stage_functions:same", after=("camera",))])


@pytest.mark.parametrize("where", ["thread", "process"])
def test_sys_exit_is_a_failure_of_the_stage(where):
    assert "SystemExit: enough" in fails(stage("exits", where))


def test_an_exception_ends_other_stages_that_wait():
    blocked = Stage(name="blocked", call="stage_functions:very_slow", after=("source",), queue=1)
    assert "five is too many" in fails(blocked, stage("fails_on_five", queue=64))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("killed_on_five", r"a worker process of stage work was ended by SIGKILL at item 6"),
        ("leaves_on_five", r"a worker process of stage work exited with status 3 at item 6"),
        ("orphan_holds_the_connection", r"a worker process of stage work exited with status 4"),
    ],
)
def test_a_worker_that_dies_is_noticed(function, words):
    import re

    assert re.search(words, fails(stage(function, "process", queue=1)))


def test_a_worker_that_is_killed_from_outside_is_noticed():
    def kill() -> None:
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            for child in psutil.Process().children():
                if "rigwise.execute.worker" in " ".join(child.cmdline()):
                    child.kill()
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    message = fails(stage("very_slow", "process"))
    killer.join()
    assert "stage work was ended by SIGKILL" in message


@pytest.mark.parametrize("function", ["never_returns", "holds_until_killed"])
def test_a_process_that_never_returns_is_ended(function):
    message = fails(stage(function, "process", queue=1), limits=Limits(call_s=1.0, items=500))
    assert "stage work did not return from item 6 within" in message


def test_a_thread_that_never_returns_is_left():
    gate = threading.Event()

    def wait(item):
        assert gate.wait(60)

    message = fails(Stage(name="work", call=wait, after=("source",)), limits=Limits(call_s=1.0, items=500))
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("work"):
            thread.join(10)
    assert "stage work did not return from item 1 within" in message
    assert "a thread cannot be ended" in message


def test_a_call_that_outlasts_the_time_to_finish_is_named():
    limits = Limits(duration_s=0.5, grace_s=0.5)
    assert "did not return from item 1 within" in fails(stage("sleeps_for_ever", "process"), limits=limits)


def test_a_source_that_never_gives_is_named():
    source = Stage(name="camera", call="stage_functions:never_gives", run="process")
    with pytest.raises(RunError, match="source camera did not give item 2 within"):
        run([source, Stage(name="end", call="stage_functions:same", after=("camera",))], Limits(call_s=1.0))


def test_work_that_does_not_end_in_time_is_left_undone():
    measured = run([SOURCE, stage("slow", queue=400)], Limits(duration_s=0.5, grace_s=0.5))
    assert measured.ended == "duration"
    assert measured.stage("work").waiting > 0


def test_what_a_worker_started_ends_with_it():
    pids: list[int] = []
    end = Stage(name="end", call=pids.append, after=("work",))
    run([SOURCE, stage("starts_a_process", "process"), end], Limits(items=2))
    assert len(pids) == 2
    limit = time.monotonic() + 30
    while any(is_running(pid) for pid in pids) and time.monotonic() < limit:
        time.sleep(0.01)
    assert [pid for pid in pids if is_running(pid)] == []


@pytest.mark.parametrize(
    ("before", "function", "words"),
    [
        ("gives_a_lock", "same", "got a lock that cannot be sent to a process"),
        ("same", "gives_a_lock", "something that a process cannot send back"),
    ],
)
def test_what_cannot_be_sent_is_named(before, function, words):
    first = Stage(name="first", call=f"stage_functions:{before}", after=("source",))
    second = Stage(name="second", call=f"stage_functions:{function}", after=("first",), run="process")
    message = fails(first, second, Stage(name="end", call="stage_functions:same", after=("second",)))
    assert "stage second, item 1" in message
    assert words in message


def test_a_function_without_a_name_cannot_be_sent():
    with pytest.raises(InvalidInputError, match="the function of stage work cannot be sent to a process"):
        run([SOURCE, Stage(name="work", call=lambda x: x, after=("source",), run="process")], Limits(items=9))


def test_a_function_of_the_script_itself_cannot_be_sent(monkeypatch):
    import stage_functions

    monkeypatch.setattr(sys.modules["__main__"], "same", stage_functions.same, raising=False)
    monkeypatch.setattr(stage_functions.same, "__module__", "__main__")
    with pytest.raises(InvalidInputError, match="stands in the script"):
        run([SOURCE, Stage(name="work", call=stage_functions.same, after=("source",), run="process")], Limits(items=9))


def test_a_batch_that_is_no_list_is_named():
    end = Stage(name="end", call="stage_functions:same", after=("work",))
    message = fails(stage("gives_no_list", batch=2), end)
    assert message == "stage work, items 1 to 2: failed: it takes batches and returned int; return a list of items"


def test_a_source_that_is_none_is_named():
    with pytest.raises(InvalidInputError, match="stage source cannot start: it returned int"):
        run([Stage(name="source", call="stage_functions:not_iterable")])


def test_a_join_that_would_wait_for_ever_is_named():
    some = Stage(name="some", call=lambda x: None, after=("source",))
    join = Stage(name="join", call=lambda a, b: None, after=("source", "some"), queue=5)
    message = fails(some, join)
    assert message.startswith("join waits for an item of some while 5 items of source wait")


def test_a_batch_that_can_never_fill_is_named():
    batch = Stage(name="batch", call=lambda items: items, after=("source",), batch=16)
    join = Stage(name="join", call=lambda a, b: None, after=("source", "batch"), queue=5)
    assert "or batches before it a max_wait" in fails(batch, join)


# -- signals, on a program of its own

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from rigwise.execute.dataflow import run
from rigwise.execute.stage import Limits, Stage
stages = [
    Stage(name="source", call="stage_functions:numbers"),
    Stage(name="work", call="stage_functions:{function}", after=("source",), run="process", workers=2, queue=2),
    Stage(name="end", call=lambda item: print(item, flush=True), after=("work",)),
]
measured = run(stages, Limits(grace_s={grace_s}))
print(measured.ended, measured.signal, sum(stage.waiting for stage in measured.stages), file=sys.stderr)
"""


@pytest.fixture
def program():
    started = []

    def start(function: str, grace_s: float = 20.0) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        code = PROGRAM.format(folder=str(FUNCTIONS), function=function, grace_s=grace_s)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline().strip().isdigit()  # items arrive
        return process, psutil.Process(process.pid).children(recursive=True)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_under_way(program, number):
    process, workers = program("slow")
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert errors == f"interrupted {int(number)} 0\n"
    assert process.returncode == 0
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_a_second_signal_stops_at_once(program):
    process, workers = program("never_returns", grace_s=600.0)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # item 6 never returns
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.startswith("interrupted 2 ")
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_workers_do_not_outlive_a_program_that_is_killed(program):
    process, workers = program("never_returns")
    assert len(workers) == 2
    process.kill()
    assert psutil.wait_procs(workers, timeout=30)[1] == []
