"""One pass of a module on fake tensors, written down operator by operator.

Fake tensors have a shape and a type but no data, so a 405-billion-parameter model is traced on a
laptop. What PyTorch dispatches is what a device would be asked to do: forward, then the backward pass
that autograd built. The trace is a ``Graph`` whose sizes are whole numbers; ``symbolic.py`` aligns
several of them into one with symbols.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rigwise.graph.capture.from_torch.canonical import FREE, LOGICAL, Call, canonical
from rigwise.graph.capture.from_torch.loss import tensors_of
from rigwise.graph.capture.from_torch.whole import WholeOperators
from rigwise.graph.capture.subject import Subject
from rigwise.graph.graph import Graph
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Op, Phase, Role, Tensor

#: More than this is an unrolled loop, not a model that a person would want listed.
MAX_OPS = 60_000


def trace(subject: Subject, task: str, sizes: Mapping[str, int], limit: int = 0) -> Graph:
    """The operators of one task at the given sizes, unfolded.

    Raises:
        TooManyOpsError: There are more than ``limit``, or than ``MAX_OPS`` where that is 0.

    Source: docs of ``torch.utils._python_dispatch`` and ``torch.autograd.graph.saved_tensors_hooks``, 2.13.
    """
    training = task == "train"
    module = subject.module
    module.train(training)
    module.zero_grad(set_to_none=True)
    arguments = subject.inputs(task, sizes)
    recorder = Recorder(module, arguments, limit or MAX_OPS)
    keywords = isinstance(arguments, Mapping)
    for value in arguments.values() if keywords else arguments:
        if hasattr(value, "declare_with"):
            value.declare_with(recorder.mark_cache)
    with torch.set_grad_enabled(training), recorder, WholeOperators(), recorder.module_paths(module):
        with torch.autograd.graph.saved_tensors_hooks(recorder.keep, lambda t: t):
            output = module(**arguments) if keywords else module(*arguments)
            loss = subject.loss(output, arguments) if training else None
        if loss is not None:
            recorder.phase = Phase.BACKWARD
            loss.backward()
    for parameter in module.parameters():
        if parameter.grad is not None:
            recorder.gradient(parameter.grad)
            parameter.grad = None
    return Graph(ops=recorder.finish(), symbols=dict(sizes))


class Recorder(TorchDispatchMode):
    """Listens to every operator and follows data from operator to operator by its storage."""

    def __init__(self, module: Any, arguments: Any, limit: int = MAX_OPS) -> None:
        super().__init__()
        self._limit = limit
        self.phase = Phase.FORWARD
        self._ops: list[Op] = []
        self._saved: set[tuple[int, int]] = set()
        self._gradients: set[tuple[int, int]] = set()
        self._storages: dict[int, Any] = {}  # kept alive, so that no address is used twice
        self._role: dict[int, Role] = {}
        self._writer: dict[int, tuple[int, int]] = {}  # storage -> (operator, output)
        self._path: list[str] = [""]
        self._path_from: list[tuple[int, str]] = [(0, "")]
        for role, tensors in ((Role.PARAMETER, module.parameters()), (Role.BUFFER, module.buffers())):
            for tensor in tensors:
                self._mark(tensor, role)
        for leaf in tensors_of(arguments):
            self._mark(leaf, Role.INPUT)

    def mark_cache(self, tensor: torch.Tensor) -> None:
        """Declare a tensor to be keys or values of earlier tokens."""
        self._mark(tensor, Role.CACHE)

    def _mark(self, tensor: torch.Tensor, role: Role) -> None:
        self._role.setdefault(self._storage(tensor), role)

    def _storage(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        address = int(storage._cdata)
        self._storages.setdefault(address, storage)
        return address

    # What PyTorch calls back.

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, so no operator needs a guard against it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and write it down."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = _name(func)
        if name not in FREE:
            self._record(func, name, args, kwargs, result)
        return result

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Called with every tensor that autograd keeps for the backward pass."""
        writer = self._writer.get(self._storage(tensor))
        if writer is not None:
            self._saved.add(writer)
        return tensor

    def gradient(self, tensor: torch.Tensor) -> None:
        """Declare a tensor to be the gradient of a parameter."""
        writer = self._writer.get(self._storage(tensor))
        if writer is not None:
            self._gradients.add(writer)

    # Writing down.

    def _record(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        arguments = _named(func, args, kwargs)
        inputs = tensors_of(list(arguments.values()))
        outputs = _results(result)
        written = _written(func, arguments)
        real = [t for t in outputs if t is not None]
        if not written:
            read = {self._storage(t) for t in inputs}
            if not real or all(self._storage(t) in read for t in real):
                return  # a view, or nothing but a number came back
        known = {self._storage(t) for t in real}
        outputs = [*outputs, *(t for t in written if self._storage(t) not in known)]
        for call in canonical(name, arguments, inputs, outputs):
            self._append(call)

    def _append(self, call: Call) -> None:
        index = len(self._ops)
        if index >= self._limit:
            raise TooManyOpsError(f"over {self._limit:,} operators")
        logical = call.name in LOGICAL
        inputs = tuple(self._tensor(t, logical=logical, output=False) for t in call.inputs)
        for position, tensor in enumerate(call.outputs):
            self._writer[self._storage(tensor)] = (index, position)
        outputs = tuple(self._tensor(t, logical=logical, output=True) for t in call.outputs)
        self._ops.append(
            Op(
                name=call.name,
                kind=kind_of(call.name),
                phase=self.phase,
                inputs=inputs,
                outputs=outputs,
                attrs=call.attrs,
                module=self._module(),
            )
        )

    def _tensor(self, tensor: torch.Tensor, *, logical: bool, output: bool) -> Tensor:
        storage = self._storage(tensor)
        role = self._role.get(storage, Role.ACTIVATION)
        producer = None
        if role is Role.ACTIVATION and storage in self._writer:
            producer = self._writer[storage][0]
        shape = tuple(tensor.shape)
        if not logical and not output:
            shape = tuple(1 if step == 0 else n for n, step in zip(shape, tensor.stride(), strict=True))
        return Tensor(shape, _dtype(tensor), role, producer)

    def finish(self) -> tuple[Op, ...]:
        """The operators, with what was saved and what is a gradient marked."""
        ops = list(self._ops)
        for index in {i for i, _ in self._saved | self._gradients}:
            op = ops[index]
            outputs = tuple(self._final(t, (index, position)) for position, t in enumerate(op.outputs))
            ops[index] = replace(op, outputs=outputs)
        return tuple(ops)

    def _final(self, tensor: Tensor, place: tuple[int, int]) -> Tensor:
        role = Role.GRADIENT if place in self._gradients and tensor.role is Role.ACTIVATION else tensor.role
        saved = place in self._saved and tensor.role is Role.ACTIVATION
        return Tensor(tensor.shape, tensor.dtype, role, tensor.producer, saved)

    # Which module an operator belongs to.

    @contextmanager
    def module_paths(self, module: Any) -> Iterator[None]:
        """Follow the path of the running module; its backward operators get the same path."""
        names = {id(m): name for name, m in module.named_modules()}
        hooks = torch.nn.modules.module
        before = hooks.register_module_forward_pre_hook(lambda m, _: self._enter(names.get(id(m))))
        after = hooks.register_module_forward_hook(lambda m, _, __: self._leave(), always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, name: str | None) -> None:
        self._path.append(self._path[-1] if name is None else name)
        self._path_from.append((torch._C._autograd._get_sequence_nr(), self._path[-1]))

    def _leave(self) -> None:
        self._path.pop()
        self._path_from.append((torch._C._autograd._get_sequence_nr(), self._path[-1]))

    def _module(self) -> str:
        if self.phase is Phase.FORWARD:
            return self._path[-1]
        node = torch._C._current_autograd_node()
        number = node._sequence_nr() if node is not None else 2**63
        if number >= 2**63:  # gradient accumulation has no forward twin
            return self._ops[-1].module if self._ops else ""
        place = bisect.bisect_right(self._path_from, number, key=lambda entry: entry[0])
        return self._path_from[place - 1][1]


class TooManyOpsError(Exception):
    """The trace passed its limit."""


_NAMES: dict[Any, str] = {}


def _name(func: Any) -> str:
    """The operator's name without overload: ``aten.addmm``."""
    if func not in _NAMES:
        _NAMES[func] = func._schema.name.replace("::", ".")
    return _NAMES[func]


def _named(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments by the name they have in the operator's schema."""
    schema = func._schema.arguments
    named = {argument.name: value for argument, value in zip(schema, args, strict=False)}
    for argument in schema[len(args) :]:
        if argument.name in kwargs:
            named[argument.name] = kwargs[argument.name]
        elif argument.default_value is not None:
            named[argument.name] = argument.default_value
    return named


def _written(func: Any, arguments: Mapping[str, Any]) -> list[Any]:
    """Tensors that the operator writes in place."""
    if not func._schema.is_mutable:
        return []
    info = {a.name: a.alias_info for a in func._schema.arguments}
    return tensors_of([v for k, v in arguments.items() if info[k] is not None and info[k].is_write])


def _results(tree: Any) -> list[Any]:
    """What an operator returned: tensors, and None where one was not asked for."""
    if tree is None or isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, list | tuple):
        return [t for branch in tree for t in _results(branch)]
    return []


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
