"""What a plan, or the flags of a case, ask to be run: the case to predict, the place, how many ranks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rigwise.edge import parse, parse_json, read_text
from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.launch.commands import is_torchrun, starts_ranks
from rigwise.launch.hooks import usable_cores
from rigwise.machine.this import resolve_device
from rigwise.workload.case import Case, Parallel

PLAN_SCHEMA = "rigwise.plan/1"
ON = ("local", "torchrun", "slurm", "ray", "skypilot", "dstack")
CLOUDS = ("skypilot", "dstack")
#: How many threads a process of OpenMP has, and so PyTorch.
THREADS = "OMP_NUM_THREADS"
_MOST_THREADS = 10_000
#: What of a plan's entry is kept with the run.
_KEPT = ("rank", "kind", "provider", "instance", "region", "market", "device", "count", "nodes", "dtype", "mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be run.

    Attributes:
        case: The question to predict; None where no model is named.
        on: The place.
        ranks, nodes: Processes, and computers they stand in.
        plan: The plan's entry, empty without one.
        checkpoint_s: Work between two checkpoints; None where nobody says.
        threads: Of each rank on a CPU; None for as many as there are cores.
        notes: Sentences for the end.
    """

    case: Case | None = None
    on: str = "local"
    ranks: int = 1
    nodes: int = 1
    plan: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_s: float | None = None
    threads: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs that each node has to give."""
        if self.case is None or resolve_device(self.case.device).kind == "cpu":
            return 0
        return self.ranks // self.nodes


def from_plan(path: str, rank: int, on: str | None, device: str | None) -> Asked:
    """What an entry of a plan asks.

    Args:
        path: What ``rigwise plan --json`` printed.
        rank: Which entry.
        on: The place; None takes the one that the plan means.
        device: Predict for this device instead: ``this``, say.

    Raises:
        InvalidInputError: The file is no plan of this version, has no such entry, or its place must be named.
        UnsupportedError: It is a plan of another kind.
        UnknownNameError: The catalogue has no such device any more.
    """
    document = parse_json(read_text(path), path)
    entry, job = _entry(document, path, rank)
    planned = resolve_device(str(entry["device"]))
    is_here = entry["kind"] == "own"
    if on is None and not is_here:
        words = f"{entry['count']} x {entry['device']} at {entry['provider']}"
        raise InvalidInputError(
            f"the plan rents {words}: where is that?",
            hint="--on skypilot, dstack, slurm or ray; --on local runs it here",
        )
    place = on or "local"
    case = _case(entry, job, path)
    notes: tuple[str, ...] = ()
    if device is not None:
        case = replace(case, device=resolve_device(device).id if device != "this" else "this")
    elif place in ("local", "torchrun"):
        here = resolve_device("this")
        if here.id != planned.id and is_here and on is None:
            raise InvalidInputError(
                f"the plan is for {planned.id}, this machine shows {here.id}",
                hint="plan again, or --device this to compare with what is here",
            )
        if here.id != planned.id:
            case = replace(case, device="this")
            notes = (f"The plan is for {entry['count']} x {planned.id}; what is predicted here is {here.id}.",)
    return Asked(
        case=case,
        on=place,
        ranks=case.count,
        nodes=case.nodes,
        plan={key: entry[key] for key in _KEPT if key in entry},
        checkpoint_s=_checkpoint_s(entry, job),
        notes=notes,
    )


def _entry(document: Any, path: str, rank: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != PLAN_SCHEMA:
        name = str(schema)[:60]
        if isinstance(schema, str) and schema.startswith("rigwise.plan"):
            kind = {"rigwise.plan.staged/1": "of stages", "rigwise.plan.serving/1": "of a serving fleet"}.get(schema)
            if kind:
                raise UnsupportedError(f"{path} is a plan {kind}", hint="run takes the plan of one job: rigwise.plan/1")
            raise InvalidInputError(f"{path} is a plan of another version: {name}", hint="rigwise plan ... --json")
        raise InvalidInputError(f"{path} is no plan: schema {name}", hint="rigwise plan ... --json prints one")
    plans, job = document.get("plans"), document.get("job")
    if not isinstance(plans, list) or not isinstance(job, dict) or not plans:
        raise InvalidInputError(f"{path} holds no plan", hint="nothing kept the limits of the job?")
    found = next((one for one in plans if isinstance(one, dict) and one.get("rank") == rank), None)
    if found is None:
        raise InvalidInputError(f"{path} has no plan of rank {rank}", hint=f"it has 1 to {len(plans)}")
    missing = [key for key in ("kind", "provider", "device", "count", "nodes") if key not in found]
    if missing:
        raise InvalidInputError(f"{path}: plans.{rank - 1}.{missing[0]} is missing")
    if found["kind"] == "mixed" or found["kind"] == "buy":
        raise UnsupportedError(f"{path}: rank {rank} is to be bought", hint="--rank names another")
    return found, job


def _case(entry: Mapping[str, Any], job: Mapping[str, Any], path: str) -> Case:
    names = ("model", "task", "batch", "seq", "image_size", "context", "method", "lora_rank", "optimizer")
    from_job = {key: job[key] for key in names if job.get(key) is not None}
    if "batch" not in from_job and entry.get("micro_batch"):
        parallel = entry.get("parallel") or {}
        from_job["batch"] = entry["micro_batch"] * entry.get("accumulation", 1) * (parallel.get("data") or 1)
    from_entry = {key: entry[key] for key in ("device", "count", "nodes", "dtype", "layout", "mode", "recompute")}
    parallel = parse(entry.get("parallel") or {}, Parallel, f"{path}: parallel")
    return parse({**from_job, **from_entry, "parallel": parallel}, Case, path)


def _checkpoint_s(entry: Mapping[str, Any], job: Mapping[str, Any]) -> float | None:
    """The interval that the plan's price counts with: only spot capacity has one."""
    if entry.get("market") != "spot":
        return None
    from rigwise.facts.catalogue import offers
    from rigwise.facts.interruption import InterruptionOverride
    from rigwise.market.spot import ASSUMED, checkpoint_interval_s, interruption_of, overridden

    keys = ("provider", "instance", "region")
    same = (one for one in offers() if all(getattr(one, key) == entry.get(key) for key in keys))
    offer = next(same, None)
    known = interruption_of(offer) if offer is not None else ASSUMED
    given = job.get("interruption")
    own = parse(given, InterruptionOverride, "job.interruption") if given else InterruptionOverride()
    return float(checkpoint_interval_s(overridden(known, own), entry["nodes"]))


def here_together(
    asked: Asked,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    threads: int | None = None,
    words: Sequence[str] = (),
) -> Asked:
    """With how many threads each rank on a CPU will run, which is what is predicted.

    What is asked for goes first, then what the environment says. Ranks that are started here get their part of the
    cores; torchrun gives one thread to each of several, Ray one to each, and Slurm what its job asks for.

    Args:
        asked: With or without a case.
        command: What is run.
        environment: It is started with.
        threads: That the user asks for.
        words: For ``sbatch``.

    Raises:
        InvalidInputError: So many cannot be, or they are for a place that only files are written for.
    """
    if threads is not None and asked.on in CLOUDS:
        raise InvalidInputError(f"--threads is not for {asked.on}", hint="set OMP_NUM_THREADS in the command")
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise InvalidInputError(f"--threads {threads}", hint=f"1 to {_MOST_THREADS}")
    found = threads or _threads_in(environment)
    if found is None and not asked.gpus and asked.on not in CLOUDS:
        found = _usual_threads(asked, command, words)
    case = asked.case
    if case is not None and resolve_device(case.device).kind == "cpu":
        case = replace(case, threads=found)
    return replace(asked, case=case, threads=found)


def _threads_in(environment: Mapping[str, str]) -> int | None:
    """What the variable of OpenMP says, of the outermost of its levels."""
    first = environment.get(THREADS, "").partition(",")[0].strip()
    return (int(first) or None) if re.fullmatch(r"[0-9]{1,6}", first) else None


def _usual_threads(asked: Asked, command: Sequence[str], words: Sequence[str]) -> int | None:
    """Threads of each rank where nobody says; None where the whole of what is there is one rank's.

    Source: PyTorch, ``torch/distributed/run.py``, OMP_NUM_THREADS; Ray, "Configuring Ray", OMP_NUM_THREADS.
    """
    several = asked.ranks > asked.nodes
    if asked.on == "ray":
        return 1
    if asked.on == "slurm":
        return 1 if several else _cpus_per_task(words)
    if several and starts_ranks(command):
        return 1 if is_torchrun(command) else None
    return max(1, usable_cores() // asked.ranks) if several else None


def _cpus_per_task(words: Sequence[str]) -> int | None:
    """What a job of Slurm asks for: it has one task on each node.

    >>> _cpus_per_task(["--partition=cpu", "--cpus-per-task=8"]), _cpus_per_task(["-c", "4"]), _cpus_per_task([])
    (8, 4, None)
    """
    found = re.search(r"(?:^|\s)(?:--cpus-per-task[= ]|-c *)([0-9]{1,6})(?:\s|$)", " ".join(words))
    return (int(found[1]) or None) if found else None


def case_document(case: Case | None) -> dict[str, Any]:
    """A case as plain JSON."""
    from rigwise.edge import as_plain

    document: dict[str, Any] = {} if case is None else as_plain(case)
    return document


def is_plan(path: str) -> bool:
    """Whether a word on the command line means a plan and not a program.

    >>> is_plan("plan.json"), is_plan("python")
    (True, False)
    """
    return path.endswith(".json") and Path(path).suffix == ".json"


def plain(value: Any) -> Any:
    """What JSON makes of a value."""
    return json.loads(json.dumps(value))
