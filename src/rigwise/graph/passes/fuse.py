"""Fuse streaming operators the way a compiler does: one kernel for a chain or a bush of them.

Operators that only stream (elementwise, normalisation, softmax, reductions, copies) join the
kernel of their producer when nothing that cannot be fused lies between. What the members
pass to each other never reaches memory; what others read, or the backward pass keeps, does.
Matrix operators keep their library kernels.

The rule "nothing between" is kept by depth: the number of unfusable operators on the longest
way from the inputs. Two operators may share a kernel only at equal depth. A kernel that only one
other reads may wait for it, however deep that one stands: the normalised shortcut of a residual
block joins the addition at its end.

What stands at the head of a repeated block and waits for nothing but the end of the repetition before, as the first
normalisation of a transformer's block does, runs in the kernel at that end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rigwise.graph.op import Kind, Op, Tensor

FUSABLE = frozenset({Kind.ELEMENTWISE, Kind.NORM, Kind.SOFTMAX, Kind.REDUCE, Kind.COPY, Kind.EMBEDDING, Kind.INDEX})
_HEAVIEST_FIRST = (Kind.SOFTMAX, Kind.NORM, Kind.REDUCE, Kind.INDEX, Kind.EMBEDDING, Kind.ELEMENTWISE, Kind.COPY)


def fuse(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The graph after fusion; fused kernels are called ``rigwise.fused``."""
    groups = _group(ops)
    heads = _run_before(ops, groups)
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = sorted(members, key=lambda g: members[g][-1])
    place = {g: i for i, g in enumerate(order)}
    new_index = [place[g] for g in groups]
    readers = _readers(ops, groups, heads)
    return tuple(_merged(ops, members[g], new_index, readers, heads) for g in order)


def _group(ops: Sequence[Op]) -> list[int]:
    """Kernel number of each operator."""
    groups: list[int] = []
    depth: list[int] = []
    members: dict[int, list[int]] = {}
    readers = _op_readers(ops)
    for index, op in enumerate(ops):
        sources = [t.producer for t in op.inputs if t.producer is not None and t.producer < index]
        fusable = op.kind in FUSABLE
        here = max((depth[p] + (ops[p].kind not in FUSABLE) for p in sources), default=0)
        depth.append(here)
        host = next((p for p in reversed(sources) if fusable and _may_join(ops[p], op) and depth[p] == here), None)
        own = index if host is None else groups[host]
        groups.append(own)
        members.setdefault(own, []).append(index)
        for source in sources if fusable else ():
            other = groups[source]
            if other != own and _may_join(ops[source], op) and _only_readers(members[other], readers, members[own]):
                moved = members.pop(other)
                members[own] = sorted(members[own] + moved)
                for member in moved:
                    groups[member], depth[member] = own, here
    return groups


def _run_before(ops: Sequence[Op], groups: list[int]) -> frozenset[int]:
    """Operators at the head of a repeated block that run with its end, one repetition before; joins their kernels."""
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    heads: set[int] = set()
    for own, inside in members.items():
        ends = {groups[p] for index in inside for p in _sources(ops, index) if p >= index} - {own}
        waits = any(
            p < index and groups[p] != own and ops[p].repeat == ops[index].repeat
            for index in inside
            for p in _sources(ops, index)
        )
        if len(ends) == 1 and not waits and all(ops[index].kind in FUSABLE for index in inside):
            (end,) = ends
            last = members[end][-1]
            if last > inside[-1] and last not in heads and _may_join(ops[last], ops[inside[0]]):
                heads.update(inside)
                for index in inside:
                    groups[index] = end
    return frozenset(heads)


def _sources(ops: Sequence[Op], index: int) -> list[int]:
    """Operators that one reads, those of the repetition before as well."""
    return [t.producer for t in ops[index].inputs if t.producer is not None]


def _op_readers(ops: Sequence[Op]) -> list[set[int]]:
    """Operators that read each operator's result."""
    readers: list[set[int]] = [set() for _ in ops]
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            if tensor.producer is not None:
                readers[tensor.producer].add(index)
    return readers


def _only_readers(members: Sequence[int], readers: Sequence[set[int]], others: Sequence[int]) -> bool:
    """Whether nobody but those of another kernel reads what a kernel writes."""
    inside, allowed = set(members), set(others)
    return all(r in allowed or (r in inside and r > member) for member in members for r in readers[member])


def _may_join(producer: Op, op: Op) -> bool:
    return producer.kind in FUSABLE and producer.phase is op.phase and producer.repeat == op.repeat


def _sums_pixels(op: Op) -> bool:
    """Whether an operator makes one number of each channel of an image."""
    shape = op.inputs[0].shape if op.kind is Kind.REDUCE and op.inputs else ()
    made = (shape[:2], (*shape[:2], 1, 1))
    return len(shape) == 4 and shape[1] != 1 and shape[2:] != (1, 1) and op.outputs[0].shape in made


def _readers(ops: Sequence[Op], groups: Sequence[int], heads: frozenset[int]) -> list[set[int]]:
    """Kernels that read each operator's result."""
    readers: list[set[int]] = [set() for _ in ops]
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            if tensor.producer is not None:
                backwards = tensor.producer >= index  # the previous repetition of the block
                together = groups[tensor.producer] == groups[index]
                late = backwards and not (together and _is_passed_on(tensor.producer, index, heads))
                readers[tensor.producer].add(-1 if late else groups[index])
    return readers


def _is_passed_on(producer: int, index: int, heads: frozenset[int]) -> bool:
    """Whether what one operator of a kernel makes is there for another of it in the same run."""
    return index in heads if (producer in heads) != (index in heads) else producer < index


def _merged(
    ops: Sequence[Op],
    members: Sequence[int],
    new_index: Sequence[int],
    readers: Sequence[set[int]],
    heads: frozenset[int],
) -> Op:
    """One operator for a kernel: external reads once each, results that leave it."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor if tensor.producer is None else replace(tensor, producer=new_index[tensor.producer])

    inside = set(members)
    if len(members) == 1:
        op = ops[members[0]]
        return replace(op, inputs=tuple(moved(t) for t in op.inputs))
    reads: dict[object, Tensor] = {}
    writes: list[Tensor] = []
    own = new_index[members[0]]
    for index in members:
        for slot, tensor in enumerate(ops[index].inputs):
            if tensor.producer in inside and _is_passed_on(tensor.producer, index, heads):
                continue
            shared = tensor.producer is not None
            reads.setdefault((tensor.producer, tensor.shape) if shared else (index, slot), moved(tensor))
        leaves = not readers[index] or any(new_index[r] != own if r >= 0 else True for r in readers[index])
        writes.extend(t for t in ops[index].outputs if leaves or t.saved)
    last = ops[members[-1]]
    kinds = {ops[i].kind for i in members}
    kind = next(k for k in _HEAVIEST_FIRST if k in kinds)
    sums_pixels = kind is Kind.NORM and any(_sums_pixels(ops[i]) for i in members)
    return Op(
        name="rigwise.fused",
        kind=kind,
        phase=last.phase,
        inputs=tuple(reads.values()),
        outputs=tuple(writes),
        attrs={"members": len(members)} | ({"sums_pixels": True} if sums_pixels else {}),
        module=last.module,
        repeat=last.repeat,
    )
