"""``rigwise run --resume`` after the worst: nobody watched, or nothing could be written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rigwise.errors import InvalidInputError
from rigwise.launch.asked import Asked
from rigwise.launch.folder import FINISHED, LOST, find_folder, read_plain, read_state, started_file
from rigwise.launch.launcher import Launcher
from rigwise.launch.processes import Here
from rigwise.launch.start import How, prepare

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

LOOP = """
import os, sys, time
from rigwise import monitor
first = int(open("saved.txt").read()) if os.path.exists("saved.txt") else 0
with monitor(first_step=first, checkpoint_every_s=0.1) as m:
    for step in range(first + 1, 201):
        time.sleep(0.005)
        m.step()
        if m.checkpoint_due():
            with m.checkpoint():
                open("new.txt", "w").write(str(step))
                os.replace("new.txt", "saved.txt")
        if m.stopping:
            break
"""
#: Writes more than there is room for, and takes all the room that is given back to it.
GREEDY = """
import time
for _ in range(40):
    print("x" * 9999, flush=True)
time.sleep(0.5)
try:
    with open("fill", "wb", 0) as stream:
        while True:
            stream.write(b"x" * 512)
except OSError:
    print("nothing is left")
"""


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RIGWISE_STORE", "none")
    (tmp_path / "loop.py").write_text(LOOP)
    return tmp_path / "runs"


def wait(found) -> None:
    end_s = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def rigwise(*words: str) -> list[str]:
    return [sys.executable, "-m", "rigwise", "run", *words]


def test_an_attempt_that_ended_unseen_is_gone_on_with_at_once(runs) -> None:
    """Launcher, keeper and command are killed; no restart is left, and still one --resume is enough."""
    words = rigwise("--restarts", "0", "--", sys.executable, "loop.py")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait(Path("saved.txt").exists)
    process.kill()
    process.wait()
    folder = find_folder("last")
    command = int(read_plain(started_file(folder, 1))["pid"])
    for pid in (read_state(folder).attempts[0].handle["pid"], command):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not psutil.pid_exists(command) or psutil.Process(command).status() == "zombie")
    done = subprocess.run(
        rigwise("--resume", "last", "--json"), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (read_state(folder).phase, len(json.loads(done.stdout)["attempts"])) == (FINISHED, 2)


def test_a_command_that_takes_all_room_cannot_take_that_of_the_state(tmp_path) -> None:
    mount = f"mount -t tmpfs -o size=300k none {tmp_path} && cd {tmp_path}"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("no file system can be mounted here")
    script = f"{mount} && printf '%s' \"$GREEDY\" > greedy.py && {sys.executable} -m rigwise run --quiet -- "
    script += f"{sys.executable} greedy.py; echo code $?; cat */state.json; tail -c 100 */log.txt >&2"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "RIGWISE_RUNS": str(tmp_path), "RIGWISE_STORE": "none", "GREEDY": GREEDY},
    )  # fmt: skip
    assert "code 0" in done.stdout, done.stdout + done.stderr
    assert json.loads(done.stdout.partition("code 0\n")[2])["phase"] == FINISHED
    assert "the log ends here" in done.stderr


class _Deaf(Here):
    """A place that hands no signal on and tells of an end only after a while."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.late_s, self.gone_s = late_s, 0.0

    def stop(self, handle, *, now: bool) -> None:
        del handle, now

    def is_alive(self, handle) -> bool:
        if not super().is_alive(handle):
            self.gone_s = self.gone_s or time.monotonic()
        return not self.gone_s or time.monotonic() < self.gone_s + self.late_s


def prepared() -> Launcher:
    folder, state = prepare([sys.executable, "loop.py"], Asked(), How(grace_s=30.0, restarts=0), {})
    return Launcher(folder, state, lambda text: None)


def test_a_command_ends_in_order_where_its_place_hands_nothing_on(runs, monkeypatch) -> None:
    """As with a scheduler that hangs: the keeper finds the wish in the folder."""
    (runs.parent / "loop.py").write_text(LOOP.replace("201", "100000"))
    one = prepared()
    one.place = _Deaf()

    def interrupt() -> None:
        if not one.told and Path("saved.txt").exists():
            one.told, one._signals = signal.SIGINT, 1

    monkeypatch.setattr(one, "_show", interrupt)
    state = one.run()
    assert (state.phase, state.attempts[0].lost_s) == ("interrupted", 0.0)


def test_time_until_a_place_tells_is_not_work_that_was_lost(runs, monkeypatch) -> None:
    (runs.parent / "loop.py").write_text(LOOP.replace("201", "100000"))
    one = prepared()
    one.place = _Deaf(late_s=6.0)
    killed = []

    def kill() -> None:
        command = read_plain(started_file(one.folder, 1))
        if command and not killed and Path("saved.txt").exists():
            killed.append(int(command["pid"]))
            os.kill(one.state.attempts[0].handle["pid"], signal.SIGKILL)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(one, "_show", kill)
    state = one.run()
    assert state.phase not in (FINISHED, LOST)
    assert state.attempts[0].lost_s < 6.0


@pytest.mark.parametrize(("ranks", "nodes"), [(0, 1), (1, 0), (3, 2), (1, 2)])
def test_ranks_that_cannot_be_divided_start_nothing(runs, ranks, nodes) -> None:
    with pytest.raises(InvalidInputError, match=f"--count {ranks} on --nodes {nodes}"):
        prepare([sys.executable, "loop.py"], Asked(on="slurm", ranks=ranks, nodes=nodes), How(), {})
    assert not runs.exists()
