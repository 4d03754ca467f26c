"""The collectives that PyTorch itself issues for a sharded model, read without devices.

A process group of any size is faked in this one process: collectives return at once and move nothing, but they
are dispatched as on a cluster. The model is sharded by PyTorch's own ``fully_shard``, ``parallelize_module`` and
pipeline schedules, run once on fake tensors, and every collective that passes is written down. It is a check on
the formulas of ``estimate``, which need no PyTorch.

The fake process group is private to PyTorch and changes from version to version, so only versions on
which this was tried are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.graph.capture.from_torch.sharded_tensors import plan_of, shard_tensors
from rigwise.graph.capture.from_torch.trace import Recorder
from rigwise.graph.capture.from_torch.whole import WholeOperators
from rigwise.graph.capture.subject import Subject
from rigwise.graph.op import Phase

#: Versions of PyTorch whose fake process group this was tried on.
TRIED_VERSIONS = ("2.13",)

#: Operator names of both families, without the suffixes for in-place and coalesced forms, and what they are.
_KINDS = {
    "allgather": "all_gather",
    "_allgather_base": "all_gather",
    "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_out": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor": "reduce_scatter",
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all",
    "all_to_all_single": "all_to_all",
    "broadcast": "broadcast",
    "send": "send",
    "recv": "recv",
}

#: More ranks than any cluster that was trained on; a mesh holds a number for each.
MAX_RANKS = 131_072

_DTYPES = ("", "float32", "bfloat16", "float16", "float64")

#: Modules that hold layers one after the other.
LISTS = (torch.nn.ModuleList, torch.nn.Sequential)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a model is spread over ranks.

    Attributes:
        data: Replicas that shard their weights among them (ZeRO 3, FSDP).
        tensor: Size of a tensor-parallel group.
        sequence: Whether what lies between tensor-parallel operators is divided over the sequence.
        weight_dtype: In which weights are gathered, as PyTorch names it; empty for their own.
        gradient_dtype: In which gradients are reduced; empty for that of the weights.
    """

    data: int = 1
    tensor: int = 1
    sequence: bool = False
    weight_dtype: str = ""
    gradient_dtype: str = ""

    def __post_init__(self) -> None:
        for axis in ("data", "tensor"):
            if getattr(self, axis) < 1:
                raise InvalidInputError(f"{axis} is {getattr(self, axis)}", hint="it must be 1 or more")
        if self.data * self.tensor > MAX_RANKS:
            raise InvalidInputError(
                f"data x tensor is {self.data * self.tensor:,}", hint=f"at most {MAX_RANKS:,} ranks"
            )
        for name in {self.weight_dtype, self.gradient_dtype} - set(_DTYPES):
            raise InvalidInputError(f"{name!r} is no dtype to send", hint=f"one of {', '.join(_DTYPES[1:])}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One collective as one rank issues it.

    Attributes:
        kind: ``all_gather``, ``reduce_scatter``, ``all_reduce``, ``all_to_all``, ``broadcast``, ``send``, ``recv``.
        phase: Forward or backward.
        message_bytes: The whole message: what is gathered, or what is reduced.
        group_size: Ranks that take part.
        group: Axis of the layout: ``data``, ``tensor`` or ``pipeline``.
        dtype: Of the message.
        module: Module that was running.
        position: Operators that were issued before it, for what it may overlap with.
    """

    kind: str
    phase: Phase
    message_bytes: float
    group_size: int
    group: str
    dtype: str
    module: str
    position: int

    @property
    def sent_bytes(self) -> float:
        """What each rank of the group sends if the message goes round a ring.

        Source: Thakur, Rabenseifner & Gropp, "Optimization of Collective Communication Operations in MPICH", 2005.

        >>> Collective(kind="all_reduce", phase=Phase.FORWARD, message_bytes=1000.0, group_size=4, group="data",
        ...            dtype="float32", module="", position=0).sent_bytes
        1500.0
        """
        if self.kind in ("send", "broadcast"):
            return self.message_bytes
        rounds = {"all_reduce": 2, "recv": 0}.get(self.kind, 1)
        return rounds * self.message_bytes * (self.group_size - 1) / self.group_size


def collectives(
    subject: Subject, sizes: Mapping[str, int], layout: Layout, plan: Mapping[str, str] | None = None
) -> tuple[Collective, ...]:
    """Every collective of one training step of rank 0; call it inside ``fake_tensors()``.

    Args:
        subject: Its module is sharded in place and is of no use afterwards.
        sizes: Of one replica's micro-batch.
        layout: How the model is spread.
        plan: For tensor parallelism the name of a style (``colwise``, ``rowwise``, ...) by module path, ``*`` for any
            layer; None for the one that a transformers model brings.

    Raises:
        UnsupportedError: This version of PyTorch was not tried.
        CaptureError: A tensor-parallel layout without a plan, or one that does not fit the model.
    """
    check_version()
    with fake_ranks({axis: getattr(layout, axis) for axis in ("data", "tensor")}) as mesh:
        if layout.tensor > 1:
            own = plan_of(subject) if plan is None else plan
            shard_tensors(subject, mesh["tensor"], own, sequence=layout.sequence)
        if layout.data > 1:
            _shard_weights(subject.module, mesh["data"], layout)
        listener = Listener(mesh)
        module, arguments = subject.module, subject.inputs("train", sizes)
        module.train()
        with listener, WholeOperators(), listener.module_paths(module):
            keywords = isinstance(arguments, Mapping)
            output = module(**arguments) if keywords else module(*arguments)
            loss = subject.loss(output, arguments)
            listener.phase = Phase.BACKWARD
            loss.backward()
        return tuple(listener.found)


def check_version() -> None:
    """See that this PyTorch is one on which the fake process group was tried.

    Raises:
        UnsupportedError: It is not.
    """
    version = torch.__version__.partition("+")[0]
    if version.rpartition(".")[0] not in TRIED_VERSIONS:
        tried = ", ".join(TRIED_VERSIONS)
        raise UnsupportedError(
            f"sharded graphs are read with PyTorch {tried}, not with {version}",
            hint="estimates of parallel training need no PyTorch",
        )
    if not torch.distributed.is_available():
        raise UnsupportedError("this build of PyTorch has no torch.distributed", hint="install one that has")


@contextmanager
def fake_ranks(axes: Mapping[str, int], rank: int = 0) -> Iterator[Any]:
    """A mesh of ranks of which only this one exists."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    world = 1
    for size in axes.values():
        world *= size
    distributed = torch.distributed
    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        with unset_fake_temporarily():  # ranks are numbers that are looked at
            mesh = init_device_mesh("cpu", tuple(axes.values()), mesh_dim_names=tuple(axes))
        with _joined_meshes_are_real():
            yield mesh
    finally:
        distributed.destroy_process_group()


@contextmanager
def _joined_meshes_are_real() -> Iterator[None]:
    """Weights that are sharded over two axes make a mesh of both, whose ranks may not be fake tensors either."""
    from torch.distributed.device_mesh import DeviceMesh

    before = DeviceMesh._concatenate

    def join(meshes: Any) -> Any:
        with unset_fake_temporarily():
            return before(meshes)

    DeviceMesh._concatenate = staticmethod(join)
    try:
        yield
    finally:
        DeviceMesh._concatenate = staticmethod(before)


def _shard_weights(module: Any, mesh: Any, layout: Layout) -> None:
    """ZeRO 3: each layer of the outermost stacks is a unit, what is left is another."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    weight, gradient = (getattr(torch, name) if name else None for name in (layout.weight_dtype, layout.gradient_dtype))
    policy = MixedPrecisionPolicy(param_dtype=weight, reduce_dtype=gradient)
    for layer in _layers(module):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)


def _layers(module: Any) -> list[Any]:
    """Members of the outermost lists of modules that have weights."""
    found: list[str] = []
    for path, child in module.named_modules():
        if isinstance(child, LISTS) and not any(f"{path}.".startswith(f"{other}.") or not other for other in found):
            found.append(path)
    layers = [layer for path in found for layer in module.get_submodule(path)]
    return [layer for layer in layers if next(layer.parameters(), None) is not None]


# Listening.


class Listener(Recorder):
    """Writes down collectives, and counts all other operators."""

    def __init__(self, mesh: Any) -> None:
        super().__init__(torch.nn.Module(), ())
        self.found: list[Collective] = []
        self.issued = 0
        self._axes = {mesh.get_group(axis).group_name: axis for axis in mesh.mesh_dim_names}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator; one on distributed tensors is first taken apart into local ones."""
        from torch.distributed.tensor import DTensor

        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        space, _, name = func._schema.name.partition("::")
        if space in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
            self._collective(func, name, args, kwargs or {}, result)
        else:
            self.issued += 1
        return result

    def _collective(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        kind = _KINDS.get(name.removesuffix("_").removesuffix("_coalesced"))
        if kind is None:
            return  # waiting, barriers
        arguments = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | dict(kwargs)
        tensors = _tensors([*arguments.values(), result])
        largest = max(tensors, key=lambda t: t.numel() * t.element_size())
        group = self._group(arguments)
        name, phase = group.group_name, self.phase
        if kind in ("send", "recv"):  # a schedule runs both passes at once: which way it goes tells them apart
            peer = arguments.get("dst", arguments.get("src"))
            phase = Phase.FORWARD if (peer > group.rank()) is (kind == "send") else Phase.BACKWARD
        self.found.append(
            Collective(
                kind=kind,
                phase=phase,
                message_bytes=float(largest.numel() * largest.element_size()),
                group_size=group.size(),
                group=self._axes.get(name, name),
                dtype=str(largest.dtype).removeprefix("torch."),
                module=self._module(),
                position=self.issued,
            )
        )

    def _group(self, arguments: Mapping[str, Any]) -> Any:
        """The process group: one family of operators has its name, the other the object."""
        if "group_name" in arguments:
            return torch.distributed.distributed_c10d._resolve_process_group(arguments["group_name"])
        return torch.distributed.ProcessGroup.unbox(arguments["process_group"])


def _tensors(tree: Any) -> list[Any]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [t for branch in tree for t in _tensors(branch)] if isinstance(tree, list | tuple) else []


def totals(found: Sequence[Collective]) -> dict[tuple[str, str, str], tuple[int, float]]:
    """Count and bytes by group, kind and phase."""
    counts: Counter[tuple[str, str, str]] = Counter()
    sums: Counter[tuple[str, str, str]] = Counter()
    for one in found:
        key = (one.group, one.kind, one.phase.value)
        counts[key] += 1
        sums[key] += one.message_bytes  # type: ignore[assignment]
    return {key: (count, float(sums[key])) for key, count in counts.items()}
