"""Replace operators of a graph while the links between them stay right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rigwise.graph.op import Op, Tensor


def local(position: int) -> int:
    """Producer index that means "operator ``position`` of this same replacement"."""
    return -1 - position


def rewrite(ops: Sequence[Op], expand: Callable[[int, Op], Sequence[Op]]) -> tuple[Op, ...]:
    """Put ``expand(index, op)`` in the place of every operator.

    Producers of the new operators are old indices, or ``local(j)`` for the j-th operator of
    the same replacement. Readers of a replaced operator read its last replacement; an
    operator replaced by nothing hands its readers on to its own first producer.
    """
    replacements = [tuple(expand(index, op)) for index, op in enumerate(ops)]
    starts, position = [], 0
    for group in replacements:
        starts.append(position)
        position += len(group)

    def final(index: int, depth: int = 0) -> int | None:
        """Where the result of the old operator ``index`` is made now."""
        if replacements[index]:
            return starts[index] + len(replacements[index]) - 1
        sources = [t.producer for t in ops[index].inputs if t.producer is not None]
        return final(sources[0], depth + 1) if sources and depth < len(ops) else None

    def relink(tensor: Tensor, start: int) -> Tensor:
        if tensor.producer is None:
            return tensor
        producer = start - 1 - tensor.producer if tensor.producer < 0 else final(tensor.producer)
        return tensor if producer == tensor.producer else replace(tensor, producer=producer)

    def relinked(group: Iterable[Op], start: int) -> Iterable[Op]:
        for place, op in enumerate(group, start):
            inputs = tuple(relink(t, start) for t in op.inputs)
            outputs = tuple(t if t.producer == place else replace(t, producer=place) for t in op.outputs)
            yield replace(op, inputs=inputs, outputs=outputs)

    return tuple(op for group, start in zip(replacements, starts, strict=True) for op in relinked(group, start))
