"""Where an entry of a jaxpr stands: its module, its phase and how often it runs.

JAX names every entry by the transformations and scopes it came through, outermost first:
``transpose(jvp(Net))/Block_0/Dense_1`` was differentiated in reverse, in a Flax module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

_WRAPPED = re.compile(r"(\w+)\((.*)\)")

#: Wrappers that say what was compiled, not which module it is, and parts that loops and branches add.
_NO_MODULES = frozenset({"jit", "pjit", "checkpoint", "remat", "custom_jvp_call", "custom_vjp_call"})
_NO_SCOPES = frozenset({"rematted_computation", "checkpoint", "remat", "remat2", "while", "scan", "cond", "body"})

_NUMBERED = re.compile(r"(?<=[A-Za-z])_(?=\d+(?:\.|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the entries of one jaxpr have in common.

    Attributes:
        parts: Names of the modules so far, outermost first.
        backward: Differentiated in reverse.
        recomputed: Run again in the backward phase, to save memory.
        repeat: Turns of the loops around it.
    """

    parts: tuple[str, ...] = ()
    backward: bool = False
    recomputed: bool = False
    repeat: int = 1

    @property
    def module(self) -> str:
        """The module path, numbers standing alone as in PyTorch."""
        return numbered(".".join(self.parts))

    def inside(self, entry: Any, root: str) -> Scope:
        """The scope of an entry; the name of the outermost module is no part of a path."""
        text = str(entry.source_info.name_stack)
        if not text:
            return self
        names = tuple(name for part in _split(text) for name in _modules(part) if name != root)
        return replace(
            self,
            parts=names if names[: len(self.parts)] == self.parts else self.parts + names,
            backward=self.backward or text.startswith("transpose("),
            recomputed=self.recomputed or "rematted_computation" in text,
        )

    def repeated(self, turns: int) -> Scope:
        """The scope of a loop's body."""
        return replace(self, repeat=self.repeat * turns)


def numbered(path: str) -> str:
    """A path in which numbers are parts of their own, as layers of PyTorch have them.

    >>> numbered("encoder.Block_11.Dense_0.kernel"), numbered("fc1.kernel")
    ('encoder.Block.11.Dense.0.kernel', 'fc1.kernel')
    """
    return _NUMBERED.sub(".", path)


def _split(text: str) -> Iterator[str]:
    """The parts of a name stack; slashes inside brackets belong to a part."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "/" and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _modules(part: str) -> list[str]:
    """Names of the modules in one part, without the transformations around them."""
    wrapped = _WRAPPED.fullmatch(part)
    if wrapped:
        outer, inner = wrapped.groups()
        return [] if outer in _NO_MODULES or not inner else [n for p in _split(inner) for n in _modules(p)]
    return [] if not part or part in _NO_SCOPES or part.startswith("branch_") else [part.replace(".", "_")]
