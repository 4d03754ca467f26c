"""Where the job will run: a row of a plan, or this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.edge import parse
from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.facts import catalogue
from rigwise.facts.device import Device
from rigwise.machine.doctor.install import Target, target_of
from rigwise.machine.doctor.types import Facts
from rigwise.machine.this import is_local, resolve_device

PLAN_SCHEMA = "rigwise.plan/1"
#: Text of a plan that stands in comments and names: one line, nothing that a shell or YAML would read otherwise.
_PLAIN = re.compile(r"[\w .,:;/+()\[\]|@%=~-]*")
_TEXT_LIMIT = 200
#: No job of one plan spans more.
_DEVICES_LIMIT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How the plan divides a step; empty where there is no plan."""

    model: str = ""
    dtype: str = ""
    mode: str = ""
    recompute: str = ""
    micro_batch: int = 1
    accumulation: int = 1
    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    zero: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node or several equal ones.

    Attributes:
        of: ``this machine``, or the plan and the rank.
        device, device_name: Catalogue id and name of its accelerators, or of the CPU.
        target: What a build must fit there; without a driver where nobody has looked.
        count, nodes: All accelerators (of a CPU, all nodes), and on how many nodes.
        cpus, memory_bytes: Of one node; None where unknown.
        time_s: How long the job may take, the plan's p90; None without a plan.
        provider, instance, region, market: Of the offer; empty for a machine that is there.
        work: How the step is divided.
        assumed: What had to be assumed.
    """

    of: str
    device: str
    device_name: str
    target: Target
    count: int = 1
    nodes: int = 1
    cpus: int | None = None
    memory_bytes: float | None = None
    time_s: float | None = None
    provider: str = ""
    instance: str = ""
    region: str = ""
    market: str = ""
    work: Work = field(default_factory=Work)
    assumed: tuple[str, ...] = ()

    @property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU to compute on."""
        return bool(self.target.capabilities)

    @property
    def gpus_per_node(self) -> int:
        """NVIDIA GPUs of one node."""
        return self.count // self.nodes if self.has_gpu else 0

    @property
    def processes_per_node(self) -> int:
        """Processes that compute on one node: one for each GPU, one without."""
        return max(1, self.gpus_per_node)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parallel:
    data: int | None = None
    tensor: int = 1
    pipeline: int = 1
    zero: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Time:
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The keys of a plan that an environment depends on."""

    rank: int
    kind: str
    device: str
    count: int
    nodes: int
    time_s: _Time
    provider: str = ""
    instance: str = ""
    region: str = ""
    market: str = ""
    dtype: str = ""
    mode: str = ""
    recompute: str = ""
    micro_batch: int = 1
    accumulation: int = 1
    parallel: _Parallel = field(default_factory=_Parallel)


def place_of_plan(document: Any, where: str, rank: int = 1) -> Place:
    """The place that one plan of a document names.

    Args:
        document: What ``rigwise plan --json`` writes, as plain objects.
        where: Its name, for messages.
        rank: Which plan, 1 for the best.

    Raises:
        InvalidInputError: It is no plan of this version, has no such rank, or a value cannot be used.
        UnknownNameError: Its device is not in the catalogue.
        UnsupportedError: There are no tables of builds for its device.
    """
    row = _row(document, where, rank)
    # a plan is data of others: it may name a device or this machine's, and no file to read one from
    device = catalogue.resolve_device(row.device) if is_local(row.device) else resolve_device(row.device)
    nodes, count = row.nodes, row.count
    if nodes < 1 or not nodes <= count <= _DEVICES_LIMIT or count % nodes:
        raise InvalidInputError(f"{where}: {count} devices on {nodes} nodes", hint="a multiple of the nodes is needed")
    cpus, memory_bytes = _node_of(row)
    job = document.get("job") if isinstance(document.get("job"), Mapping) else {}
    parallel = row.parallel
    return Place(
        of=f"plan {rank} of {_printable(where)}", device=device.id, device_name=device.name,
        target=_target_of_device(device), count=count, nodes=nodes, cpus=cpus, memory_bytes=memory_bytes,
        time_s=_positive_s(row.time_s.p90, where), provider=row.provider, instance=row.instance, region=row.region,
        market=row.market, work=Work(
            model=_plain(str(job.get("model") or ""), where), dtype=row.dtype, mode=row.mode, recompute=row.recompute,
            micro_batch=row.micro_batch, accumulation=row.accumulation, data=parallel.data or 1,
            tensor=parallel.tensor, pipeline=parallel.pipeline, zero=parallel.zero,
        ),
    )  # fmt: skip


def _row(document: Any, where: str, rank: int) -> _Row:
    """The plan of a rank, with the keys that are used here, checked."""
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if schema != PLAN_SCHEMA:
        found = f"has schema {str(schema)[:60]!r}" if schema else "has no schema"
        raise InvalidInputError(f"{where} {found}, not {PLAN_SCHEMA!r}", hint="write it with rigwise plan --output")
    plans = document.get("plans")
    if not isinstance(plans, list) or not all(isinstance(plan, Mapping) for plan in plans):
        raise InvalidInputError(f"{where}: plans is no list of plans")
    if not plans:
        raise InvalidInputError(f"{where} holds no plan", hint="nothing kept its limits; loosen them and plan again")
    chosen = next((plan for plan in plans if plan.get("rank") == rank), None)
    if chosen is None:
        ranks = ", ".join(str(plan.get("rank")) for plan in plans[:8])
        raise InvalidInputError(f"{where} has no plan of rank {rank}", hint=f"it has {ranks}")
    known = _Row.__dataclass_fields__
    used = {key: value for key, value in chosen.items() if key in known and value is not None}
    for key, inner in (("time_s", _Time), ("parallel", _Parallel)):
        if isinstance(used.get(key), Mapping):
            used[key] = {name: value for name, value in used[key].items() if name in inner.__dataclass_fields__}
    row = parse(used, _Row, f"{where}: plan {rank}")
    for name in ("provider", "instance", "region", "market", "dtype", "mode", "recompute", "device"):
        _plain(getattr(row, name), where)
    return row


def _plain(text: str, where: str) -> str:
    """The text, if it may stand in a comment and a name."""
    if len(text) > _TEXT_LIMIT or not _PLAIN.fullmatch(text):
        raise InvalidInputError(
            f"{where[:60]!r}: {text[:40]!r} cannot stand in a file", hint="plain words are expected"
        )
    return text


def _printable(text: str) -> str:
    """The text on one line, without what could end a comment."""
    return re.sub(r"[^\w .,:;/+()@-]", " ", text)[:_TEXT_LIMIT]


def _positive_s(time_s: float, where: str) -> float:
    if not 0 < time_s < 1e10:
        raise InvalidInputError(f"{where}: time_s.p90 is {time_s:g}", hint="seconds above 0 are expected")
    return time_s


def _node_of(row: _Row) -> tuple[int | None, float | None]:
    """CPUs and memory of one instance, by the newest offer of its name."""
    offers = [
        offer
        for offer in catalogue.offers()
        if (offer.provider, offer.instance) == (row.provider, row.instance) and row.instance
    ]
    newest = max(offers, key=lambda offer: (offer.region == row.region, offer.as_of), default=None)
    cpus = int(newest.vcpus) if newest and newest.vcpus else None
    return cpus, newest.memory_bytes if newest else None


def _target_of_device(device: Device) -> Target:
    """What a build must fit on a machine with this device that nobody has looked at."""
    if device.compute_capability:
        return Target(capabilities=(device.compute_capability,))
    if device.kind == "cpu":
        return Target()
    raise UnsupportedError(
        f"which builds run on {device.name} is in no table", hint="environments are resolved for NVIDIA GPUs and CPUs"
    )


def place_of_device(name: str) -> Place:
    """One device of the catalogue, on a machine that nobody has looked at.

    Raises:
        UnknownNameError, AmbiguousNameError: No device, or several, have the name.
        UnsupportedError: There are no tables of builds for it.
    """
    device = catalogue.resolve_device(name)
    target = _target_of_device(device)
    return Place(of="as named by its device", device=device.id, device_name=device.name, target=target)


def place_of_machine(facts: Facts) -> Place:
    """The machine of these facts, one node, with all its NVIDIA GPUs."""
    target = target_of(facts)
    gpus = facts.rows("gpus")
    others = sorted({str(gpu["vendor"]) for gpu in gpus if gpu.get("vendor") not in (None, "NVIDIA")})
    nvidia = [gpu for gpu in gpus if "compute_capability" in gpu]
    names = sorted({str(gpu.get("name", "NVIDIA GPU")) for gpu in nvidia})
    cpus, memory_bytes = facts.get("limits.usable_cpus"), facts.get("memory.total_bytes")
    name = " and ".join(names) or facts.text("cpu.name") or "CPU"
    return Place(
        of="this machine", device="", device_name=_printable(name), target=target,
        count=len(nvidia) or max(1, target.cards), cpus=int(cpus) if cpus else None,
        memory_bytes=float(memory_bytes) if memory_bytes else None,
        assumed=tuple(f"the GPU of {vendor} here is left out: no table of builds for it" for vendor in others),
    )  # fmt: skip
