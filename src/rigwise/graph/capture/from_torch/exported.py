"""A program that ``torch.export.save`` wrote, run again operator by operator on fake tensors.

PyTorch's own loader looks functions up by any name the file gives, evaluates its size expressions and loads
compiled code; here the JSON is read as data, and only PyTorch's own operators are called. Weights are not
read: their shapes stand in the program.

Free sizes keep no name in the file, so they are told by where they stand: the first axis of an input is the
batch, both sides of a picture are the image side, the second axis is the sequence length. What is left is
fixed at the size it was exported with.

Source: ``torch/_export/serde/schema.py`` of PyTorch 2.13 for the names of what is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rigwise.errors import CaptureError, InvalidInputError, RigwiseError
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.exported_run import Program
from rigwise.graph.capture.from_torch.exported_values import TensorMeta
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.from_torch.torch_file import read_program
from rigwise.graph.capture.subject import REFERENCE_BATCH, SAMPLES, Subject
from rigwise.graph.graph import Card, Model

_WORDS = {"b": "the batch", "s": "the sequence length", "p": "the image side"}
_REFERENCE_TOKENS = 512

#: A size of an input as the file writes it: a symbol, or a whole multiple of one.
_SYMBOL = r"(?:Symbol\('(\w+)'[^()]*\)|([a-z]+\d+))"
_EXPRESSION = re.compile(rf"(?:(?:Mul\(Integer\((\d+)\), |(\d+)\*))?{_SYMBOL}\)?")


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``where``, the file, and ``name``."""
    with fake_tensors():
        return capture(subject(Path(request["where"]), name=request["name"]))


def subject(path: Path, *, name: str) -> Subject:
    """The subject that a file of ``torch.export`` describes; call it inside ``fake_tensors()``.

    Raises:
        InvalidInputError: The file is no exported program, or contradicts itself.
        UnsupportedError: PyTorch wrote it, but it is no exported program.
        CaptureError: The program takes no tensors, or holds operators that PyTorch alone does not have.
    """
    where = str(path)
    described, weights = read_program(path).parsed(where)
    try:
        program = Program(described, weights, where)
        free = _free_sizes(program, described.get("range_constraints") or {})
    except RigwiseError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{where} does not hold what torch.export writes: {type(error).__name__} {str(error)[:200]}"
        ) from error
    if not program.inputs:
        raise CaptureError(f"{where}: the program takes no tensor")
    symbols = {symbol: size.reference for symbol, size in sorted(free.sizes.items())}

    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Any, ...]:
        return tuple(torch.zeros(free.shape(meta, sizes), dtype=meta.dtype) for _, meta in program.inputs)

    version = str(described.get("torch_version") or "")[:40]
    card = Card(
        title=name,
        source=f"{path.name}, exported by PyTorch {version}" if version.isprintable() and version else path.name,
        reference_batch=symbols.get("b") or next((meta.hints[0] for _, meta in program.inputs if meta.hints), 1),
        assumed=(*free.notes, *program.notes),
    )
    return Subject(
        name=name,
        module=program.module,
        inputs=inputs,
        loss=own_loss,
        symbols={task: symbols for task in ("train", "infer")},
        samples={symbol: size.samples for symbol, size in free.sizes.items() if size.samples != SAMPLES[symbol]},
        card=card,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free:
    """A size that may vary: its usual value, and values to trace at."""

    reference: int
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """What is free, by our symbols; which of the file's symbols that is; the values of those that are not."""

    sizes: Mapping[str, _Free]
    ours: Mapping[str, str]
    fixed: Mapping[str, int]
    notes: tuple[str, ...]

    def shape(self, meta: TensorMeta, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of an input at the given sizes."""
        return tuple(self._size(size, sizes) for size in meta.sizes)

    def _size(self, size: int | str, sizes: Mapping[str, int]) -> int:
        if isinstance(size, int):
            return size
        factor, symbol = expression(size)
        return factor * (sizes[self.ours[symbol]] if symbol in self.ours else self.fixed[symbol])


def expression(text: str) -> tuple[int, str]:
    """Factor and symbol of a free size; the text itself as a symbol where it is neither.

    >>> expression("Mul(Integer(8), Symbol('s77', positive=True, integer=True))"), expression("s0")
    ((8, 's77'), (1, 's0'))
    """
    found = _EXPRESSION.fullmatch(text)
    if not found:
        return 1, text
    return int(found[1] or found[2] or 1), found[3] or found[4]


def _free_sizes(program: Program, limits: Mapping[str, Any]) -> _Sizes:
    """Which sizes of the inputs vary, and what they are."""
    ours: dict[str, str] = {}
    fixed: dict[str, int] = {}
    sizes: dict[str, _Free] = {}
    notes: list[str] = []
    for name, symbol, usual, hint in _places(program):
        if symbol in ours or symbol in fixed:
            continue
        low, high = _range(limits.get(symbol))
        reference = min(max({"b": REFERENCE_BATCH, "s": _REFERENCE_TOKENS}.get(usual, hint), low), high)
        samples = tuple(n for n in SAMPLES[usual] if low <= n <= high and n != reference) if usual else ()
        if len(samples) < 3 or not usual:
            fixed[symbol] = hint
            notes.append(f"{_WORDS.get(usual, 'a size')} of {name} fixed at {hint}, as exported")
            continue
        ours[symbol] = usual
        sizes.setdefault(usual, _Free(reference=reference, samples=samples))
    if "b" not in sizes:
        notes.append("the batch is that of the export")
    return _Sizes(sizes=sizes, ours=ours, fixed=fixed, notes=tuple(dict.fromkeys(notes)))


def _places(program: Program) -> Iterator[tuple[str, str, str, int]]:
    """Input, the file's symbol, ours if it has one, and the size exported with; first axes first."""
    found = []
    for name, meta in program.inputs:
        for axis, size in enumerate(meta.sizes):
            if isinstance(size, str):
                factor, symbol = expression(size)
                usual = _usual(axis, meta) if symbol != size or size.isalnum() else ""
                found.append((axis, name, symbol, usual, meta.hints[axis] // factor))
    for _, name, symbol, usual, hint in sorted(found, key=lambda place: place[0]):
        yield name, symbol, usual, hint


def _usual(axis: int, meta: TensorMeta) -> str:
    """Our symbol for a free axis."""
    if axis == 0:
        return "b"
    if len(meta.sizes) == 4 and meta.dtype.is_floating_point:
        return "p" if axis > 1 else ""
    return "s" if axis == 1 else ""


def _range(limits: Any) -> tuple[int, int]:
    limits = limits or {}
    low, high = limits.get("min_val"), limits.get("max_val")
    return (low if isinstance(low, int) else 2), (high if isinstance(high, int) else 2**31)
