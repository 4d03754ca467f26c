"""A PyTorch module that a factory returned, with example inputs, or a transformers model alone.

Example inputs are a tensor, a tuple of positional or a dictionary of keyword arguments. The loss is the
output's own ``.loss``, that of a Lightning module's ``training_step``, or else the mean square of all that is
returned. Wrappers that only say how a module is run (compiled, replicated, sharded) are taken off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from rigwise.errors import CaptureError
from rigwise.graph.capture.factory import Factory
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.lightning_step import Inputs, follow_training_step, is_lightning
from rigwise.graph.capture.from_torch.loss import own_loss, tensors_of
from rigwise.graph.capture.from_torch.message_passing import graphs_without_self_loops
from rigwise.graph.capture.subject import REFERENCE_BATCH, Subject
from rigwise.graph.graph import Card, Model

#: Classes that run a module they hold on several devices.
_REPLICATED = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")

_HALF = (torch.float16, torch.bfloat16)


def captured(factory: Factory, module: Any, example: Any) -> Model:
    """The model; call it inside ``fake_tensors()``."""
    with graphs_without_self_loops() as notes:
        module = unwrapped(module, notes)
        plain = in_float32_here(module, notes)
        if example is None and is_lightning(module):
            example = module.example_input_array
        if example is None:
            subject = _transformers_model(module, factory.spec, factory.name)
            return _noted(capture(subject), notes)
        example = _arguments(example, factory.spec)
        own_batch = _batch(example) is not None
        try:
            model = capture(_subject(factory, module, example, plain=plain, own_batch=own_batch, notes=notes))
        except CaptureError:
            if factory.accepted or not own_batch:
                raise
            model = capture(_subject(factory, module, example, plain=plain, own_batch=False, notes=notes))
    return _noted(model, notes)


def _noted(model: Model, notes: list[str]) -> Model:
    """The same model, with what had to be assumed before it was captured."""
    return replace(model, card=replace(model.card, assumed=(*dict.fromkeys(notes), *model.card.assumed)))


def _subject(factory: Factory, module: Any, example: Any, *, plain: bool, own_batch: bool, notes: list[str]) -> Subject:
    """The subject that a module and its inputs describe.

    Args:
        factory: Which parameters it has.
        module: Taken out of its wrappers.
        example: Inputs as a tuple or dictionary.
        plain: Whether they have to be given in float32 on the CPU.
        own_batch: Whether the first axis of all inputs is the batch.
        notes: What is assumed is added to it.
    """
    reference = dict(factory.accepted.values())
    if own_batch:
        reference.setdefault("b", REFERENCE_BATCH)

    @cache
    def example_at(**asked: int) -> Any:
        return _arguments(factory(**asked)[1], factory.spec) if asked else example

    def given(_task: str, sizes: Mapping[str, int]) -> Any:
        asked = factory.sizes(sizes)
        made = example_at(**asked)
        made = made if "batch" in asked or not own_batch else _resized(made, sizes["b"])
        return _plain(made) if plain else made

    if "b" not in reference:
        notes.append("the batch is that of the example inputs")
    inputs: Inputs = given
    if is_lightning(module):
        inputs = follow_training_step(module, inputs, reference, notes)
    card = Card(title=factory.name, source=factory.spec)
    symbols = {task: dict(sorted(reference.items())) for task in ("train", "infer")}
    return Subject(name=factory.name, module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=card)


def _arguments(example: Any, spec: str) -> Any:
    """Example inputs as a tuple of positional or a dictionary of keyword arguments."""
    if isinstance(example, torch.Tensor):
        example = (example,)
    if isinstance(example, list):
        example = tuple(example)
    if not isinstance(example, tuple | dict) or not tensors_of(example):
        raise CaptureError(
            f"{spec} returned a {type(example).__name__} as example inputs",
            hint="return a tensor, a tuple of arguments or a dictionary of keyword arguments",
        )
    return example


def _batch(example: Any) -> int | None:
    """The size that the first axis of every input has, None if there is no such size; a number has no axis."""
    firsts = {t.shape[0] for t in tensors_of(example) if t.dim()}
    return firsts.pop() if len(firsts) == 1 and 0 not in firsts else None


def _resized(tree: Any, batch: int) -> Any:
    if isinstance(tree, torch.Tensor):
        return torch.zeros((batch, *tree.shape[1:]), dtype=tree.dtype) if tree.dim() else tree
    return _mapped(tree, lambda value: _resized(value, batch))


def _plain(tree: Any) -> Any:
    """The same inputs in float32 where they are half precise, on the CPU where they are nowhere."""
    if isinstance(tree, torch.Tensor):
        return torch.zeros(tree.shape, dtype=torch.float32 if tree.dtype in _HALF else tree.dtype)
    return _mapped(tree, _plain)


def _mapped(tree: Any, change: Any) -> Any:
    if isinstance(tree, dict):
        return {key: change(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(change, tree))
    return type(tree)(change(value) for value in tree) if isinstance(tree, list | tuple) else tree


# Wrappers and formats.


def unwrapped(module: Any, notes: list[str]) -> Any:
    """The module inside ``torch.compile``, ``DataParallel`` and their like, at any depth."""
    while True:
        kind = type(module).__name__
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif kind in _REPLICATED and isinstance(getattr(module, "module", None), torch.nn.Module):
            notes.append(f"{kind} was taken off: one device runs the whole module")
            module = module.module
        else:
            break
    module._compiled_call_impl = None  # what module.compile() set
    for name, child in list(module.named_children()):
        inner = unwrapped(child, notes)
        if inner is not child:
            setattr(module, name, inner)
    return module


def in_float32_here(module: Any, notes: list[str]) -> bool:
    """Give a module on the meta device, in half precision or with data the form that graphs are captured in.

    Returns:
        Whether the inputs have to follow.
    """
    tensors = [*module.parameters(), *module.buffers()]
    half = any(t.dtype in _HALF for t in tensors)
    meta = any(t.device.type == "meta" for t in tensors)
    if half:
        notes.append("captured in float32: the workload says in which precision it runs")
    mode = torch.empty(0).fake_mode
    data = any(not isinstance(t, FakeTensor) or t.fake_mode is not mode for t in tensors)
    if (half or meta or data) and not isinstance(module, torch.jit.ScriptModule):
        _rebuild(module)
    return half or meta


def _rebuild(module: Any) -> None:
    """New tensors for all; a tensor that two modules share stays one."""
    made: dict[int, Any] = {}

    def like(tensor: Any) -> Any:
        dtype = torch.float32 if tensor.dtype in _HALF else tensor.dtype
        return torch.empty(tensor.shape, dtype=dtype)

    for part in module.modules():
        for table, wrap in ((part._parameters, True), (part._buffers, False)):
            for name, tensor in table.items():
                if tensor is not None:
                    if id(tensor) not in made:
                        new = like(tensor)
                        made[id(tensor)] = torch.nn.Parameter(new, tensor.requires_grad) if wrap else new
                    table[name] = made[id(tensor)]


@contextmanager
def converted_in_place() -> Iterator[None]:
    """Inside, ``module.half()`` and its like work on fake tensors, which PyTorch refuses to swap."""
    kept = torch.nn.Module._apply
    torch.nn.Module._apply = _apply
    try:
        yield
    finally:
        torch.nn.Module._apply = kept


def _apply(module: Any, change: Any, recurse: bool = True) -> Any:
    """``torch.nn.Module._apply`` with new tensors; one that two modules share stays one."""
    made = getattr(change, "__dict__", {}).setdefault("made", {})
    for child in module.children() if recurse else ():
        child._apply(change)
    with torch.no_grad():
        for table in (module._parameters, module._buffers):
            for name, old in table.items():
                if old is not None and id(old) not in made:
                    new = change(old)
                    is_weight = isinstance(old, torch.nn.Parameter)
                    made[id(old)] = old, torch.nn.Parameter(new, old.requires_grad) if is_weight else new
                if old is not None:
                    table[name] = made[id(old)][1]
    return module


def _transformers_model(module: Any, spec: str, name: str) -> Subject:
    """A transformers model tells itself what it takes."""
    if not hasattr(module, "config") or not hasattr(module, "main_input_name"):
        raise CaptureError(
            f"{spec} returned a module without example inputs", hint="return a pair: the module, and inputs for it"
        )
    from rigwise.graph.capture.from_torch.hf_config import use_whole_attention
    from rigwise.graph.capture.from_torch.hf_inputs import with_inputs

    use_whole_attention(type(module), module.config)
    return with_inputs(module, module.config, name=name, where=spec)
