"""``timm:NAME``: a network of the timm library, without weights.

timm imports torchvision, for its data pipelines alone: no network uses an operator of it. Where torchvision
is absent, names stand in for it while timm is imported, and are gone afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from rigwise.errors import CaptureError, UnknownNameError, near_matches
from rigwise.graph.capture.faults import INSTALL_TIMM, as_capture_error
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.subject import REFERENCE_BATCH, Subject
from rigwise.graph.graph import Card, Model


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``name`` as timm spells it."""
    with fake_tensors():
        return capture(subject(request["name"]))


def subject(name: str, tasks: Sequence[str] = ("train", "infer")) -> Subject:
    """The subject that a timm name describes; call it inside ``fake_tensors()``.

    The image side is a symbol unless timm says that the network takes one side only; then it is fixed at
    that side. The loss is the mean square of the outputs.

    Raises:
        UnknownNameError: timm has no network of this name; lists near matches.
        CaptureError: timm cannot build it.
    """
    timm = import_timm()
    if not timm.is_model(name):
        close = near_matches(name, timm.list_models())
        raise UnknownNameError(f"timm {timm.__version__} has no network {name!r}", hint=close)
    try:
        with BuildingModules():
            module = timm.create_model(name, pretrained=False)
    except Exception as error:
        raise as_capture_error(error, f"building timm:{name}") from error
    settings = module.pretrained_cfg
    channels, height, width = settings["input_size"]
    free = height == width and not settings.get("fixed_input_size")

    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Any, ...]:
        sides = (sizes["p"], sizes["p"]) if free else (height, width)
        return (torch.empty(sizes["b"], channels, *sides),)

    symbols = {"b": REFERENCE_BATCH, "p": height} if free else {"b": REFERENCE_BATCH}
    side = f"{height}" if height == width else f"{height}x{width}"
    card = Card(
        title=name,
        family=type(module).__module__.rpartition(".")[2],
        source=f"timm {timm.__version__}",
        reference_batch=REFERENCE_BATCH,
        assumed=() if free else (f"image side fixed at {side}",),
    )
    return Subject(
        name=name, module=module, inputs=inputs, loss=own_loss, symbols=dict.fromkeys(tasks, symbols), card=card
    )


def import_timm() -> Any:
    """The timm library, imported whether or not there is a torchvision.

    Raises:
        CaptureError: It cannot be imported; gives the line that installs what it needs.
    """
    absent = importlib.util.find_spec("torchvision") is None
    try:
        with _names_for_torchvision() if absent else contextlib.nullcontext():
            return importlib.import_module("timm")
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise CaptureError(f"timm cannot be imported: {type(error).__name__}: {said}", hint=INSTALL_TIMM) from error


@contextlib.contextmanager
def _names_for_torchvision() -> Iterator[None]:
    """Inside, every module of torchvision can be imported, and has every name that is asked for."""
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


class _Finder:
    """Finds torchvision where nobody else did, as modules of nothing but names."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """A package without a file, for torchvision and what is in it."""
        ours = name.partition(".")[0] == "torchvision"
        return ModuleSpec(name, self, is_package=True) if ours else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty package."""
        return _Names(spec.name)

    def exec_module(self, _module: ModuleType) -> None:
        """There is nothing to run."""


class _Names(ModuleType):
    """A module in which every name is a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Name(name, (), {})
        setattr(self, name, found)
        return found


class _Name(type):
    """A class of which every attribute is its own name, as the members of an enumeration are."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"
