"""The loss of a Lightning module is what its ``training_step`` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from rigwise.graph.capture.faults import author_line
from rigwise.graph.capture.from_torch.loss import tensors_of

Inputs = Callable[[str, Mapping[str, int]], Any]


def is_lightning(module: Any) -> bool:
    """Whether a module is a ``LightningModule`` of either of the two packages that have one."""
    packages = (sys.modules.get(name) for name in ("lightning.pytorch", "pytorch_lightning"))
    return any(package is not None and isinstance(module, package.LightningModule) for package in packages)


def follow_training_step(module: Any, inputs: Inputs, reference: Mapping[str, int], notes: list[str]) -> Inputs:
    """Make a call of the module while it trains one of its ``training_step``, if that runs on the example inputs.

    The inputs are then those of one batch; ``forward`` gets them all, or the first of them if that is what it takes.

    Returns:
        The inputs of the module's call for a task and the size of every symbol.
    """
    forward = type(module).forward.__get__(module)  # its own, whatever was put in its place before
    module.forward = forward
    example = inputs("infer", reference)
    takes_all = _fault(module, forward, example) is None
    first_only = not takes_all and isinstance(example, tuple) and _fault(module, forward, example[:1]) is None

    def step(*arguments: Any, **keywords: Any) -> Any:
        batch = keywords or (arguments[0] if len(arguments) == 1 else arguments)
        module.forward = forward  # training_step calls the module itself
        try:
            return module.training_step(batch, 0)
        finally:
            module.forward = run

    def run(*arguments: Any, **keywords: Any) -> Any:
        return step(*arguments, **keywords) if module.training else forward(*arguments, **keywords)

    fault = _fault(module, step, example)
    module.forward = run if fault is None else forward
    if fault is None:
        notes.append("the loss is that of training_step")
    else:
        notes.append(f"the loss is the mean square of the outputs: training_step {fault}")

    def given(task: str, sizes: Mapping[str, int]) -> Any:
        found = inputs(task, sizes)
        return found[:1] if first_only and (task != "train" or fault is not None) else found

    return given


def _fault(module: Any, call: Callable[..., Any], arguments: Any) -> str | None:
    """Why a call does not work, None if it does."""
    training = module.training
    module.train(call != module.forward)
    try:
        output = call(**arguments) if isinstance(arguments, dict) else call(*arguments)
    except Exception as error:
        place = author_line(error.__traceback__)
        return f"failed{f' at {place}' if place else ''} ({type(error).__name__})"
    finally:
        module.train(training)
    found = output.get("loss") if isinstance(output, dict) else output
    has_loss = isinstance(found, torch.Tensor) and found.requires_grad
    return None if tensors_of([output]) and (has_loss or call == module.forward) else "returned no loss"
