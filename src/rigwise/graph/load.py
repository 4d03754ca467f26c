"""A MODEL word of the command line, as a captured model.

    resnet50                  a zoo name; upper and lower case are the same
    ./net.rwg                 a captured graph
    ./net.onnx                an ONNX file of any producer, with or without its weights
    ./net.pt2                 what torch.export.save wrote
    ./config.json, ./folder   a Hugging Face configuration, or a folder that holds one
    timm:NAME                 a network of the timm library, as timm spells it
    package.module:factory    a callable that returns a module; the only form that runs the user's code

A word that is a zoo name means the zoo, even if a folder has the same name; ``./gpt2`` means
the folder. No form reaches for the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rigwise.edge import parse_json, read_text
from rigwise.errors import InvalidInputError, MissingExtraError, UnknownNameError, UnsupportedError, near_matches
from rigwise.graph.cache import cached_capture, cached_with_sources, capture_key, digest, factory_key
from rigwise.graph.count import work
from rigwise.graph.graph import Model
from rigwise.graph.rwg import MAGIC, from_bytes, read_model

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TORCH_SUFFIXES = (".pt2", ".pt", ".pth", ".ts")
_FILE_SUFFIXES = (".rwg", ".onnx", ".json", ".pb", ".tflite", ".h5", ".keras", *_TORCH_SUFFIXES)

#: What is read through ONNX, and the command that converts it. Source: documentation of tf2onnx 1.16 and Keras 3.8.
_KERAS = "python -c \"import keras; keras.models.load_model('{path}').export('model.onnx', format='onnx')\""
_CONVERSIONS = {
    "saved_model.pb": "python -m tf2onnx.convert --saved-model {path} --output model.onnx",
    ".pb": "python -m tf2onnx.convert --graphdef {path} --inputs NAMES --outputs NAMES --output model.onnx",
    ".tflite": "python -m tf2onnx.convert --tflite {path} --output model.onnx",
    ".h5": _KERAS,
    ".keras": _KERAS,
}
_CONFIG_LIMIT_BYTES = 4 * 2**20


def load_model(spec: str) -> Model:
    """The model that a MODEL word names.

    Raises:
        UnknownNameError: No zoo model has this name; lists near matches.
        InvalidInputError: A file is missing, or is not what its name says.
        UnsupportedError: A form that is not read yet, or an architecture that cannot be captured.
        CaptureError: The model could not be turned into a graph.
        MissingExtraError: Capture needs PyTorch, and it is not installed.
    """
    if spec.lower() in zoo_names():
        return read_zoo(spec.lower())
    if spec.startswith("timm:"):
        return _from_timm(spec.removeprefix("timm:"))
    path = Path(spec)
    if _FACTORY.fullmatch(spec) and not os.path.exists(path):
        return cached_with_sources(factory_key(spec), lambda: _capture_factory(spec))
    if not spec.strip() or not (os.path.exists(path) or _looks_like_path(spec)):
        raise _unknown_name(spec)
    return _from_path(path)


def _looks_like_path(spec: str) -> bool:
    return spec.lower().endswith(_FILE_SUFFIXES) or any(mark in spec for mark in ("/", "\\"))


def _unknown_name(spec: str) -> UnknownNameError:
    close = near_matches(spec.replace("\\", "/").rstrip("/").rpartition("/")[2], zoo_names())
    return UnknownNameError(f"there is no model {spec!r} in the zoo", hint=close or "rigwise models lists them")


# The zoo


def zoo_folder() -> Traversable:
    """Where the files of the zoo lie."""
    return files("rigwise.graph").joinpath("zoo")


@cache
def zoo_names() -> tuple[str, ...]:
    """Names of the models that come captured, sorted."""
    folder = zoo_folder()
    if not folder.is_dir():
        return ()
    return tuple(sorted(f.name.removesuffix(".rwg") for f in folder.iterdir() if f.name.endswith(".rwg")))


def zoo_path(name: str) -> Traversable:
    """The file of a zoo model.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if name not in zoo_names():
        raise _unknown_name(name)
    return zoo_folder().joinpath(f"{name}.rwg")


def read_zoo(name: str) -> Model:
    """A zoo model; same errors as ``zoo_path``."""
    return from_bytes(zoo_path(name).read_bytes(), f"{name}.rwg")


# Files


def _from_path(path: Path) -> Model:
    if os.path.isdir(path):
        if os.path.isfile(path / "saved_model.pb"):
            raise _to_convert(path, "saved_model.pb")
        if not os.path.isfile(path / "config.json"):
            raise InvalidInputError(f"the folder {path} holds no config.json", hint="give a model file or its folder")
        return _from_config(path / "config.json", Path(os.path.abspath(path)).name)
    suffix = path.suffix.lower()
    if suffix == ".rwg":
        return countable(read_model(path), str(path))
    if suffix == ".json":
        return _from_config(path, Path(os.path.abspath(path)).parent.name if path.name == "config.json" else path.stem)
    if not os.path.exists(path):
        raise InvalidInputError(
            f"there is no file {path}", hint=near_matches(path.name, zoo_names()) or "rigwise models lists the zoo"
        )
    if suffix == ".onnx":
        return _from_onnx(path)
    if suffix in _TORCH_SUFFIXES:
        return _from_exported(path)
    if suffix in _CONVERSIONS:
        is_saved = path.name == "saved_model.pb"
        raise _to_convert(path.parent if is_saved else path, path.name if is_saved else suffix)
    raise InvalidInputError(
        f"{path} is no model file that rigwise reads",
        hint="it reads .rwg, .onnx, .pt2, config.json and folders that hold one",
    )


def _to_convert(path: Path, form: str) -> UnsupportedError:
    """A model of TensorFlow or Keras, with the command that makes an ONNX file of it."""
    command = _CONVERSIONS[form].format(path=path)
    return UnsupportedError(f"{path} is read through an ONNX file", hint=f"make one: {command}")


def _from_onnx(path: Path) -> Model:
    """An ONNX file, captured once for each content. It is protobuf that starts with ``ir_version``: the byte 8."""
    try:
        with path.open("rb") as stream:
            head = stream.read(2)
            if len(head) < 2 or head[0] != 8 or not 0 < head[1] < 128:
                raise InvalidInputError(f"{path} ends in .onnx, but is no ONNX file")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    key = capture_key({"onnx": digest(path)}, packages=("onnx",))
    model = cached_capture(key, lambda: _capture_onnx(path))
    return replace(model, name=path.stem, card=replace(model.card, title=path.stem, source=str(path)))


def _capture_onnx(path: Path) -> Model:
    from rigwise.graph.capture.run import capture_onnx

    return capture_onnx(os.fspath(path))


def _from_exported(path: Path) -> Model:
    """A program of ``torch.export``, captured once for each content; its weights do not count."""
    from rigwise.graph.capture.from_torch.torch_file import read_program
    from rigwise.graph.capture.run import capture_exported

    key = capture_key({"exported": read_program(path).digest}, packages=("torch",))
    model = cached_capture(key, lambda: capture_exported(os.fspath(path)))
    return replace(model, name=path.stem, card=replace(model.card, title=path.stem))


def _from_timm(name: str) -> Model:
    """A network of timm, captured once for each set of versions."""
    from rigwise.graph.capture.run import capture_timm

    return cached_capture(capture_key({"timm": name}, packages=("torch", "timm")), lambda: capture_timm(name))


def _capture_factory(spec: str) -> tuple[Model, list[str]]:
    from rigwise.graph.capture.run import capture_factory_with_sources

    return capture_factory_with_sources(spec)


def _from_config(path: Path, name: str) -> Model:
    """A Hugging Face configuration: by its family's template, or else captured."""
    text = read_text(path, limit_bytes=_CONFIG_LIMIT_BYTES)
    if text.startswith(MAGIC):
        raise InvalidInputError(f"{path} ends in .json, but holds a rigwise graph", hint="rename it to .rwg")
    config = parse_json(text, str(path))
    if not isinstance(config, dict):
        raise InvalidInputError(f"{path} is no model configuration: it holds no object with a model_type")
    from rigwise.graph.families.resolve import NotCoveredError, model_of

    try:
        model = model_of(config, os.fspath(path))
    except NotCoveredError as gap:
        model = _capture(path, config, str(gap))
    return replace(model, name=name, card=replace(model.card, title=name, source=str(path)))


def _capture(path: Path, config: Mapping[str, Any], gap: str) -> Model:
    """A configuration that no family's template answers: captured once for each content and set of versions."""
    from rigwise.graph.capture.run import capture_hf

    try:
        return cached_capture(capture_key(config), lambda: capture_hf(config, os.fspath(path)))
    except MissingExtraError as error:
        raise UnsupportedError(f"{path}: {gap}, which only PyTorch can capture", hint=error.hint) from None


def countable(model: Model, where: str) -> Model:
    """The same model, if the cost of each of its operators can be counted.

    A file can be well formed and still hold a matrix product of one operand or a convolution
    with 0 groups. Our own zoo is tested for that; a file of somebody else is walked once.

    Raises:
        InvalidInputError: Names the file and the first operator that cannot be counted.
    """
    for task, graph in model.graphs.items():
        for i, op in enumerate(graph.ops):
            try:
                work(op, graph.symbols)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                raise InvalidInputError(
                    f"{where}: graphs.{task}.ops[{i}] cannot be counted: operands or attributes do not fit {op.name}"
                ) from None
    return model
