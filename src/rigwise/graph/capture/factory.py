"""``package.module:factory``: the one form that runs the user's own code.

The factory is called without arguments, on fake tensors, and returns a module with example inputs, or a
transformers model alone. Example inputs are a tensor, a tuple of positional or a dictionary of keyword
arguments. Which sizes may vary:

- the batch, if the first axis of every input tensor is the same, or the factory has a parameter ``batch``;
- the sequence length and the image side only if the factory has parameters ``seq`` and ``image_size``: it
  is then called again for every size, and its inputs are taken.

The loss is the output's own ``.loss``, or else the mean square of all that is returned.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from rigwise.errors import CaptureError, InvalidInputError
from rigwise.graph.capture.assemble import capture
from rigwise.graph.capture.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.loss import own_loss, tensors_of
from rigwise.graph.capture.subject import REFERENCE_BATCH, Subject
from rigwise.graph.graph import Card, Model

#: Parameters of a factory that make a size free, their symbols and usual sizes.
_PARAMETERS = {"batch": ("b", REFERENCE_BATCH), "seq": ("s", 512), "image_size": ("p", 224)}

Factory = Callable[..., Any]


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``spec`` and ``name``."""
    with fake_tensors():
        found = find_factory(request["spec"])
        return capture(subject(found, spec=request["spec"], name=request["name"]))


def find_factory(spec: str) -> Factory:
    """The callable that ``package.module:factory`` names; the current directory is searched too.

    Raises:
        InvalidInputError: There is no such module or name in it, or it cannot be called.
        CaptureError: Importing the module failed.
    """
    module_name, _, name = spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise as_capture_error(error, f"importing {module_name}") from error
        raise InvalidInputError(
            f"{spec}: there is no Python module {error.name!r}", hint="run it from the folder that holds the module"
        ) from None
    except Exception as error:
        raise as_capture_error(error, f"importing {module_name}") from error
    found = getattr(module, name, None)
    if found is None:
        raise InvalidInputError(f"{spec}: the module {module_name} has no {name!r}")
    if not callable(found):
        raise InvalidInputError(f"{spec} is a {type(found).__name__}, not a function that returns a module")
    return found  # type: ignore[no-any-return]


def subject(factory: Factory, *, spec: str, name: str) -> Subject:
    """The subject that a factory describes; call it inside ``fake_tensors()``.

    Raises:
        CaptureError: The factory fails, or returns something else than a module with inputs.
    """
    module, example = _call(factory, {}, spec)
    if example is None:
        return _transformers_model(module, spec, name)
    accepted = _accepted(factory)
    own_batch = _batch(example)
    reference = dict(accepted.values())
    if own_batch is not None:
        reference.setdefault("b", REFERENCE_BATCH)

    @cache
    def example_at(**asked: int) -> Any:
        return _call(factory, asked, spec)[1] if asked else example

    def inputs(_task: str, sizes: Mapping[str, int]) -> Any:
        asked = {parameter: sizes[symbol] for parameter, (symbol, _) in accepted.items()}
        made = example_at(**asked)
        return made if "batch" in asked or own_batch is None else _resized(made, sizes["b"])

    assumed = () if "b" in reference else ("the batch is that of the example inputs",)
    card = Card(title=name, source=spec, assumed=assumed)
    symbols = {task: dict(sorted(reference.items())) for task in ("train", "infer")}
    return Subject(name=name, module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=card)


def _call(factory: Factory, arguments: Mapping[str, int], spec: str) -> tuple[Any, Any]:
    """The module and its example inputs, None where there are none."""
    try:
        with BuildingModules():
            made = factory(**arguments)
    except Exception as error:
        raise as_capture_error(error, f"{spec}()") from error
    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise CaptureError(
            f"{spec} returned a {type(module).__name__}, not a torch.nn.Module",
            hint="return the module and example inputs for it",
        )
    if isinstance(example, torch.Tensor):
        example = (example,)
    if isinstance(example, list):
        example = tuple(example)
    if example is not None and (not isinstance(example, tuple | dict) or not tensors_of(example)):
        raise CaptureError(
            f"{spec} returned a {type(example).__name__} as example inputs",
            hint="return a tensor, a tuple of arguments or a dictionary of keyword arguments",
        )
    return module, example


def _accepted(factory: Factory) -> dict[str, tuple[str, int]]:
    """The size parameters a factory has, with symbol and reference size: its own default or the usual one."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    found = {}
    for name, (symbol, usual) in _PARAMETERS.items():
        if name in parameters:
            default = parameters[name].default
            found[name] = (symbol, default if isinstance(default, int) and default > 1 else usual)
    return found


def _batch(example: Any) -> int | None:
    """The size that the first axis of every input has, None if there is no such size."""
    firsts = {t.shape[0] if t.dim() else 0 for t in tensors_of(example)}
    return firsts.pop() if len(firsts) == 1 and 0 not in firsts else None


def _resized(tree: Any, batch: int) -> Any:
    if isinstance(tree, torch.Tensor):
        return torch.zeros((batch, *tree.shape[1:]), dtype=tree.dtype)
    if isinstance(tree, dict):
        return {key: _resized(value, batch) for key, value in tree.items()}
    return type(tree)(_resized(value, batch) for value in tree) if isinstance(tree, list | tuple) else tree


def _transformers_model(module: Any, spec: str, name: str) -> Subject:
    """A transformers model tells itself what it takes."""
    if not hasattr(module, "config") or not hasattr(module, "main_input_name"):
        raise CaptureError(
            f"{spec} returned a module without example inputs", hint="return a pair: the module, and inputs for it"
        )
    from rigwise.graph.capture.hf_config import use_whole_attention
    from rigwise.graph.capture.hf_inputs import with_inputs

    use_whole_attention(type(module), module.config)
    return with_inputs(module, module.config, name=name, where=spec)
