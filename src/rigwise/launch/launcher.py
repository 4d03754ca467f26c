"""Start a run, follow it, start it again after an interruption, and leave a state that says how it stands."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from rigwise.errors import InvalidInputError, RigwiseError, RunError
from rigwise.launch.ending import Ending, ending
from rigwise.launch.folder import (
    ENDED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    LOG,
    LOST,
    RESERVE,
    RESTARTING,
    RUNNING,
    Attempt,
    State,
    ended_file,
    give_up_reserve,
    read_plain,
    started_file,
    stop_file,
    with_attempt,
    write_state,
)
from rigwise.launch.keeper import BEAT_S
from rigwise.launch.measured import lost_s
from rigwise.launch.processes import Here, Place
from rigwise.launch.slurm import Slurm
from rigwise.launch.steps import sessions

#: Told what the command writes.
Output = Callable[[bytes], object]

_LOOK_S = 0.1
_ASK_S = {"slurm": 2.0}
#: The keeper beats every other second; a place that does not answer either is lost after so long.
LOST_AFTER_S = 60.0
#: The end that a keeper writes may be seen later than the end of the job: shared file systems take their time.
_SEEN_S = {"slurm": 15.0}
_MOST_BACK_OFF_S = 60.0
_TAIL_BYTES = 16 * 1024


class Launcher:
    """Follows one run.

    Attributes:
        state: As it stands now; also in the folder.
        told: The number of the signal that asked for an end, 0 if none did.
    """

    def __init__(self, folder: Path, state: State, output: Output) -> None:
        self.folder, self.state = folder, replace(state, pid=os.getpid())
        self.told = 0
        self._signals = 0
        self._output = output
        self._shown = _size(folder / LOG)
        self.place = place_of(state)
        self._notices: list[str] = []

    def run(self) -> State:
        """From where the run stands to its end.

        Raises:
            RunError, InvalidInputError: The place cannot be reached or denies the run, or the disk is full.
        """
        with self._signals_caught():
            current = self.state.attempts[-1] if self.state.attempts else None
            if current is None or current.ended_s is not None:
                current = self._start()
                was_over = False
            else:
                was_over = self._is_over(current)
                self._save(replace(self.state, phase=RUNNING))
            while True:
                how = self._follow(current)
                current = self._close(current, how)
                if not (was_over and how.is_interruption and not self.told) and not self._goes_on(how):
                    return self.state
                was_over = False
                current = self._start()

    def _is_over(self, attempt: Attempt) -> bool:
        """Whether an attempt had ended before anybody looked: going on with it needs no restart that is left."""
        ended = read_plain(ended_file(self.folder, attempt.number))
        return ended is not None or self.place.is_alive(attempt.handle) is False

    # One attempt

    def _start(self) -> Attempt:
        number = len(self.state.attempts) + 1
        attempt = Attempt(number=number, started_s=time.time())
        try:
            handle = self.place.start(self.folder, number)
        except RigwiseError as error:
            how = attempt, str(error)
            self._save(
                with_attempt(
                    self.state, replace(how[0], ended_s=time.time(), reason=how[1]), phase=FAILED, message=how[1]
                )
            )
            raise
        attempt = replace(attempt, handle=handle)
        self._save(with_attempt(self.state, attempt, phase=RUNNING, message=""))
        return attempt

    def _follow(self, attempt: Attempt) -> Ending:
        """Show what it writes until it has ended."""
        asked_s = silent_s = time.monotonic()
        done = 0
        while True:
            self._show()
            ended = read_plain(ended_file(self.folder, attempt.number))
            if ended is not None:
                self._show()
                return ending(ended, sessions(self.folder), attempt.number, self._tail())
            if self._signals > done:
                done = self._signals
                self._stop(attempt, now=done > 1)
            now_s = time.monotonic()
            if now_s - asked_s >= _ASK_S.get(self.state.on, 1.0) or (done and self.state.on != "slurm"):
                asked_s = now_s
                alive = self.place.is_alive(attempt.handle)
                if alive is False and (how := self._gone(attempt)):
                    return how
                silent_s = now_s if alive or self._is_beating() else silent_s
                if alive is None and now_s - silent_s > LOST_AFTER_S:
                    return Ending(lost=True, reason=f"{self.state.on} has not answered for {LOST_AFTER_S:.0f} s")
                self._notice(alive)
            time.sleep(_LOOK_S)

    def _stop(self, attempt: Attempt, *, now: bool) -> None:
        """Tell both the keeper and the place."""
        self._leave_word()
        self.place.stop(attempt.handle, now=now)

    def _leave_word(self) -> None:
        """Tell the keeper through the folder: a scheduler that is lost hands nothing on, and is waited for."""
        current = self.state.attempts[-1] if self.state.attempts else None
        if current is not None and current.ended_s is None:
            with suppress(OSError):
                stop_file(self.folder, current.number).touch()

    def _gone(self, attempt: Attempt) -> Ending | None:
        """It is not there any more: how it ended, once its keeper's last word had time to arrive."""
        has_begun = started_file(self.folder, attempt.number).exists() or not self._signals
        until_s = time.monotonic() + (_SEEN_S.get(self.state.on, 1.0) if has_begun else 1.0)
        while time.monotonic() < until_s:
            if read_plain(ended_file(self.folder, attempt.number)) is not None:
                return None
            time.sleep(_LOOK_S)
        self.place.clean_up(self.folder, attempt.number)
        return Ending(is_interruption=True, reason=self.place.why(attempt.handle), at_s=self._last_seen_s(attempt))

    def _last_seen_s(self, attempt: Attempt) -> float:
        """Time of day at which an attempt cannot have been at work any more: a place may tell minutes later."""
        with suppress(OSError):
            beat_s = (self.folder / "alive").stat().st_mtime
            if beat_s > attempt.started_s:
                return min(time.time(), beat_s + 2 * BEAT_S)
        return time.time()

    def _close(self, attempt: Attempt, how: Ending) -> Attempt:
        ended_s = how.at_s or time.time()
        lost = lost_s(sessions(self.folder), attempt.number, ended_s) if how.is_interruption else None
        closed = replace(
            attempt, ended_s=None if how.lost else ended_s, exit_code=how.exit_code, reason=how.reason, lost_s=lost
        )
        phase, message = FINISHED, ""
        if self.told:
            phase, message = INTERRUPTED, "interrupted" if self.told == signal.SIGINT else "terminated"
        elif how.lost:
            phase, message = LOST, how.reason
        elif how.is_interruption:
            phase, message = INTERRUPTED, how.reason
        elif how.exit_code != 0:
            phase, message = FAILED, how.reason
        self._save(with_attempt(self.state, closed, phase=phase, message=message))
        if phase in ENDED and (phase != INTERRUPTED or self.told):
            with suppress(OSError):
                (self.folder / RESERVE).unlink()
        return closed

    def _goes_on(self, how: Ending) -> bool:
        """Whether to start again, after a wait that doubles with every attempt that did no step."""
        if not how.is_interruption or self.told:
            return False
        again = len(self.state.attempts) - 1
        if again >= self.state.restarts:
            times = f" {again + 1} times" if again else ""
            self._save(replace(self.state, phase=FAILED, message=f"{how.reason}{times}"))
            return False
        stepped = {one.attempt for one in sessions(self.folder) if one.steps}
        idle = next((n for n, one in enumerate(reversed(self.state.attempts)) if one.number in stepped), again)
        wait_s = min(_MOST_BACK_OFF_S, self.state.back_off_s * 2.0 ** min(idle, 16))
        self._tell(f"{how.reason}; starting again in {wait_s:g} s ({again + 1} of {self.state.restarts})")
        self._save(replace(self.state, phase=RESTARTING))
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and not self._signals:
            time.sleep(min(_LOOK_S, wait_s))
        if self._signals:
            self._save(replace(self.state, phase=INTERRUPTED, message="interrupted"))
            return False
        return True

    # What is shown

    def _show(self) -> None:
        """Pass on what the log has gained."""
        with suppress(OSError), (self.folder / LOG).open("rb") as stream:
            stream.seek(self._shown)
            while text := stream.read(1 << 16):
                self._shown += len(text)
                self._output(text)

    def _tail(self) -> str:
        with suppress(OSError), (self.folder / LOG).open("rb") as stream:
            stream.seek(max(0, _size(self.folder / LOG) - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
        return ""

    def _notice(self, alive: bool | None) -> None:
        """Say once that a place does not answer, and once that it does again."""
        words = "" if alive is not None else f"{self.state.on} does not answer; the run's folder is watched"
        if words and words not in self._notices:
            self._notices.append(words)
            self._tell(words)

    def _tell(self, words: str) -> None:
        print(f"rigwise: {' '.join(words.split())}", file=sys.stderr, flush=True)

    def _is_beating(self) -> bool:
        with suppress(OSError):
            return time.time() - (self.folder / "alive").stat().st_mtime < LOST_AFTER_S
        return False

    # State and signals

    def _save(self, state: State) -> None:
        self.state = state
        try:
            write_state(self.folder, state)
        except InvalidInputError as error:
            give_up_reserve(self.folder)
            if state.attempts and state.attempts[-1].ended_s is None:
                self.place.stop(state.attempts[-1].handle, now=False)
            raise RunError(f"the state of the run cannot be kept: {error.message}", hint="free some space") from None

    @contextmanager
    def _signals_caught(self) -> Iterator[None]:
        def told(number: int, frame: FrameType | None) -> None:
            self.told = self.told or number
            self._signals += 1
            self._leave_word()

        before: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                with suppress(ValueError):  # only the main thread may
                    if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                        before.setdefault(number, signal.signal(number, told))
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def place_of(state: State) -> Place:
    """The place of a run."""
    if state.on == "slurm":
        options = state.options
        return Slurm(
            nodes=state.nodes,
            gpus=int(options.get("gpus", 0)),
            words=tuple(options.get("words", ())),
            secrets=state.secrets,
            grace_s=state.grace_s,
        )
    return Here()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
