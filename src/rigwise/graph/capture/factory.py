"""``package.module:factory``: the one form that runs the user's own code.

The factory is called without arguments, on fake tensors where PyTorch is installed, and returns a model with
example inputs: a PyTorch or Lightning module (``from_torch/factory.py``), a JAX function or Flax module
(``from_jax/``), a Keras model (``keras_model.py``), or a transformers model alone. Which sizes may vary:

- the batch, if the first axis of every input tensor is the same, or the factory has a parameter ``batch``;
- the sequence length and the image side only if the factory has parameters ``seq`` and ``image_size``: it
  is then called again for every size, and its inputs are taken.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rigwise.errors import CaptureError, InvalidInputError
from rigwise.graph.capture.faults import as_capture_error, missing_package
from rigwise.graph.capture.subject import REFERENCE_BATCH
from rigwise.graph.graph import Model

#: Parameters of a factory that make a size free, their symbols and usual sizes.
_PARAMETERS = {"batch": ("b", REFERENCE_BATCH), "seq": ("s", 512), "image_size": ("p", 224)}

#: Keras runs on TensorFlow unless it is told otherwise.
_OTHER_BACKEND = "a Keras model is captured with KERAS_BACKEND=torch or KERAS_BACKEND=jax set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """The user's function.

    Attributes:
        spec: As it was asked for.
        name: Of the captured model.
        function: What is called.
        accepted: Size parameters that it has, with symbol and reference size.
    """

    spec: str
    name: str
    function: Callable[..., Any]
    accepted: Mapping[str, tuple[str, int]]

    def __call__(self, **asked: int) -> tuple[Any, Any]:
        """The model and its example inputs, None where there are none.

        Raises:
            CaptureError: The factory fails, or returns something that cannot be a model.
        """
        needed = {name: size for name, (_, size) in self.accepted.items() if name not in self._optional()}
        try:
            with _building():
                made = self.function(**needed | asked)
        except Exception as error:
            if missing_package(error):
                raise
            raise as_capture_error(error, f"{self.spec}()") from error
        model, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        self._check(model)
        return model, example

    def _optional(self) -> set[str]:
        return {n for n, p in _signature(self.function).items() if p.default is not inspect.Parameter.empty}

    def _check(self, model: Any) -> None:
        """Say what is wrong with what can be no model."""
        if model is None:
            raise CaptureError(f"{self.spec} returned None", hint="end it with: return model, example_inputs")
        if inspect.iscoroutine(model):
            model.close()
            raise CaptureError(f"{self.spec} is an async function", hint="make it a plain function")
        if inspect.isgenerator(model):
            raise CaptureError(f"{self.spec} yields instead of returning", hint="return the model and example inputs")
        if isinstance(model, type):
            raise CaptureError(
                f"{self.spec} returned the class {model.__name__}, not a model", hint="make one: call it"
            )

    def sizes(self, symbols: Mapping[str, int]) -> dict[str, int]:
        """Arguments of the factory for the sizes of the symbols."""
        return {parameter: symbols[symbol] for parameter, (symbol, _) in self.accepted.items()}


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``spec`` and ``name``.

    Raises:
        InvalidInputError: There is no such factory, or it needs arguments.
        CaptureError: The factory fails, or returns something else than a model with inputs.
        ModuleNotFoundError: It needs a package that is not installed and that an extra brings.
    """
    with _without_data():
        return model_of(find_factory(request["spec"]), spec=request["spec"], name=request["name"])


def model_of(function: Callable[..., Any], *, spec: str, name: str) -> Model:
    """The model of a factory that is at hand; on fake tensors, which ``model`` sees to. Same errors."""
    factory = Factory(spec=spec, name=name, function=function, accepted=_accepted(function, spec))
    made, example = _call_on_shapes(factory)
    front_end = importlib.import_module(f"rigwise.graph.capture.{_front_end(factory, made, example)}")
    captured: Model = front_end.captured(factory, made, example)
    return captured


def find_factory(spec: str) -> Callable[..., Any]:
    """The callable that ``package.module:factory`` names; the current directory is searched too.

    Raises:
        InvalidInputError: There is no such module or name in it, or it cannot be called.
        ModuleNotFoundError: The module imports a package that is not installed and that an extra brings.
        CaptureError: Importing the module failed.
    """
    module_name, _, name = spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if missing_package(error):
            raise  # whoever asked for the capture is told which extra brings it
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            fault = as_capture_error(error, f"importing {module_name}")
            hint = _OTHER_BACKEND if error.name == "tensorflow" else fault.hint
            raise CaptureError(fault.message, hint=hint) from error
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


def _accepted(function: Callable[..., Any], spec: str) -> dict[str, tuple[str, int]]:
    """The size parameters a factory has, with symbol and reference size: its own default or the usual one."""
    found, unknown = {}, []
    for name, parameter in _signature(function).items():
        default = parameter.default
        if name in _PARAMETERS:
            symbol, usual = _PARAMETERS[name]
            found[name] = (symbol, default if isinstance(default, int) and default > 1 else usual)
        elif default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            unknown.append(name)
    if unknown:
        raise InvalidInputError(
            f"{spec} needs arguments: {', '.join(unknown)}",
            hint="give them defaults; only batch, seq and image_size are filled in",
        )
    return {name: found[name] for name in _PARAMETERS if name in found}


def _signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _front_end(factory: Factory, made: Any, example: Any) -> str:
    """The module beside this one that captures what the factory returned."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if keras is not None and isinstance(made, keras.Layer):
        return "keras_model"
    if torch is not None and isinstance(made, torch.nn.Module):
        return "from_torch.factory"
    if "jax" in sys.modules and callable(made):
        if example is None:
            raise CaptureError(f"{factory.spec} returned a model without example inputs", hint="return a pair of both")
        return "from_jax.factory"
    raise CaptureError(
        f"{factory.spec} returned a {type(made).__name__}, not a torch.nn.Module, Keras model or JAX function",
        hint="return the model and example inputs for it",
    )


def _call_on_shapes(factory: Factory) -> tuple[Any, Any]:
    """Call the factory; if its module uses JAX, without allocating what JAX makes.

    Keras looks at values while it builds a model, so it gets them.
    """
    if "keras" not in sys.modules:
        try:
            return _call_without_keras(factory)
        except CaptureError:
            if "keras" not in sys.modules:  # or imported by the factory itself
                raise
    with with_data():
        return factory()


def _call_without_keras(factory: Factory) -> tuple[Any, Any]:
    if "jax" not in sys.modules:
        return factory()
    from rigwise.graph.capture.from_jax.factory import on_shapes

    return on_shapes(factory)


@contextlib.contextmanager
def _without_data() -> Iterator[None]:
    """PyTorch's tensors are fake inside; without PyTorch nothing happens."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    from rigwise.graph.capture.from_torch.fake import fake_tensors

    with fake_tensors():
        yield


def with_data() -> contextlib.AbstractContextManager[Any]:
    """PyTorch's tensors are real inside."""
    if sys.modules.get("torch") is None:
        return contextlib.nullcontext()
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    found: contextlib.AbstractContextManager[Any] = unset_fake_temporarily()
    return found


def _building() -> contextlib.AbstractContextManager[Any]:
    if sys.modules.get("torch") is None or "keras" in sys.modules:
        return contextlib.nullcontext()
    from rigwise.graph.capture.from_torch.factory import converted_in_place
    from rigwise.graph.capture.from_torch.fake import BuildingModules

    stack = contextlib.ExitStack()
    stack.enter_context(BuildingModules())
    stack.enter_context(converted_in_place())
    return stack
