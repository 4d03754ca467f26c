"""The caching allocator of PyTorch, replayed: what a device's driver lends for what a step asks.

Sizes are rounded up to 512 bytes. Requests to 1 MiB are cut from segments of 2 MiB, larger ones to 10 MiB from
segments of 20 MiB, and above that a segment is the request rounded up to 2 MiB. The smallest free block that is
large enough is taken, and its rest is cut off if that is worth it; a freed block joins its free neighbours, and
stays with the process. When the driver has no more, segments that are wholly free go back, and it is asked again.

Source: the reference of PyTorch on memory management, and its ``CUDACachingAllocator``, as of 2.13.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import ceil, inf

from rigwise.units import MIB

_MIB = int(MIB)

ROUND_BYTES = 512
SMALL_BYTES = 1 * _MIB
SMALL_SEGMENT_BYTES = 2 * _MIB
MEDIUM_SEGMENT_BYTES = 20 * _MIB
OWN_SEGMENT_BYTES = 10 * _MIB
SEGMENT_ROUND_BYTES = 2 * _MIB


class OutOfMemoryError(Exception):
    """The driver lends no more, and nothing that is free can be given back."""


def rounded_bytes(size: float) -> int:
    """What a request takes of its block.

    >>> rounded_bytes(1), rounded_bytes(512), rounded_bytes(513)
    (512, 512, 1024)
    """
    return max(ROUND_BYTES, ceil(size / ROUND_BYTES) * ROUND_BYTES)


def segment_bytes(size: int) -> int:
    """What the driver is asked for when no free block serves a request.

    >>> [segment_bytes(n * 1024**2) // 1024**2 for n in (1, 2, 10, 11)]
    [2, 20, 10, 12]
    """
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < OWN_SEGMENT_BYTES:
        return MEDIUM_SEGMENT_BYTES
    return ceil(size / SEGMENT_ROUND_BYTES) * SEGMENT_ROUND_BYTES


class Block:
    """A stretch of one segment. ``before`` and ``behind`` are its neighbours there."""

    __slots__ = ("before", "behind", "free", "order", "size", "small")

    def __init__(self, size: int, order: int, *, small: bool) -> None:
        self.size, self.order, self.small, self.free = size, order, small, False
        self.before: Block | None = None
        self.behind: Block | None = None


class CachingAllocator:
    """Counts what is asked for and what is lent.

    Attributes:
        limit_bytes: What the driver can lend.
        allocated_bytes, reserved_bytes: Now, as rounded requests and as segments.
        peak_allocated_bytes, peak_reserved_bytes: The most so far.
    """

    def __init__(self, limit_bytes: float = inf) -> None:
        self.limit_bytes = limit_bytes
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self._free: dict[bool, list[tuple[int, int, Block]]] = {True: [], False: []}
        self._made = 0

    def allocate(self, size: float) -> Block:
        """Serve a request.

        Raises:
            OutOfMemoryError: The limit is reached even with all free segments given back.
        """
        wanted = rounded_bytes(size)
        small = wanted <= SMALL_BYTES
        pool = self._free[small]
        place = bisect_left(pool, (wanted,))
        block = pool.pop(place)[2] if place < len(pool) else self._lent(wanted, small=small)
        block.free = False
        self._cut(block, wanted)
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def release(self, block: Block) -> None:
        """Take a block back; it stays with the process."""
        self.allocated_bytes -= block.size
        for neighbour in (block.before, block.behind):
            if neighbour is not None and neighbour.free:
                self._take_out(neighbour)
                self._join(block, neighbour)
        block.free = True
        insort(self._free[block.small], (block.size, block.order, block))

    def give_back(self) -> None:
        """Return to the driver what is wholly free."""
        for small, pool in self._free.items():
            kept = [entry for entry in pool if entry[2].before is not None or entry[2].behind is not None]
            self.reserved_bytes -= sum(entry[0] for entry in pool) - sum(entry[0] for entry in kept)
            self._free[small] = kept

    def _lent(self, wanted: int, *, small: bool) -> Block:
        size = segment_bytes(wanted)
        if self.reserved_bytes + size > self.limit_bytes:
            self.give_back()
        if self.reserved_bytes + size > self.limit_bytes:
            raise OutOfMemoryError(f"{wanted} more bytes beside {self.allocated_bytes}")
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        self._made += 1
        return Block(size, self._made, small=small)

    def _cut(self, block: Block, wanted: int) -> None:
        rest = block.size - wanted
        if rest < ROUND_BYTES or (not block.small and rest <= SMALL_BYTES):
            return
        self._made += 1
        left = Block(rest, self._made, small=block.small)
        left.free, left.before, left.behind = True, block, block.behind
        if block.behind is not None:
            block.behind.before = left
        block.behind, block.size = left, wanted
        insort(self._free[block.small], (rest, left.order, left))

    def _take_out(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, block.order))]

    @staticmethod
    def _join(block: Block, neighbour: Block) -> None:
        block.size += neighbour.size
        if neighbour is block.before:
            block.before = neighbour.before
            if block.before is not None:
                block.before.behind = block
        else:
            block.behind = neighbour.behind
            if block.behind is not None:
                block.behind.before = block
