"""What a factory returned that runs on JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import jax

from rigwise.errors import CaptureError
from rigwise.graph.capture.factory import Factory
from rigwise.graph.capture.from_jax import model as jax_model
from rigwise.graph.capture.from_jax.model import Program
from rigwise.graph.capture.subject import REFERENCE_BATCH
from rigwise.graph.graph import Card, Model


def on_shapes(factory: Factory, **asked: int) -> tuple[Any, Any]:
    """Call the factory with JAX computing shapes alone, so that no weight is made.

    Where its code looks at a value, as ``int(x.sum())`` does, it is called again with values.
    """
    made: list[tuple[Any, Any]] = []

    def call() -> None:
        made.append(factory(**asked))

    try:
        jax.eval_shape(call)
    except CaptureError as error:
        if not jax_model.needs_values(error):
            raise
        return factory(**asked)
    return made[-1]


def captured(factory: Factory, made: Any, example: Any) -> Model:
    """The model of a JAX function or Flax module and its arguments."""
    try:
        return _captured(factory, made, example)
    except CaptureError as error:
        if not jax_model.needs_values(error):
            raise
        return _captured(factory, *factory())


def _captured(factory: Factory, made: Any, example: Any) -> Model:
    card = Card(title=factory.name, source=factory.spec)
    try:
        program = jax_model.program_of(made, example, name=factory.name, card=card)
    except Exception as error:
        from rigwise.graph.capture.faults import as_capture_error

        raise as_capture_error(error, factory.spec) from error

    def again(sizes: Mapping[str, int]) -> Any:
        asked = factory.sizes(sizes)
        return jax_model.program_of(made, on_shapes(factory, **asked)[1], name=factory.name, card=card).arguments({})

    first = jax_model.first_axes(program.arguments({}))
    if factory.accepted or len(first) != 1 or 0 in first:
        return jax_model.capture(_sized(program, factory, again, own_batch=len(first) == 1 and 0 not in first))
    try:
        return jax_model.capture(_sized(program, factory, again, own_batch=True))
    except CaptureError as error:
        if jax_model.needs_values(error):
            raise
        return jax_model.capture(_sized(program, factory, again, own_batch=False))  # as it came, it may well run


def _sized(program: Program, factory: Factory, again: Any, *, own_batch: bool) -> Program:
    """The same program with the sizes free that may vary.

    Args:
        program: With its arguments at one size.
        factory: Which parameters it has.
        again: From the size of every symbol to the arguments that the factory then gives.
        own_batch: Whether the first axis of all arguments is the batch.
    """
    given = program.arguments({})
    reference = dict(factory.accepted.values())
    if own_batch:
        reference.setdefault("b", REFERENCE_BATCH)

    @cache
    def at(*sizes: tuple[str, int]) -> Any:
        return again(dict(sizes))

    def arguments(sizes: Mapping[str, int]) -> Any:
        found = at(*sorted(sizes.items())) if factory.accepted else given
        free = own_batch and "batch" not in factory.accepted
        return jax_model.with_batch(found, sizes["b"]) if free else found

    notes = () if "b" in reference else ("the batch is that of the example inputs",)
    card = replace(program.card, assumed=(*program.card.assumed, *notes))
    return replace(program, arguments=arguments, symbols=dict(sorted(reference.items())), card=card)
