"""A JAX function, or a Flax module, as a model: traced on shapes alone, without weights or compilation.

What a factory may return, and which part of it is what:

- ``(function, arguments)``: a tuple of two arguments or more starts with the parameters (any pytree), and
  training is the gradient with respect to them; a function of one argument has no parameters and only infers.
- ``(module, inputs)`` with a Flax linen or nnx module, or any other callable that is a pytree of arrays:
  its parameters are its own, ``inputs`` is an array, a tuple of arguments or, for Flax, a dictionary.

Arguments are JAX or NumPy arrays or ``jax.ShapeDtypeStruct``; anything else in them is a setting and stays as
it is, except that flags named ``train`` or ``deterministic`` follow the task. The loss is what the function
returns if that is one number (or ``(loss, rest)``, or holds ``"loss"``), else the mean square of all it returns.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rigwise.errors import CaptureError
from rigwise.graph.capture.fold import fold_parameters
from rigwise.graph.capture.from_jax.names import Scope, numbered
from rigwise.graph.capture.from_jax.trace import Recorder
from rigwise.graph.capture.from_jax.values import Value, array, dtype_of
from rigwise.graph.capture.solve import symbolic_graph
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.graph import Card, Graph, Model
from rigwise.graph.op import Role

#: Flags of a call that are true when training, and those that are false then.
_TRAIN_FLAGS = ("train", "training", "is_training")
_INFER_FLAGS = ("deterministic", "use_running_average")

_COMPILED = "JAX compiles what it runs: predict with --mode compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A JAX model ready to be traced.

    Attributes:
        name: Name of the captured model.
        root: What JAX calls the outermost module.
        parameters: Pytree of shapes that gradients are taken of, None without.
        state: Pytree of shapes that the model keeps beside them.
        forward: From parameters, state, arguments and whether it trains to the output and the new state.
        arguments: From the size of every symbol to what the model is called with.
        symbols: The symbols that may vary and their reference sizes.
        card: Words for people.
    """

    name: str
    root: str = ""
    parameters: Any = None
    state: Any = None
    forward: Callable[[Any, Any, Any, bool], tuple[Any, Any]]
    arguments: Callable[[Mapping[str, int]], Any]
    symbols: Mapping[str, int] = field(default_factory=dict)
    card: Card


def capture(program: Program) -> Model:
    """Every graph of a program.

    Raises:
        CaptureError: The function fails, runs other operators at another batch, or its sizes are no polynomials.
    """
    notes: list[str] = [_COMPILED]
    program = replace(program, symbols=dict(sorted(program.symbols.items())))
    leaves = _named_leaves(program.parameters)
    graphs: dict[str, Graph] = {}
    for task in ["infer", "train"] if any(trainable for _, _, trainable in leaves) else ["infer"]:

        def trace(sizes: Mapping[str, int], task: str = task) -> Graph:
            return _trace(program, task, sizes, notes)

        try:
            graphs[task], note = symbolic_graph(trace, program.symbols, f"{program.name} ({task})")
        except CaptureError as error:
            if task == "infer" or needs_values(error):
                raise
            note = f"no train graph: {error.message}"  # not every function has a gradient
        notes.append(note)
    if not leaves:
        notes.append("a function of one argument has no parameters: inference only")
    state = [leaf for leaf in jax.tree_util.tree_leaves(program.state) if hasattr(leaf, "dtype")]
    return Model(
        name=program.name,
        card=replace(program.card, assumed=(*program.card.assumed, *dict.fromkeys(n for n in notes if n))),
        parameters=fold_parameters(leaves),
        graphs=graphs,
        buffer_bytes=float(sum(leaf.size * BYTES_OF_DTYPE[dtype_of(leaf)] for leaf in state)),
        captured_with=_versions(),
    )


def _trace(program: Program, task: str, sizes: Mapping[str, int], notes: list[str]) -> Graph:
    """The operators of one task at the given sizes, unfolded."""
    training = task == "train"
    leaves, tree = jax.tree_util.tree_flatten(program.arguments(sizes))
    given = [shape_struct(leaf) for leaf in leaves if is_array(leaf)]

    def call(parameters: Any, state: Any, arrays: list[Any]) -> tuple[Any, Any]:
        rest = iter(arrays)
        arguments = tree.unflatten([next(rest) if is_array(leaf) else leaf for leaf in leaves])
        output, after = program.forward(parameters, state, arguments, training)
        return ([x for x in jax.tree_util.tree_leaves(output) if is_array(x)] if not training else _loss(output)), after

    function = jax.value_and_grad(call, has_aux=True, allow_int=True) if training else call
    jaxpr = jax.make_jaxpr(function)(program.parameters, program.state, given)
    arguments = [array(leaf, Role.PARAMETER, path) for path, leaf in _with_module(program.parameters)]
    arguments += [array(leaf, Role.BUFFER) for leaf in jax.tree_util.tree_leaves(program.state)]
    arguments += [array(leaf, Role.INPUT) for leaf in given]
    recorder = Recorder(root=program.root, training=training)
    outputs: list[Value] = recorder.run(jaxpr.jaxpr, [array(c, Role.BUFFER) for c in jaxpr.consts], arguments, Scope())
    notes.extend(recorder.notes)
    count = len(jax.tree_util.tree_leaves(program.parameters)) if training else 0
    split = len(outputs) - count
    return recorder.graph(outputs[:split], outputs[split:], sizes)


def _loss(output: Any) -> Any:
    """One number to start the backward pass from; see ``loss.own_loss`` for PyTorch's."""
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is not None:
        return found
    leaves = [x for x in jax.tree_util.tree_leaves(output) if is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:
        raise CaptureError("the model returns no tensor that a loss could be made of")
    if leaves[0].shape == ():
        return leaves[0]
    terms = [jnp.mean(jnp.square(x)) for x in leaves]
    return sum(terms[1:], start=terms[0])


# What a factory returned.


def program_of(made: Any, example: Any, *, name: str, card: Card) -> Program:
    """The program of a callable and what it is called with; ``arguments`` is for one fixed size.

    Raises:
        CaptureError: The arguments are none.
    """
    if _is_flax(made, "flax.linen"):
        return _linen(made, example, name=name, card=card)
    if _is_flax(made, "flax.nnx"):
        return _nnx(made, example, name=name, card=card)
    arguments = tuple(example) if isinstance(example, tuple | list) else (example,)
    if any(is_array(leaf) for leaf in jax.tree_util.tree_leaves(made)):
        return _pytree(made, arguments, name=name, card=card)
    rest = arguments[1:] if len(arguments) > 1 else arguments

    def forward(parameters: Any, _state: Any, given: Any, _training: bool) -> tuple[Any, Any]:
        return (made(parameters, *given) if len(arguments) > 1 else made(*given)), None

    parameters = _shapes(arguments[0]) if len(arguments) > 1 else None
    return Program(name=name, parameters=parameters, forward=forward, arguments=lambda _: rest, card=card)


def _pytree(made: Any, arguments: tuple[Any, ...], *, name: str, card: Card) -> Program:
    """A module that is a pytree of its arrays; what else it holds stays as it is."""
    leaves, tree = jax.tree_util.tree_flatten(made)
    paths = [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(made)[0]]
    parameters = {path: shape_struct(leaf) for path, leaf in zip(paths, leaves, strict=True) if is_array(leaf)}

    def forward(weights: Any, _state: Any, given: Any, _training: bool) -> tuple[Any, Any]:
        whole = tree.unflatten([weights.get(path, leaf) for path, leaf in zip(paths, leaves, strict=True)])
        return whole(*given), None

    return Program(name=name, parameters=parameters, forward=forward, arguments=lambda _: arguments, card=card)


def _linen(module: Any, example: Any, *, name: str, card: Card) -> Program:
    """Flax linen: the module's own ``init``, on shapes, says which parameters and state it has."""
    flags = _flags(type(module).__call__)

    def start(keys: Any, arrays: list[Any]) -> Any:
        positional, keywords = _call_form(_filled(example, arrays), flags, training=False)
        return module.init(keys, *positional, **keywords)

    key = jax.eval_shape(lambda: jax.random.key(0))
    arrays = [shape_struct(leaf) for leaf in jax.tree_util.tree_leaves(example) if is_array(leaf)]
    variables = dict(jax.eval_shape(start, {"params": key, "dropout": key}, arrays))
    parameters = variables.pop("params", None)

    def forward(weights: Any, state: Any, given: Any, training: bool) -> tuple[Any, Any]:
        positional, keywords = _call_form(given, flags, training=training)
        own, key = state
        whole = {"params": weights, **own} if weights is not None else own
        rngs = {"dropout": key} if training else {}
        if not training or not own:
            return module.apply(whole, *positional, **keywords, rngs=rngs), None
        return module.apply(whole, *positional, **keywords, rngs=rngs, mutable=list(own))  # type: ignore[no-any-return]

    return Program(
        name=name, root=type(module).__name__, parameters=parameters, state=(variables, key), forward=forward,
        arguments=lambda _: example, card=card,
    )  # fmt: skip


def _nnx(module: Any, example: Any, *, name: str, card: Card) -> Program:
    """Flax nnx: the module apart from its arrays, and together with them again inside the trace."""
    from flax import nnx

    flags = _flags(type(module).__call__)
    definition, weights, rest = nnx.split(module, nnx.Param, ...)

    def forward(weights: Any, state: Any, given: Any, training: bool) -> tuple[Any, Any]:
        state = jax.tree_util.tree_map(lambda leaf: leaf, state)  # variables that this trace may change
        whole = nnx.merge(definition, weights, state)
        (whole.train if training else whole.eval)()
        positional, keywords = _call_form(given, flags, training=training)
        output = whole(*positional, **keywords)
        return output, nnx.split(whole, nnx.Param, ...)[2] if training else None

    return Program(
        name=name, root=type(module).__name__, parameters=_shapes(weights), state=_shapes(rest), forward=forward,
        arguments=lambda _: example, card=card,
    )  # fmt: skip


def _flags(call: Any) -> tuple[str, ...]:
    try:
        return tuple(n for n in inspect.signature(call).parameters if n in (*_TRAIN_FLAGS, *_INFER_FLAGS))
    except (TypeError, ValueError):
        return ()


def _call_form(given: Any, flags: tuple[str, ...], *, training: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments; with positional settings the caller sets the flags himself."""
    keywords = dict(given) if isinstance(given, Mapping) else {}
    positional = () if keywords else tuple(given) if isinstance(given, tuple | list) else (given,)
    if all(is_array(leaf) for leaf in jax.tree_util.tree_leaves(positional)):
        keywords |= {name: training if name in _TRAIN_FLAGS else not training for name in flags}
    return positional, keywords


def _filled(example: Any, arrays: list[Any]) -> Any:
    leaves, tree = jax.tree_util.tree_flatten(example)
    rest = iter(arrays)
    return tree.unflatten([next(rest) if is_array(leaf) else leaf for leaf in leaves])


# Shapes and names.


def needs_values(error: BaseException | None) -> bool:
    """Whether a fault comes from calling a factory on shapes: a value was looked at, or kept for later."""
    kinds = (jax.errors.JAXTypeError, jax.errors.UnexpectedTracerError)
    while error is not None and not isinstance(error, kinds):
        error = None if error.__cause__ is error else error.__cause__
    return error is not None


def is_array(leaf: Any) -> bool:
    """Whether a leaf is traced: it has a shape and a format."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)


def shape_struct(leaf: Any) -> Any:
    """The shape and format of an array, without its content."""
    dtype = leaf.dtype
    if isinstance(dtype, np.dtype):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(tuple(leaf.shape), dtype)


def with_batch(tree: Any, batch: int) -> Any:
    """The same arguments, the first axis of every array of another size; random keys have no batch."""

    def resized(leaf: Any) -> Any:
        if not is_array(leaf) or not leaf.shape or _is_key(leaf):
            return leaf
        return jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), shape_struct(leaf).dtype)

    return jax.tree_util.tree_map(resized, tree)


def first_axes(tree: Any) -> set[int]:
    """Sizes of the first axes of all arrays that have one."""
    leaves = (leaf for leaf in jax.tree_util.tree_leaves(tree) if is_array(leaf) and not _is_key(leaf))
    return {int(leaf.shape[0]) for leaf in leaves if leaf.shape}


def _is_key(leaf: Any) -> bool:
    return str(leaf.dtype).startswith("key<") or (str(leaf.dtype) == "uint32" and tuple(leaf.shape) == (2,))


def _shapes(tree: Any) -> Any:
    return jax.tree_util.tree_map(lambda leaf: shape_struct(leaf) if is_array(leaf) else leaf, tree)


def _is_flax(made: Any, package: str) -> bool:
    module = sys.modules.get(package)
    return module is not None and isinstance(made, module.Module)


def _path(keys: Any) -> str:
    """A path in a pytree, as PyTorch writes one: ``layers.3.kernel``."""
    names = (next((str(getattr(key, a)) for a in ("key", "idx", "name") if hasattr(key, a)), str(key)) for key in keys)
    return ".".join(name.replace("/", ".") for name in names)


def _named_leaves(tree: Any) -> list[tuple[str, tuple[int, ...], bool]]:
    """Name, shape and whether it is trained, of every parameter."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [
        (numbered(_path(path).removesuffix(".value")), tuple(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.floating))
        for path, leaf in found
    ]


def _with_module(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with the path of the module that it is a parameter of."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(numbered(_path(path).removesuffix(".value")).rpartition(".")[0], leaf) for path, leaf in found]


def _versions() -> dict[str, str]:
    names = ("jax", "flax", "keras")
    return {n: str(sys.modules[n].__version__) for n in names if n in sys.modules}
