"""Run a dataflow: start its workers, watch them, stop them in every case, and say what was measured.

Every queue stands in this process, so back-pressure and measuring are the same for threads and processes; a
worker process is asked by a thread of its stage. The thread that calls ``run`` watches: it ends the sources when
the time is up or a signal comes, stops everything at the first fault, and notices calls that do not return,
processes that died, and joins that wait for each other.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rigwise.errors import RunError
from rigwise.execute.channel import BLOCKED, BUSY, LIVE, STARVED, StoppedError
from rigwise.execute.control import Control
from rigwise.execute.measured import Measured, Snapshot, machine_cpu_s, sink_measure, snapshot, stage_measure, steady
from rigwise.execute.network import Node
from rigwise.execute.remote import Remote
from rigwise.execute.stage import INLINE, Limits, Stage, check, split
from rigwise.execute.trace import Trace, quantile

#: How often the watch looks, and how often it notes how the time is spent.
_TICK_S = 0.02
_NOTE_S = 0.05

#: A thread that was woken may have to wait for a core: only after this time is a standstill taken for one.
_STANDSTILL_S = 1.0

#: How long threads may take to end once they were told to, and processes to end by themselves.
_FAREWELL_S = 2.0


def run(stages: Sequence[Stage], limits: Limits | None = None) -> Measured:
    """Run stages until the sources have no more items, a limit is reached, or SIGINT or SIGTERM comes.

    A first signal ends the sources and finishes what is under way, as ``limits.duration_s`` does; a second stops
    at once. No process and no thread is left behind, except a thread in a function that never returns: Python
    cannot end it, so it goes on until this process ends.

    Args:
        stages: Each after those it takes items from.
        limits: When to end; by default, when the sources have no more items.

    Raises:
        InvalidInputError: The stages make no dataflow, or a function is not there.
        RunError: A function raised or did not return, a worker process ended, or stages wait for each other.
    """
    check(stages)
    crew = _Crew(stages, limits or Limits())
    with _signals(crew):
        try:
            crew.start()
            crew.watch()
        finally:
            crew.dismiss()
    if crew.control.failure is not None:
        raise crew.control.failure
    return crew.measured()


@contextlib.contextmanager
def _signals(crew: _Crew) -> Iterator[None]:
    """Hand SIGINT and SIGTERM to the crew; only the main thread of a program can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, crew.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Crew:
    """The workers of all stages, and who watches them."""

    def __init__(self, stages: Sequence[Stage], limits: Limits) -> None:
        self.limits = limits
        self.control = Control(limits)
        fed = {split(end)[0] for stage in stages for end in stage.after}
        self._nodes = {s.name: Node(s, self.control, is_sink=s.name not in fed) for s in stages}
        for node in self._nodes.values():
            node.connect(self._nodes)
        self._all = list(self._nodes.values())
        self._remotes: list[tuple[Node, Remote]] = []
        self._ready = 0
        self._lock = threading.Lock()
        self._threads = [(self._thread(node, index), node) for node in self._all for index in range(node.stage.workers)]
        self._signals = 0
        self._signal = 0
        self._deadline_s: float | None = None
        self._ended = "exhausted"
        self._start_s = self._end_s = 0.0
        self._machine_before = self._machine_after = (0.0, 0.0)
        self._sources_ended_s: float | None = None
        self._snapshots: Trace[Snapshot] = Trace()
        self._delays_s: Trace[float] = Trace()
        self._dead_since: dict[Remote, float] = {}
        self._idle = (-1, 0.0)

    # -- in the workers' threads

    def _thread(self, node: Node, index: int) -> threading.Thread:
        name = f"{node.stage.name} {index}"
        return threading.Thread(target=self._serve, args=(node, index), name=name, daemon=True)

    def _serve(self, node: Node, index: int) -> None:
        worker = None
        try:
            worker = node.prepare(index, lambda remote: self._register(node, remote))
            with self._lock:
                self._ready += 1
            self.control.go.wait()
            if self.control.stopped or node.stage.run == INLINE:
                return
            account = node.accounts[index]
            if node.stage.is_source:
                node.produce(worker, account)  # type: ignore[arg-type]
            else:
                node.work(worker, account)  # type: ignore[arg-type]
            account.switch(STARVED)
            node.finish()
        except StoppedError:
            pass
        except BaseException as error:
            self.control.fail(error)
        finally:
            if isinstance(worker, Remote):
                worker.dismiss()

    def _register(self, node: Node, remote: Remote) -> None:
        with self._lock:
            self._remotes.append((node, remote))
        if self.control.stopped:
            remote.kill()

    # -- in the thread that watches

    def on_signal(self, number: int, _frame: Any) -> None:
        """First: end the sources and finish; second: stop."""
        self._signals += 1
        self._signal = number

    def start(self) -> None:
        """Begin when all workers have their functions."""
        for thread, _ in self._threads:
            thread.start()
        limit_s = time.perf_counter() + self.limits.start_s
        while self._ready < len(self._threads) and not self.control.stopped:
            time.sleep(_TICK_S / 4)
            if self._signals:
                self._ended = "interrupted"
                self.control.stop()
            elif time.perf_counter() > limit_s:
                slow = next(node.stage.name for t, node in self._threads if t.is_alive())
                self.control.fail(RunError(f"stage {slow} was not ready to start after {self.limits.start_s:g} s"))
        self._machine_before = machine_cpu_s()
        self._start_s = time.perf_counter()
        self._note(self._start_s)
        self.control.go.set()

    def watch(self) -> None:
        """Until all workers have ended, or must be left."""
        noted_s = self._start_s
        while (alive := [thread for thread, _ in self._threads if thread.is_alive()]) and not self.control.stopped:
            begin = time.perf_counter()
            alive[0].join(_TICK_S)
            now = time.perf_counter()
            if alive[0].is_alive():
                self._delays_s.add(max(0.0, now - begin - _TICK_S))
            if now - noted_s >= _NOTE_S:
                self._note(now)
                noted_s = now
            self._look(now)
        self._end_s = time.perf_counter()
        self._machine_after = machine_cpu_s()
        self._note(self._end_s)

    def _look(self, now: float) -> None:
        if self._sources_ended_s is None and not any(t.is_alive() and n.stage.is_source for t, n in self._threads):
            self._sources_ended_s = now
        if self._signals > 1:
            self.control.stop()
        elif self._signals and self._ended != "interrupted":
            self._finish("interrupted", now)
        elif self._deadline_s is None and self._is_over(now):
            self._finish("duration", now)
        if self._deadline_s is not None and now > self._deadline_s:
            self._give_up(now)
        for node in self._all:
            self._look_for_long_calls(node, now)
        self._look_for_dead_processes(now)
        self._look_for_deadlock(now)

    def _is_over(self, now: float) -> bool:
        return self.limits.duration_s is not None and now - self._start_s >= self.limits.duration_s

    def _finish(self, why: str, now: float) -> None:
        """End the sources; what is under way has a while to finish."""
        self._ended = why
        self._deadline_s = now + self.limits.grace_s
        self.control.ending.set()

    def _give_up(self, now: float) -> None:
        """What is under way did not finish: a fault if one call took all the time, else it is left undone."""
        for node in self._all:
            for account in node.accounts:
                if account.state == BUSY and account.held_s(now) >= self.limits.grace_s:
                    self.control.fail(_never_returned(node, account.items, account.held_s(now)))
        self.control.stop()

    def _look_for_long_calls(self, node: Node, now: float) -> None:
        for account in node.accounts:
            if account.state == BUSY and account.held_s(now) > self.limits.call_s:
                self.control.fail(_never_returned(node, account.items, account.held_s(now)))

    def _look_for_dead_processes(self, now: float) -> None:
        """Its connection tells first, unless what the process started still holds that open."""
        dead = [remote for _, remote in self._remotes if not remote.dismissed and remote.process.poll() is not None]
        for remote in dead:
            if now - self._dead_since.setdefault(remote, now) > _FAREWELL_S:
                self.control.fail(remote.ended())

    def _look_for_deadlock(self, now: float) -> None:
        accounts = [account for node in self._all for account in node.accounts]
        moved = sum(node.tally.calls + sum(c.passed for c in node.channels) for node in self._all)
        stuck = not any(a.state in LIVE for a in accounts) and any(a.state == BLOCKED for a in accounts)
        if not stuck or moved != self._idle[0]:
            self._idle = (moved, now)
        elif now - self._idle[1] > _STANDSTILL_S:
            self.control.fail(_deadlock(self._all))

    def _note(self, now: float) -> None:
        self._snapshots.add(snapshot(self._all, now))

    def dismiss(self) -> None:
        """End every thread and process."""
        self.control.go.set()
        if any(thread.is_alive() for thread, _ in self._threads):
            self.control.stop()
            for _, remote in self._remotes:
                remote.kill()
        end = time.perf_counter() + _FAREWELL_S
        for thread, _ in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.perf_counter()))
        within_s = 0.0 if self.control.stopped else _FAREWELL_S
        for _, remote in self._remotes:
            remote.close(within_s)

    def measured(self) -> Measured:
        """What the run measured."""
        snapshots = self._snapshots.values()
        sinks = [node for node in self._all if node.is_sink]
        begin, end = steady(sinks[0].arrivals, snapshots, self._sources_ended_s)
        if self._ended == "exhausted" and self.limits.items is not None:
            given = [n.tally.items_out[0] for n in self._all if n.stage.is_source]
            self._ended = "items" if max(given) >= self.limits.items else "exhausted"
        used, had = (b - a for a, b in zip(self._machine_before, self._machine_after, strict=True))
        return Measured(
            ended=self._ended,
            signal=self._signal,
            elapsed_s=self._end_s - self._start_s,
            window_s=end.clock_s - begin.clock_s,
            machine_cores_busy_frac=min(1.0, used / had) if had > 0 else 0.0,
            lock_wait_s=quantile(self._delays_s.values(), 0.5) or 0.0,
            stages=tuple(stage_measure(node, at, begin, end) for at, node in enumerate(self._all)),
            sinks=tuple(sink_measure(node, begin, end) for node in sinks),
        )


def _never_returned(node: Node, items: tuple[int, int], held_s: float) -> RunError:
    first, last = items
    which = f"item {first}" if first == last else f"items {first} to {last}"
    hint = "" if node.stage.run == "process" else "a thread cannot be ended: it goes on until this program ends"
    if node.stage.is_source:
        return RunError(f"source {node.stage.name} did not give {which} within {held_s:.1f} s", hint=hint)
    return RunError(f"stage {node.stage.name} did not return from {which} within {held_s:.1f} s", hint=hint)


def _deadlock(nodes: Sequence[Node]) -> RunError:
    """Which queue is full, and who waits for what."""
    for node in nodes:
        full = [c for c in node.channels if c.waiting() >= c.capacity]
        empty = [c for c in node.channels if not c.waiting()]
        if node.stage.joins and full and empty:
            ahead = node.stage.after[node.channels.index(full[0])]
            behind = node.stage.after[node.channels.index(empty[0])]
            return RunError(
                f"{node.stage.name} waits for an item of {behind} while {full[0].capacity} items of {ahead} wait",
                hint=f"{behind} has to give as many items as {ahead}; or give {node.stage.name} a longer queue, "
                "or batches before it a max_wait",
            )
    waiting = ", ".join(n.stage.name for n in nodes if any(a.state == BLOCKED for a in n.accounts))
    return RunError(f"the stages wait for each other; no room after {waiting}", hint="give the queues more room")
