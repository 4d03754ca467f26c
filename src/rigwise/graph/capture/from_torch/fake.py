"""Modules without weights: fake tensors, no initialisation, and the traps of a broken installation."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from rigwise.graph.capture.from_torch.loss import tensors_of

_INITIALISER_NAMES = """
    uniform_ normal_ trunc_normal_ constant_ ones_ zeros_ eye_ dirac_
    xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ orthogonal_ sparse_
"""
_INITIALISERS = _INITIALISER_NAMES.split()


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, every new tensor is fake and no weight is initialised.

    Initialisers are set aside because some of them look at values (``trunc_normal_`` does), and because
    there is nothing to initialise.
    """
    _mend_torchvision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_initialisation())
        stack.enter_context(_plain_attention_modules())
        stack.enter_context(_copies_of_their_own())
        stack.enter_context(_FakeTensors(allow_non_fake_inputs=True))
        yield


class _FakeTensors(FakeTensorMode):
    """The same without the guard that keeps the compiler out of every operator: nothing is compiled here."""

    __torch_dispatch__ = inspect.unwrap(FakeTensorMode.__torch_dispatch__)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class BuildingModules(TorchFunctionMode):
    """For the time a module is built: some tensors have values, and so has what is computed from them.

    Many networks spread drop rates over their blocks as ``[x.item() for x in torch.linspace(0, rate, depth)]``,
    or lay their stages out with tensors that they ask to have on the CPU whatever the default is.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` on real tensors where it makes or gets only such."""
        kwargs = kwargs or {}
        tensors = tensors_of([*args, *kwargs.values()])
        if _has_values(func, kwargs) or (tensors and not any(isinstance(t, FakeTensor) for t in tensors)):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _has_values(func: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether an author means a tensor to be looked at while the module is built."""
    on_cpu = func in (torch.arange, torch.tensor) and str(kwargs.get("device")) == "cpu"
    return func is torch.linspace or on_cpu


def _same(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


@contextlib.contextmanager
def _without_initialisation() -> Iterator[None]:
    kept = {name: getattr(torch.nn.init, name) for name in _INITIALISERS}
    try:
        _set_initialisers(dict.fromkeys(kept, _same))
        yield
    finally:
        _set_initialisers(kept)


def _set_initialisers(functions: Mapping[str, Any]) -> None:
    """In PyTorch, and in the copy that transformers 5 keeps of them once it is imported."""
    for name, function in functions.items():
        setattr(torch.nn.init, name, function)
    copy = sys.modules.get("transformers.initialization")
    table = getattr(copy, "TORCH_INIT_FUNCTIONS", {})
    table.update({name: functions[name] for name in table if name in functions})


@contextlib.contextmanager
def _plain_attention_modules() -> Iterator[None]:
    """Without the fused inference path of ``nn.MultiheadAttention``, which hides its matrix products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _copies_of_their_own() -> Iterator[None]:
    """With deep copies of fake tensors that are tensors like others.

    PyTorch's own fail on some modules, and have a storage that their views do not share.
    """
    outermost = "__deepcopy__" not in vars(FakeTensor)  # which has none of its own
    FakeTensor.__deepcopy__ = _copied
    try:
        yield
    finally:
        if outermost:
            del FakeTensor.__deepcopy__


def _copied(tensor: Any, memo: dict[int, Any]) -> Any:
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        if isinstance(tensor, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, tensor.requires_grad)
        memo[id(tensor)] = copy.requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]


def _mend_torchvision() -> None:
    """Give a torchvision whose binary does not fit this torch the operators it fails without.

    Such an installation breaks every import of transformers, although no operator of it is used here.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # a library that is collected takes its operators with it
        for module in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[module]


_KEPT: list[Any] = []
