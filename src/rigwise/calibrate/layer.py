"""A layer of a transformer as ``rigwise bench`` times it: several operators, one after the other.

Whole networks hold layers between other things, a vocabulary above all, whose cost says nothing of other networks.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rigwise.bench.limits import operators
from rigwise.calibrate.linearise import Linear, linearise_operators
from rigwise.calibrate.question import Question, question
from rigwise.errors import InvalidInputError
from rigwise.measurement.measurement import Measurement

#: The word of the table; its shape says batch, sequence, width and heads.
LAYER = "op:layer"
SHAPE = "B{batch} S{seq} W{width} A{heads}"
_SIZES = re.compile(r"B(?P<batch>\d{1,9}) S(?P<seq>\d{1,9}) W(?P<width>\d{1,9}) A(?P<heads>\d{1,9})", re.ASCII)


def linearise_layer(m: Measurement) -> tuple[Question, Linear]:
    """The forward pass of a layer, as a step that has no name, and what it depends on.

    Raises:
        InvalidInputError: The shape lacks a size, or the width is not that of whole heads.
        RigwiseError: The device or the number format is not known.

    Source: ``bench.limits.operators`` for the operators; the normalisations between them are left out.
    """
    match = _SIZES.fullmatch(m.shape)
    sizes = {name: int(size) for name, size in match.groupdict().items()} if match else {}
    if not sizes or min(sizes.values()) < 1 or sizes["width"] % sizes["heads"]:
        raise InvalidInputError(f"shape {m.shape[:60]!r} is no layer's", hint="B1 S256 W768 A12")
    first = f"M{sizes['batch'] * sizes['seq']} N{sizes['width']} K{sizes['width']}"
    asked = question(replace(m, model="op:gemm", shape=first))
    number_format = str(asked.op.attrs["format"]) if asked.op else ""
    if number_format not in ("fp32", "fp16", "bf16"):
        raise InvalidInputError(f"a layer in {m.precision[:40]!r} is not asked about")
    ops = operators({"law": "layer", "format": number_format, **sizes})
    linear = linearise_operators(asked, ops)
    case = replace(asked.case, model=f"{m.model} {m.shape}", batch=sizes["batch"])
    return Question(measurement=m, device=asked.device, case=case), linear
