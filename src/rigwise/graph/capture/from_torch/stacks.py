"""Stacks of equal layers: traced with a few of them, counted with all.

A 126-layer transformer has 126 times the same layer. It is built whole (its parameters are counted
exactly), then traced with its stacks cut short. Two layers are equal if their modules, parameters and
settings are, apart from their own number. Layers that alternate (local and global attention, say) make
equal groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rigwise.graph.capture.fold import LeftOut

#: Equal groups of layers that a trace keeps; the trace that checks the extension keeps one more.
DEPTH = 3

_LONGEST_GROUP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A module list that ends in equal groups of layers.

    Attributes:
        path: Module path of the list.
        leading: Layers before the equal groups.
        group: Layers of one group.
        groups: How many equal groups there are.
    """

    path: str
    leading: int
    group: int
    groups: int

    def left_out(self, groups: int, traced: int) -> LeftOut:
        """What a trace of ``traced`` groups lacks of ``groups``."""
        return LeftOut(
            path=self.path,
            first=self.leading,
            more=groups - traced,
            last=self.leading + (traced - 1) * self.group,
            group=self.group,
        )


def find_stacks(module: Any) -> list[Stack]:
    """Module lists that are worth cutting short, outermost only."""
    found: list[Stack] = []
    for path, child in module.named_modules():
        if not isinstance(child, torch.nn.ModuleList) or any(path.startswith(f"{s.path}.") for s in found):
            continue
        prints = [_fingerprint(layer) for layer in child]
        group, groups = _equal_tail(prints)
        if groups > DEPTH + 1:
            found.append(Stack(path=path, leading=len(prints) - group * groups, group=group, groups=groups))
    return found


def _equal_tail(prints: Sequence[Any]) -> tuple[int, int]:
    """The shortest group of layers that, repeated, ends the list longest: its size, and how often.

    >>> _equal_tail("xababab"), _equal_tail("xaaa"), _equal_tail("abc")
    ((2, 3), (1, 3), (1, 1))
    """
    best = (1, 1)
    for group in range(1, _LONGEST_GROUP + 1):
        same = 0
        while same + group < len(prints) and prints[-1 - same] == prints[-1 - same - group]:
            same += 1
        groups = same // group + 1
        if group * groups > best[0] * best[1] and groups > 1:
            best = (group, groups)
    return best


@contextmanager
def cut_short(module: Any, stacks: Sequence[Stack], depth: int) -> Iterator[None]:
    """Inside, every stack has only ``depth`` of its equal groups."""
    whole = [(stack, *_parent(module, stack.path)) for stack in stacks]
    lists = [getattr(parent, name) for _, parent, name in whole]
    try:
        for (stack, parent, name), layers in zip(whole, lists, strict=True):
            setattr(parent, name, torch.nn.ModuleList(list(layers)[: stack.leading + depth * stack.group]))
        yield
    finally:
        for (_, parent, name), layers in zip(whole, lists, strict=True):
            setattr(parent, name, layers)


def _parent(module: Any, path: str) -> tuple[Any, str]:
    parent, _, name = path.rpartition(".")
    return module.get_submodule(parent), name


def _fingerprint(layer: Any) -> tuple[Any, ...]:
    parts: list[Any] = []
    for path, child in layer.named_modules():
        tensors = [(n, tuple(t.shape), t.dtype, t.requires_grad) for n, t in child.named_parameters(recurse=False)]
        tensors += [(n, tuple(t.shape), t.dtype, False) for n, t in child.named_buffers(recurse=False)]
        settings = [(k, repr(v)) for k, v in sorted(vars(child).items()) if _is_setting(k, v)]
        parts.append((path, type(child), tuple(tensors), tuple(settings)))
    return tuple(parts)


def _is_setting(name: str, value: Any) -> bool:
    plain = isinstance(value, bool | int | float | str | tuple | list | type(None))
    return plain and not name.startswith("_") and name not in ("layer_idx", "layer_id", "layer_index", "block_idx")
