"""The graph of an exported program, as a module that calls PyTorch's own operators one after the other.

Every name of the file is looked up in a table or among the operators of ``torch.ops.aten`` and
``torch.ops.prims``; nothing else can be called by it. Operators belong to the modules they were exported
from, and parameters lie where they lay.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch.nn import functional

from rigwise.errors import InvalidInputError, RigwiseError, UnsupportedError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.from_torch.exported_values import Argument, TensorMeta, bind, meta_of, name_of, value_of

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims)\.(\w+)\.(\w+)")
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_MAX_DEPTH = 8

#: Operators that read or write files, which no model does.
_REFUSED = frozenset({"from_file", "save"})

#: Checks that a device does not run.
_CHECKS_NAMES = """
    _assert_scalar _assert_async _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size
"""
_CHECKS = frozenset(_CHECKS_NAMES.split())

#: What a program does to its numbers, not to its tensors.
_ARITHMETIC_NAMES = "add sub mul floordiv truediv mod neg pos eq ne lt le gt ge and_ or_ not_ getitem"
_NUMBERS: Mapping[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in _ARITHMETIC_NAMES.split()},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}

#: Modes that a part of a program ran under; its graph stands among its arguments.
_MODES = ("torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast")

#: Runs some operators as those of the module at a path.
Within = Callable[[str, Callable[[], None]], None]


class Program:
    """An exported program.

    Attributes:
        inputs: Name and description of every tensor it takes, in order.
        module: Takes those tensors, returns what the program returns.
        notes: What had to be assumed.
    """

    def __init__(self, described: Mapping[str, Any], weights: Mapping[str, Any], where: str) -> None:
        graph_module = described["graph_module"]
        graph = Graph(graph_module["graph"], where)
        metas = {name: meta_of(meta) for name, meta in graph_module["graph"]["tensor_values"].items()}
        self.inputs: list[tuple[str, TensorMeta]] = []
        paths: dict[str, str] = {}
        constants: dict[str, Any] = {}
        for spec in graph_module["signature"]["input_specs"]:
            ((kind, value),) = spec.items()
            if kind in ("parameter", "buffer", "tensor_constant"):
                paths[value["arg"]["name"]] = value[f"{kind}_name"]
            elif kind == "constant_input":
                constants[value["name"]] = value_of(value["value"], {})
            elif kind == "user_input" and "as_tensor" in value["arg"]:
                name = value["arg"]["as_tensor"]["name"]
                self.inputs.append((name, metas[name]))
            else:
                raise UnsupportedError(f"{where}: the program takes a {kind}", hint="export it with tensors as inputs")
        tensors = _tensors(paths, metas, weights)
        names = [name for name, _ in self.inputs]
        self.module = _Whole(graph, paths=paths, tensors=tensors, constants=constants, inputs=names)
        frozen = graph.calls(("dropout", "batch_norm", "_native_batch_norm_legit_no_training"))
        self.notes = ("dropout and batch statistics as they were exported",) if frozen else ()


def _tensors(
    paths: Mapping[str, str], metas: Mapping[str, TensorMeta], weights: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Parameters and buffers by their name in the graph; those that lie in the same place are one."""
    places = {path: entry["path_name"] for path, entry in (weights.get("config") or {}).items()}
    made: dict[str, torch.Tensor] = {}
    for name, path in paths.items():
        place = places.get(path, name)
        if place not in made:
            tensor = torch.empty(metas[name].hints, dtype=metas[name].dtype)
            made[place] = torch.nn.Parameter(tensor) if metas[name].trainable else tensor
    return {name: made[places.get(path, name)] for name, path in paths.items()}


class _Scope(torch.nn.Module):
    """A module of the exported model; it runs what it is told to, so that operators know where they are."""

    def forward(self, run: Callable[[], None]) -> None:
        """Run some operators of this module."""
        run()


class _Whole(torch.nn.Module):
    """All of the exported model, with its parameters at their paths."""

    def __init__(
        self,
        graph: Graph,
        *,
        paths: Mapping[str, str],
        tensors: Mapping[str, torch.Tensor],
        constants: Mapping[str, Any],
        inputs: Sequence[str],
    ) -> None:
        super().__init__()
        self._graph, self._values, self._inputs = graph, {**tensors, **constants}, list(inputs)
        self._scopes: dict[str, torch.nn.Module] = {"": self}
        for name, path in paths.items():
            parent, _, own = path.rpartition(".")
            if isinstance(tensors[name], torch.nn.Parameter):
                self._scope(parent).register_parameter(own, tensors[name])
            else:
                self._scope(parent).register_buffer(own, tensors[name])
        for path in graph.paths():
            self._scope(path)

    def _scope(self, path: str) -> torch.nn.Module:
        """The module at a path, made if need be."""
        if path not in self._scopes:
            parent, _, name = path.rpartition(".")
            self._scopes[path] = _Scope()
            self._scope(parent).add_module(name, self._scopes[path])
        return self._scopes[path]

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the program returns for these inputs."""
        return self._graph.run({**self._values, **dict(zip(self._inputs, tensors, strict=True))}, self._within)

    def _within(self, path: str, run: Callable[[], None]) -> None:
        if path:
            self._scopes[path](run)
        else:
            run()


class Graph:
    """A graph of the file: what it calls, in order."""

    def __init__(self, described: Mapping[str, Any], where: str, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise InvalidInputError(f"{where}: graphs are nested over {_MAX_DEPTH} deep")
        self.inputs = [name_of(argument) for argument in described["inputs"]]
        self.outputs = described["outputs"]
        self.nodes = [_Node(node, where, depth) for node in described["nodes"]]

    def calls(self, names: Iterable[str]) -> bool:
        """Whether an operator of one of these names is called."""
        wanted = tuple(f"torch.ops.aten.{name}." for name in names)
        return any(node.target.startswith(wanted) or any(g.calls(names) for g in node.graphs) for node in self.nodes)

    def paths(self) -> dict[str, None]:
        """Paths of all modules that own operators, in order."""
        inner = (path for node in self.nodes for graph in node.graphs for path in graph.paths())
        return dict.fromkeys((*(node.path for node in self.nodes), *inner))

    def run(self, values: dict[str, Any], within: Within) -> list[Any]:
        """The outputs of the graph, for values of its inputs."""
        for path, nodes in groupby(self.nodes, key=lambda node: node.path):
            within(path, partial(_run, list(nodes), values, within))
        return [value_of(argument, values) for argument in self.outputs]


def _run(nodes: Sequence[_Node], values: dict[str, Any], within: Within) -> None:
    for node in nodes:
        node.run(values, within)


class _Node:
    """One call."""

    def __init__(self, described: Mapping[str, Any], where: str, depth: int) -> None:
        self.target = str(described["target"])
        self.outputs = described["outputs"]
        self.what = f"{where}: {str(described.get('name') or 'a call')[:80]} ({self.target[:80]})"
        self.path = _module_path(described.get("metadata") or {})
        self.named: list[tuple[str, Argument]] = [(str(entry["name"]), entry["arg"]) for entry in described["inputs"]]
        inner = [argument["as_graph"]["graph"] for _, argument in self.named if "as_graph" in argument]
        self.graphs = [Graph(graph, where, depth + 1) for graph in inner]
        self.call = _positional(_NUMBERS[self.target]) if self.target in _NUMBERS else self._operator()

    def _operator(self) -> Callable[..., Any] | None:
        """The operator of PyTorch to call; None for a graph within."""
        if self.target in _MODES and len(self.graphs) == 1:
            return None
        found = _OPERATOR.fullmatch(self.target)
        if not found and self.target.startswith("torch.ops.higher_order."):
            raise UnsupportedError(f"{self.what} is control flow, of which a capture knows neither branch nor length")
        if not found:
            raise UnsupportedError(f"{self.what} is not PyTorch's own", hint="give the model as package.module:factory")
        namespace, name, overload = found.groups()
        packet = getattr(getattr(torch.ops, namespace), name, None)
        call = getattr(packet, overload, None) if isinstance(packet, torch._ops.OpOverloadPacket) else None
        if not isinstance(call, torch._ops.OpOverload) or name in _REFUSED:
            raise UnsupportedError(f"{self.what} is no operator that PyTorch {torch.__version__} runs here")
        chosen: Callable[..., Any] = _CALLED_AS.get(name, call)
        return chosen

    def run(self, values: dict[str, Any], within: Within) -> None:
        """Call it, and keep what it returns."""
        try:
            if self.call is None:
                result = self._run_within(values, within)
            else:
                result = self.call(**{name: value_of(argument, values) for name, argument in self.named})
            if len(self.outputs) == 1:
                one = isinstance(result, list | tuple) and len(result) == 1 and "as_tensor" in self.outputs[0]
                bind(self.outputs[0], result[0] if one else result, values)
            else:
                for argument, part in zip(self.outputs, result if self.outputs else (), strict=True):
                    bind(argument, part, values)
        except RigwiseError:
            raise
        except Exception as error:
            raise as_capture_error(error, self.what) from error

    def _run_within(self, values: dict[str, Any], within: Within) -> Any:
        """A part under a mode: what stands before its graph is the mode's, what stands behind it is its own."""
        place = next(index for index, (_, argument) in enumerate(self.named) if "as_graph" in argument)
        given = [value_of(argument, values) for _, argument in self.named[place + 1 :]]
        graph = self.graphs[0]
        inner = dict(zip(graph.inputs, given, strict=True))
        if self.target != _MODES[0]:
            return graph.run(inner, within)
        enabled = bool(value_of(self.named[0][1], values))
        with torch.set_grad_enabled(enabled and torch.is_grad_enabled()):
            return graph.run(inner, within)


def _module_path(metadata: Mapping[str, Any]) -> str:
    """The path of the innermost module: the middle of ``key,path,class``, innermost last."""
    parts = str(metadata.get("nn_module_stack") or "").rpartition(";")[2].split(",")
    path = parts[1] if len(parts) > 2 else ""
    return path if len(path) <= 200 and _PATH.fullmatch(path) and not path.startswith("_empty_nn_module") else ""


def _positional(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **named: function(*named.values())


def _attention(**named: Any) -> Any:
    """Looked up at the call, because a capture puts its own operator there."""
    return functional.scaled_dot_product_attention(**named)


def _nothing(**_: Any) -> None:
    """What a check leaves behind."""


#: Operators that are called as people call them, so that a capture keeps them whole, and checks, which are not.
_CALLED_AS: Mapping[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _attention,
    "dropout": torch.dropout,
    **{name: _positional(getattr(torch, name)) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **dict.fromkeys(_CHECKS, _nothing),
}
