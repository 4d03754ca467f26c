"""A dataflow at work: what its stages take, do and hand on. ``dataflow`` starts, watches and stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from rigwise.errors import InvalidInputError, RigwiseError, RunError
from rigwise.execute.calls import Convention, fault, given, prepared
from rigwise.execute.channel import BUSY, INSIDE, OVERHEAD, PACED, STARVED, Account, Channel, Order
from rigwise.execute.control import Control, Tally
from rigwise.execute.local import Local, LocalSource
from rigwise.execute.remote import Remote, WorkerFaultError
from rigwise.execute.stage import INLINE, PROCESS, Stage, split
from rigwise.execute.trace import Trace

#: An item on its way: value, running number at its source from 1, and when it was made.
Item = tuple[Any, int, float]

_NOTHING: Any = object()

#: Calls that take less than this are handed to a worker several at a time.
_WORTH_A_HANDOVER_S = 5e-4
_MOST_AT_A_TIME = 32


class Node:
    """A stage at work."""

    def __init__(self, stage: Stage, control: Control, *, is_sink: bool) -> None:
        self.stage = stage
        self.control = control
        self.is_sink = is_sink
        ports = () if is_sink else stage.ports or ("",)
        self.how = Convention(batched=stage.batch > 1, joined=stage.joins, ports=ports)
        self.channels: list[Channel] = []
        self.targets: list[list[Channel | Node]] = [[] for _ in ports]
        self.accounts = [Account() for _ in range(stage.workers)]
        self.tally = Tally(len(ports))
        self.arrivals: Trace[float] = Trace()
        self.latencies_s: Trace[float] = Trace()
        self.late_s = 0.0
        self._left = stage.workers
        self._lock = threading.Lock()
        self._intake = threading.Lock()
        self._ticket = 0
        self._order = Order(4 * stage.workers) if stage.ordered and stage.workers > 1 else None
        self._inline: Local | None = None
        if self._order is not None:
            control.at_stop(self._order.stop)

    def connect(self, nodes: dict[str, Node]) -> None:
        """Make the queues at its inputs."""
        stage = self.stage
        capacity = max(stage.queue, stage.batch)
        ends = [split(end) for end in stage.after]
        if stage.run != INLINE:
            shared = Channel(capacity, len(ends)) if not stage.joins and ends else None
            self.channels = [shared] if shared else [Channel(capacity, 1) for _ in ends]
            for channel in self.channels:
                self.control.at_stop(channel.stop)
        for position, (name, port) in enumerate(ends):
            before = nodes[name]
            target: Channel | Node = self
            if self.channels:
                target = self.channels[position if stage.joins else 0]
            before.targets[before.how.ports.index(port)].append(target)

    # -- workers

    def prepare(self, index: int, register: Callable[[Remote], None]) -> Local | LocalSource | Remote:
        """What calls the user's function for one worker, ready.

        Raises:
            InvalidInputError: There is no such function, or it cannot be sent to a process.
            RunError: Importing it failed.
        """
        stage = self.stage
        try:
            if stage.run == PROCESS:
                remote = Remote(stage.name, stage.call, self.how, source=stage.is_source)
                register(remote)
                remote.wait_ready()
                return remote
            if stage.is_source:
                return LocalSource(stage.call)
            local = Local(prepared(stage.call), self.how)
        except RigwiseError as error:
            raise type(error)(f"stage {stage.name} cannot start: {error.message}", hint=error.hint) from error
        except (Exception, SystemExit) as error:
            raise RunError(f"stage {stage.name} cannot start{fault(error)}") from error
        if stage.run == INLINE:
            self._inline = local
            self.accounts[index].switch(STARVED)
        return local

    def work(self, worker: Local | Remote, account: Account) -> None:
        """Take, call, hand on, until nothing more comes."""
        chunk, mean_s = 1, 1.0
        share = max(1, self.channels[0].capacity // self.stage.workers)
        while True:
            ticket, items = self._take(chunk, account)
            if not items:
                break
            results, spent_s = self._call(worker, items, account)
            if self._order is not None:
                self._order.hand_on(ticket, results, self._emit, account)
            else:
                self._emit(results, account)
            if not self.how.batched:
                mean_s += 0.2 * (spent_s / len(items) - mean_s)
                chunk = max(1, min(_MOST_AT_A_TIME, share, int(_WORTH_A_HANDOVER_S / max(mean_s, 1e-6))))

    def produce(self, source: LocalSource | Remote, account: Account) -> None:
        """Iterate over a source at its rate, until it ends or has to."""
        most, number = self.control.limits.items, 0
        start = time.perf_counter()
        while (most is None or number < most) and self._due(start, number, account):
            account.items = (number + 1, number + 1)
            try:
                with self.control.turn(account):
                    begin = account.switch(BUSY)
                    made = source.next_item()
                now = account.switch(OVERHEAD)
                if made is None:
                    break
                outs = given(made[0], self.how)
            except (WorkerFaultError, InvalidInputError) as error:
                text = f" {error}" if isinstance(error, InvalidInputError) else error
                raise RunError(f"source {self.stage.name}, item {number + 1}:{text}") from error
            number += 1
            self.tally.add(0, [(outs, made[1])], now - begin, made[2])
            self._emit([[[(value, number, now) for value in out] for out in outs]], account)
        if isinstance(source, LocalSource):
            source.close()

    def _due(self, start: float, number: int, account: Account) -> bool:
        """Wait until an item is due; False if the source has to end."""
        ending, rate = self.control.ending, self.stage.rate_per_s
        if rate is not None:
            late_s = time.perf_counter() - start - number / rate
            self.late_s = max(0.0, late_s)
            if late_s < 0:
                account.switch(PACED)
                ending.wait(-late_s)
        return not ending.is_set()

    def finish(self) -> None:
        """One worker has ended; after the last, those behind learn that nothing more comes."""
        with self._lock:
            self._left -= 1
            if self._left:
                return
        for target in (target for targets in self.targets for target in targets):
            if isinstance(target, Channel):
                target.close()
            else:
                target.finish()

    # -- one step of a worker

    def _take(self, chunk: int, account: Account) -> tuple[int, list[Item]]:
        if not self._intake.acquire(blocking=False):
            account.switch(STARVED)
            self._intake.acquire()
            account.switch(OVERHEAD)
        try:
            if self._order is not None:
                self._order.wait_for(self._ticket, account)
            stage = self.stage
            most = stage.batch if stage.batch > 1 else chunk
            least = stage.batch if stage.batch > 1 else 1
            items = self.channels[0].take(least, most, stage.max_wait_s, account)
            if stage.joins:
                items = self._joined(items, account)
            self._ticket += 1
            return self._ticket - 1, items
        finally:
            self._intake.release()

    def _joined(self, first: list[Item], account: Account) -> list[Item]:
        """One of each input; where an input has ended, what the others still have is dropped."""
        columns = [first]
        for channel in self.channels[1:]:
            column: list[Item] = []
            while len(column) < len(first):
                more = channel.take(1, len(first) - len(column), None, account)
                if not more:
                    break
                column += more
            columns.append(column)
        pairs = min(map(len, columns))
        if pairs < len(first) or not first:
            for channel, column in zip(self.channels, columns, strict=True):
                channel.dropped += len(column) - pairs
                channel.discard()
        return [
            (tuple(value for value, _, _ in row), row[0][1], min(born for _, _, born in row))
            for row in zip(*columns, strict=False)
        ]

    def _call(self, worker: Local | Remote, items: list[Item], account: Account) -> tuple[list[Any], float]:
        """Results of the calls for some items: for each, items by output."""
        groups = [items] if self.how.batched else [[item] for item in items]
        account.items = (items[0][1], items[-1][1])
        try:
            with self.control.turn(account):
                begin = account.switch(BUSY)
                results, cpu_s = worker.ask([[value for value, _, _ in group] for group in groups])
        except WorkerFaultError as error:
            raise RunError(f"stage {self.stage.name}, {_numbered(groups[error.position])}:{error}") from error
        except RunError as error:
            raise RunError(f"{error.message} at {_numbered(items)}", hint=error.hint) from None
        end = account.switch(OVERHEAD)
        self.tally.add(len(items), results, end - begin, cpu_s)
        if self.how.batched:
            self.tally.largest_batch = max(self.tally.largest_batch, len(items))
        if self.is_sink:
            self._arrived(items, end)
        handed = [[_descended(out, group) for out in outs] for group, (outs, _) in zip(groups, results, strict=True)]
        return handed, end - begin

    def _arrived(self, items: list[Item], now: float) -> None:
        with self.tally.lock:
            for _, _, born in items:
                self.arrivals.add(now)
                self.latencies_s.add(now - born)

    def _emit(self, results: list[Any], account: Account) -> None:
        """Hand results to the stages after this one.

        To several of them item by item: with all items of a call in one queue first, a join of what
        comes by two ways could wait for the other queue for ever.
        """
        if sum(map(len, self.targets)) == 1:
            (place,) = (i for i, targets in enumerate(self.targets) if targets)
            self._hand_on([item for outs in results for item in outs[place]], self.targets[place], account)
            return
        for outs in results:
            for step in zip_longest(*outs, fillvalue=_NOTHING):
                for item, targets in zip(step, self.targets, strict=True):
                    if item is not _NOTHING:
                        self._hand_on([item], targets, account)

    def _hand_on(self, items: list[Item], targets: Sequence[Channel | Node], account: Account) -> None:
        for target in targets if items else ():
            if isinstance(target, Channel):
                target.put(items, account)
            else:
                target._pass_through(items, account)

    def _pass_through(self, items: list[Item], outer: Account) -> None:
        """Run an inline stage in the worker of the stage before it."""
        outer.switch(INSIDE)
        with self._intake:
            account = self.accounts[0]
            account.switch(OVERHEAD)
            if self._inline is not None:
                results, _ = self._call(self._inline, items, account)
                self._emit(results, account)
            account.switch(STARVED)
        outer.switch(OVERHEAD)


def _descended(values: list[Any], parents: Sequence[Item]) -> list[Item]:
    """Items made from others: one from each if the numbers are equal, else all from the first."""
    if len(values) == len(parents):
        return [(value, number, born) for value, (_, number, born) in zip(values, parents, strict=True)]
    _, number, born = parents[0]
    return [(value, number, born) for value in values]


def _numbered(items: Sequence[Item]) -> str:
    first, last = items[0][1], items[-1][1]
    return f"item {first}" if first == last else f"items {first} to {last}"
