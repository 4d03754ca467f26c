"""The order in which a step asks for memory and hands it back, and what the allocator makes of it.

Repeated blocks run one repetition after the other: each makes its results anew, those kept for the backward pass
pile up, and the backward block takes them from the top. Two steps are run, so that the second meets the pieces
that the first left.

Source: ``graph.liveness`` for who lives how long, ``estimate.allocator`` for what that takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from rigwise.estimate.allocator import Block, CachingAllocator, OutOfMemoryError
from rigwise.graph.liveness import Array, Lifetimes
from rigwise.graph.op import Op

#: A deep block is replayed with so many repetitions; its results keep the bytes of all.
MAX_REPEAT = 12

#: What happens to a result: it is made, its youngest copy is freed, its oldest copy is freed.
MAKE, FREE_YOUNGEST, FREE_OLDEST = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the allocator held at most.

    Attributes:
        allocated_bytes: Of requests, rounded.
        reserved_bytes: Of segments.
        fits: Whether the limit was never reached.
    """

    allocated_bytes: float
    reserved_bytes: float
    fits: bool = True


def events(ops: Sequence[Op], lifetimes: Lifetimes) -> tuple[tuple[int, int], ...]:
    """One step's requests in order: what happens, and to which result. What stays to the end is not freed."""
    return tuple(_Order(ops, lifetimes).events())


class _Order:
    """Walks the operators with every repetition of their blocks."""

    def __init__(self, ops: Sequence[Op], lifetimes: Lifetimes) -> None:
        self.ops, self.lifetimes = ops, lifetimes
        self.made: dict[int, list[int]] = defaultdict(list)
        self.made_after: dict[int, list[int]] = defaultdict(list)
        self.freed: dict[int, list[int]] = defaultdict(list)
        self.outlives: dict[int, list[int]] = defaultdict(list)
        self.carried_to: dict[int, list[int]] = defaultdict(list)
        self.carried: set[int] = set()
        self.standing: dict[int, int] = defaultdict(int)

    def events(self) -> Iterator[tuple[int, int]]:
        blocks = self._blocks()
        self._place(blocks)
        for start, end in dict.fromkeys(blocks):
            repeat = min(self.ops[start].repeat, MAX_REPEAT)
            for repetition in range(repeat):
                for index in range(start, end + 1):
                    yield from self._at(index, (start, end), repetition, repeat)

    def _at(self, index: int, block: tuple[int, int], repetition: int, repeat: int) -> Iterator[tuple[int, int]]:
        for row in self.made[index]:
            self.standing[row] += 1
            yield MAKE, row
        if repetition:
            for row in self.carried_to[index]:
                yield from self._free(row, 1, FREE_OLDEST)
        is_last = repetition == repeat - 1
        for row in self.freed[index]:
            own = block[0] <= self.lifetimes.lives["maker"][row] <= block[1]
            if own and not is_last and row in self.carried:
                continue
            if not own and repeat > 1 and not is_last and not self.lifetimes.lives["others"][row]:
                continue  # the next repetition reads it too
            copies = self.standing[row] if not own and repeat == 1 else 1
            yield from self._free(row, copies, FREE_YOUNGEST)
        if index == block[1] and not is_last:
            for row in self.outlives[index]:
                yield from self._free(row, 1, FREE_YOUNGEST)
        for row in self.made_after[index]:
            self.standing[row] += 1
            yield MAKE, row

    def _free(self, row: int, copies: int, which: int) -> Iterator[tuple[int, int]]:
        for _ in range(min(copies, self.standing[row])):
            self.standing[row] -= 1
            yield which, row

    def _blocks(self) -> list[tuple[int, int]]:
        """First and last operator of the block each operator stands in."""
        bounds: list[list[int]] = []
        for index, op in enumerate(self.ops):
            before = self.ops[index - 1] if index else None
            joins = before is not None and op.repeat > 1 and (op.repeat, op.phase) == (before.repeat, before.phase)
            bounds.append(bounds[-1] if joins else [index, index])
            bounds[-1][1] = index
        return [(start, end) for start, end in bounds]

    def _place(self, blocks: Sequence[tuple[int, int]]) -> None:
        """Where each result is made and freed, and which the next repetition reads."""
        lives, tensors = self.lifetimes.lives, self.lifetimes.tensors
        main: dict[tuple[int, int], int] = {}
        rows = range(len(tensors))
        for row in rows:
            maker, start, end = (int(lives[name][row]) for name in ("maker", "start", "end"))
            if start < maker:
                continue
            main[maker, id(tensors[row])] = row
            (self.made_after if start > maker else self.made)[maker].append(row)
            self.freed[end].append(row)
            if end > blocks[maker][1] and not lives["others"][row]:
                self.outlives[blocks[maker][1]].append(row)
        for row in rows:
            maker, start, end = (int(lives[name][row]) for name in ("maker", "start", "end"))
            if start < maker and (maker, id(tensors[row])) in main:
                carried = main[maker, id(tensors[row])]
                self.carried.add(carried)
                self.carried_to[end].append(carried)
        for index, found in self.outlives.items():
            self.outlives[index] = [row for row in found if row not in self.carried]


def replay(
    program: Sequence[tuple[int, int]],
    result_bytes: Array,
    *,
    standing_bytes: float = 0.0,
    update_bytes: float = 0.0,
    limit_bytes: float = inf,
) -> Replay:
    """Run two steps through the allocator.

    Args:
        program: From ``events``.
        result_bytes: Of one copy of each result ``[results]``.
        standing_bytes: Weights and the like, there from the start.
        update_bytes: What the optimizer asks for at the end of a step.
        limit_bytes: What the driver can lend.
    """
    allocator = CachingAllocator(limit_bytes=limit_bytes)
    sizes = [float(size) for size in result_bytes]
    try:
        if standing_bytes:
            allocator.allocate(standing_bytes)
        for _ in range(2):
            _step(program, sizes, allocator, update_bytes)
    except OutOfMemoryError:
        return Replay(
            allocated_bytes=float(allocator.peak_allocated_bytes),
            reserved_bytes=float(allocator.peak_reserved_bytes),
            fits=False,
        )
    return Replay(
        allocated_bytes=float(allocator.peak_allocated_bytes), reserved_bytes=float(allocator.peak_reserved_bytes)
    )


def _step(
    program: Sequence[tuple[int, int]], sizes: Sequence[float], allocator: CachingAllocator, update_bytes: float
) -> None:
    held: dict[int, list[Block]] = {}
    for what, row in program:
        if what == MAKE:
            held.setdefault(row, []).append(allocator.allocate(sizes[row]))
        else:
            allocator.release(held[row].pop(0 if what == FREE_OLDEST else -1))
    if update_bytes:
        allocator.release(allocator.allocate(update_bytes))
    for blocks in held.values():
        for block in blocks:
            allocator.release(block)
