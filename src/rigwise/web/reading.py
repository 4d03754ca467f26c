"""A model file that a stranger uploaded, read in a process with limits: nothing in it is run, imported or unpickled.

.rwg          as everywhere: JSON that is checked value by value
.onnx         in a further process, with less time and memory than for a file of one's own; data of weights is not read
config.json   by the templates of families alone; what they do not cover PyTorch would have to build, which is refused
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigwise.edge import parse_json, read_text
from rigwise.errors import CaptureError, InvalidInputError, MissingExtraError, RigwiseError, UnsupportedError

if TYPE_CHECKING:
    from rigwise.graph.graph import Model

SUFFIXES = (".onnx", ".rwg", ".json")
#: Of a capture of an uploaded ONNX file.
CAPTURE_S, CAPTURE_BYTES = 30.0, 2 * 2**30
_CONFIG_BYTES = 2**20
_ELSEWHERE = "rigwise capture MODEL -o model.rwg on your own machine, and upload that"


def read_upload(path: str, name: str, written: str) -> dict[str, Any]:
    """Read a file, write what was captured beside it, and say what it is: a row of ``rigwise models``.

    Args:
        path: Of the file.
        name: What whoever uploaded it calls it; messages name it so.
        written: Path of the graph to write.

    Raises:
        RigwiseError: The file is no model, or none that is read here.
    """
    from rigwise.graph.listing import row_of
    from rigwise.graph.load import countable
    from rigwise.graph.rwg import write_model

    try:
        model = countable(_read(Path(path), name), name)
    except RigwiseError as error:
        raise _named(error, path, name) from None
    write_model(Path(written), model)
    return {"schema": "rigwise.models/1", "models": [row_of(_called(model, name))]}


def written_model(path: str, name: str) -> Model:
    """An upload that was read before."""
    from rigwise.graph.rwg import read_model

    return _called(read_model(Path(path)), name)


def _called(model: Model, name: str) -> Model:
    stem = Path(name).stem or "model"
    return replace(model, name=stem, card=replace(model.card, title=stem, source="uploaded"))


def _named(error: RigwiseError, path: str, name: str) -> RigwiseError:
    """The same fault, of the file as its owner knows it."""
    file = Path(path)

    def plain(text: str) -> str:
        return text.replace(path, name).replace(file.name, name).replace(file.stem, Path(name).stem)

    if isinstance(error, MissingExtraError):
        return UnsupportedError(f"{name} cannot be read here: {error.message}", hint=_ELSEWHERE)
    if isinstance(error, CaptureError):  # out of time, out of memory, or no rule for its sizes
        return CaptureError(plain(error.message), hint=_ELSEWHERE)
    return type(error)(plain(error.message), hint=plain(error.hint))


def _read(path: Path, name: str) -> Model:
    from rigwise.graph.rwg import read_model

    if path.suffix == ".rwg":
        return read_model(path)
    if path.suffix == ".onnx":
        from rigwise.graph.capture.run import Limits, capture_onnx

        return capture_onnx(os.fspath(path), limits=Limits(time_s=CAPTURE_S, memory_bytes=CAPTURE_BYTES))
    config = parse_json(read_text(path, limit_bytes=_CONFIG_BYTES), name)
    if not isinstance(config, Mapping):
        raise InvalidInputError(f"{name} is no model configuration: it holds no object with a model_type")
    from rigwise.graph.families.resolve import NotCoveredError, model_of

    try:
        return model_of(config, name)
    except NotCoveredError as gap:
        raise UnsupportedError(f"{name}: {gap}, which no template of a family covers", hint=_ELSEWHERE) from None
