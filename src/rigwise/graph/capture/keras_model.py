"""A Keras 3 model, through the backend that it runs on: PyTorch or JAX.

Inputs are the example inputs, or those the model itself declares. There, an axis of no given size is the batch
if it is the first, the sequence length if it is the second of two or three, a side of an image among four.
Keras makes its weights when it builds a model, so they are made, and then only their shapes are used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rigwise.errors import CaptureError
from rigwise.graph.capture.factory import Factory, with_data
from rigwise.graph.capture.from_jax.names import numbered
from rigwise.graph.capture.subject import REFERENCE_BATCH
from rigwise.graph.graph import Card, Model

_USUAL = {"b": REFERENCE_BATCH, "s": 512, "p": 224}


def captured(factory: Factory, model: Any, example: Any) -> Model:
    """The model.

    Raises:
        CaptureError: It runs on TensorFlow, or does not say what it is called with.
    """
    backend = sys.modules["keras"].backend.backend()
    if backend not in ("torch", "jax"):
        raise CaptureError(
            f"{factory.spec}: Keras runs on {backend} here, which is not captured",
            hint="set KERAS_BACKEND=torch or KERAS_BACKEND=jax and ask again",
        )
    inputs = _Inputs(factory, model, example)
    return _on_torch(factory, model, inputs) if backend == "torch" else _on_jax(factory, model, inputs)


class _Inputs:
    """What the model is called with: shapes whose axes are numbers or symbols."""

    def __init__(self, factory: Factory, model: Any, example: Any) -> None:
        self.factory = factory
        if example is None:
            self.shapes = _declared(model, factory.spec)
        else:
            self.shapes = _shapes_of(example, factory.spec)
            if not model.built:
                _build(model, self.at({}), factory.spec)
        self.symbols = {axis: _USUAL[axis] for shape, _ in self.shapes for axis in shape if isinstance(axis, str)}
        self.symbols |= dict(factory.accepted.values())
        first = {shape[0] for shape, _ in self.shapes if shape}
        self.resized = "b" not in self.symbols and len(first) == 1
        if self.resized:
            self.symbols["b"] = REFERENCE_BATCH
        self.symbols = dict(sorted(self.symbols.items()))

    def at(self, sizes: Mapping[str, int]) -> list[tuple[tuple[int, ...], str]]:
        """Shape and format of every input at the given size of every symbol."""
        shapes = self.shapes
        if self.factory.accepted and sizes:
            with with_data():
                shapes = _shapes_of(self.factory(**self.factory.sizes(sizes))[1], self.factory.spec)
        found = [(tuple(sizes[n] if isinstance(n, str) else n for n in shape), dtype) for shape, dtype in shapes]
        resized = sizes and self.resized
        return [((sizes["b"], *shape[1:]) if resized and shape else shape, dtype) for shape, dtype in found]


def _declared(model: Any, spec: str) -> list[tuple[tuple[Any, ...], str]]:
    """The inputs that a functional or sequential model declares."""
    try:
        inputs = list(model.inputs or ())
    except (AttributeError, TypeError, ValueError):
        inputs = []
    if not inputs:
        raise CaptureError(f"{spec} returned a Keras model without inputs", hint="return the model and example inputs")
    found = []
    for tensor in inputs:
        rest = "p" if len(tensor.shape) == 4 else "s"
        shape = tuple(
            "b" if not at and n is None else rest if n is None else int(n) for at, n in enumerate(tensor.shape)
        )
        if len(shape) > 4 and "s" in shape:
            raise CaptureError(f"{spec}: an input has axes of no given size", hint="return example inputs too")
        found.append((shape, str(tensor.dtype)))
    return found


def _shapes_of(example: Any, spec: str) -> list[tuple[tuple[Any, ...], str]]:
    """Shapes and formats of example inputs, which are NumPy arrays or tensors of the backend."""
    leaves = list(example) if isinstance(example, tuple | list) else [example]
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise CaptureError(
            f"{spec} returned a {type(example).__name__} as example inputs",
            hint="return an array, or a tuple of the arrays that the model is called with",
        )
    return [(tuple(int(n) for n in leaf.shape), str(leaf.dtype).removeprefix("torch.")) for leaf in leaves]


def _build(model: Any, shapes: list[tuple[tuple[int, ...], str]], spec: str) -> None:
    """Call the model once on zeros, so that it makes its layers."""
    import numpy as np

    from rigwise.graph.capture.faults import as_capture_error

    try:
        with with_data():
            model(*(np.zeros(shape, dtype) for shape, dtype in shapes))
    except Exception as error:
        raise as_capture_error(error, f"building what {spec} returned") from error


def _weights(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """Path, variable and whether it is a weight (not running statistics or the state of random numbers)."""
    own = {id(v) for v in model.weights}
    for variable in model.variables:
        path = variable.path.removeprefix(f"{model.name}/").replace("/", ".")
        yield numbered(path), variable, id(variable) in own and not variable.name.startswith("moving_")


def _card(factory: Factory) -> Card:
    return Card(title=factory.name, source=factory.spec)


def _on_jax(factory: Factory, model: Any, inputs: _Inputs) -> Model:
    """Through ``stateless_call``: weights that are trained are parameters, all others are state."""
    import jax

    from rigwise.graph.capture.from_jax.model import Program, capture

    def shapes(variables: Any) -> list[Any]:
        return [jax.ShapeDtypeStruct(tuple(v.shape), v.dtype) for v in variables]

    paths = {id(v): path for path, v, _ in _weights(model)}
    names = [paths.get(id(v), v.path) for v in model.trainable_variables]
    if len(set(names)) < len(names):
        names = [f"{name}.{at}" for at, name in enumerate(names)]

    def forward(weights: Any, state: Any, given: Any, training: bool) -> tuple[Any, Any]:
        trained = [weights[name] for name in names]
        output, after = model.stateless_call(trained, state, *given, training=training)
        return output, after if training else None

    return capture(
        Program(
            name=factory.name,
            root=model.name,
            parameters=dict(zip(names, shapes(model.trainable_variables), strict=True)),
            state=shapes(model.non_trainable_variables),
            forward=forward,
            arguments=lambda sizes: tuple(jax.ShapeDtypeStruct(*given) for given in inputs.at(sizes)),
            symbols=inputs.symbols,
            card=_card(factory),
        )
    )


def _on_torch(factory: Factory, model: Any, inputs: _Inputs) -> Model:
    """As a PyTorch module whose parameters are the model's variables, on fake tensors."""
    import torch

    from rigwise.graph.capture.from_torch.assemble import capture
    from rigwise.graph.capture.from_torch.keras_torch import KerasModule
    from rigwise.graph.capture.from_torch.loss import own_loss
    from rigwise.graph.capture.subject import Subject

    def given(_task: str, sizes: Mapping[str, int]) -> Any:
        return tuple(torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in inputs.at(sizes))

    return capture(
        Subject(
            name=factory.name,
            module=KerasModule(model, list(_weights(model))),
            inputs=given,
            loss=own_loss,
            symbols={task: inputs.symbols for task in ("train", "infer")},
            card=_card(factory),
        )
    )
