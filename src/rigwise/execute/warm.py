"""Processes that stay warm and answer one question after another; one that takes too long is ended and replaced.

Threads would share one interpreter, so that a long answer holds up all others and cannot be ended. What goes to a
process and what comes back are bytes behind their length, so that nothing that a process read of somebody's file can be
unpickled here. A process ends when its input does, so none outlives this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import sys
from dataclasses import dataclass

from rigwise.errors import RunError
from rigwise.graph.capture.descendants import end_descendants

LENGTH_BYTES = 4
#: Bytes that asyncio reads ahead; an answer may be longer.
_AHEAD_BYTES = 2**16
_MOST_BYTES = 256 * 2**20
_ATTEMPTS = 3
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class BusyError(RunError):
    """All processes are at work and as many questions as may wait are waiting."""


class OverdueError(RunError):
    """The answer took too long; the process was ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the processes are kept.

    Attributes:
        module: What each runs: it reads questions from standard input and writes answers to standard output.
        count: Processes.
        waiting: Questions of a rank that may wait for one.
        limit_s: Time for an answer, and before it for waiting.
        memory_bytes: A process that holds more after an answer is replaced.
    """

    module: str
    count: int
    waiting: int
    limit_s: float
    memory_bytes: float


class WarmProcesses:
    """A few processes and the line before them."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._idle: list[asyncio.subprocess.Process] = []
        self._line: list[tuple[int, int, asyncio.Future[asyncio.subprocess.Process]]] = []
        self._number = itertools.count()
        self._all: set[asyncio.subprocess.Process] = set()
        self._starting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start them; returns when all are warm.

        Raises:
            RunError: They end at once, each time.
        """
        await asyncio.gather(*(self._add(most=_ATTEMPTS) for _ in range(self._terms.count)))

    async def close(self) -> None:
        """End them and whatever they started."""
        for task in self._starting:
            task.cancel()
        for process in list(self._all):
            self._end(process)
        await asyncio.gather(*(process.wait() for process in list(self._all)))

    @property
    def waiting(self) -> int:
        """Questions in the line."""
        return sum(not place.done() for _, _, place in self._line)

    def resident_bytes(self) -> float:
        """Memory of all processes."""
        return sum(_resident_bytes(process.pid) for process in self._all)

    async def ask(self, question: bytes, *, rank: int = 0, limit_s: float | None = None) -> bytes:
        """The answer of whichever process is free first.

        Args:
            question: What it is sent.
            rank: Of two that wait the lower one is asked first; as many as may wait do of each.
            limit_s: Time for the answer, if not that of the terms.

        Raises:
            BusyError: The line is full, or nobody was free in time.
            OverdueError: The answer took longer than ``limit_s``.
            RunError: The process ended before it answered.
        """
        process = await self._free(rank)
        limit_s = limit_s or self._terms.limit_s
        try:
            async with asyncio.timeout(limit_s):
                answer = await _exchange(process, question)
        except TimeoutError:
            self._replace(process)
            hint = "ask for less: fewer devices, providers or nodes"
            raise OverdueError(f"there was no answer within {limit_s:g} s", hint=hint) from None
        except (OSError, EOFError):
            self._replace(process)
            hint = "it may need more memory than there is"
            raise RunError("the process that looked for the answer ended", hint=hint) from None
        except BaseException:
            self._replace(process)
            raise
        if _resident_bytes(process.pid) > self._terms.memory_bytes:
            self._replace(process)
        else:
            self._give(process)
        return answer

    async def _free(self, rank: int) -> asyncio.subprocess.Process:
        """A process that nobody else is asking."""
        while self._idle:
            if (process := self._idle.pop()).returncode is None:
                return process
            self._replace(process)  # it ended while nobody asked it
        waiting = sum(each == rank and not place.done() for each, _, place in self._line)
        if waiting >= self._terms.waiting:
            raise BusyError(f"{waiting} questions are waiting already", hint="ask again in a moment")
        place: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (rank, next(self._number), place))
        try:
            async with asyncio.timeout(self._terms.limit_s):
                return await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._give(place.result())
            if isinstance(error, TimeoutError):
                raise BusyError("other questions took all the time", hint="ask again in a moment") from None
            raise

    def _give(self, process: asyncio.subprocess.Process) -> None:
        """Let the next in the line ask a process."""
        while self._line:
            _, _, place = heapq.heappop(self._line)
            if not place.done():
                place.set_result(process)
                return
        self._idle.append(process)

    def _replace(self, process: asyncio.subprocess.Process) -> None:
        self._end(process)
        task = asyncio.get_running_loop().create_task(self._add())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            end_descendants(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _add(self, *, most: int | None = None) -> None:
        """Start a process, and give it to the line once it is warm; try again, ever later, where that fails."""
        pause_s = 0.5
        for attempt in itertools.count(1):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self._terms.module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,
                limit=_AHEAD_BYTES,
            )
            self._all.add(process)
            self._forget_ended()
            try:
                await _read(process)
            except (OSError, EOFError):
                self._end(process)
                if attempt == most:
                    raise RunError("the processes that look for answers do not start") from None
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 30.0)
                continue
            self._give(process)
            return

    def _forget_ended(self) -> None:
        self._all = {process for process in self._all if process.returncode is None}


async def _exchange(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    if process.stdin is None or process.returncode is not None:
        raise EOFError
    process.stdin.write(len(question).to_bytes(LENGTH_BYTES, "big") + question)
    await process.stdin.drain()
    return await _read(process)


async def _read(process: asyncio.subprocess.Process) -> bytes:
    """The next message of a process; the first says that it is warm.

    Raises:
        EOFError: It ended, or says something else.
    """
    if process.stdout is None:
        raise EOFError
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    if length > _MOST_BYTES:
        raise EOFError
    return await process.stdout.readexactly(length)


def _resident_bytes(process: int) -> float:
    import psutil

    try:
        return float(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0.0
