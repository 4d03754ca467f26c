"""The figures of a run as records of the store of measurements.

A step is kept in the form that ``judge`` and ``calibrate`` read if it measures what was predicted: the run has
finished, and the step neither waited for input, nor was throttled, had its cores and used them all, and has the batch
and the runtime of the case.
"""

from __future__ import annotations

import json
from dataclasses import replace

from rigwise.launch.folder import FINISHED
from rigwise.launch.result import Result
from rigwise.measurement.records import Record, Tag, machine_id, now

#: A figure of fewer steps says little.
LEAST_STEPS = 5


def records(result: Result, snapshot: str) -> tuple[Record, ...]:
    """One record for each figure.

    Args:
        result: Of one run.
        snapshot: JSON text of the machine, as ``rigwise inspect --json`` prints it.

    Raises:
        InvalidInputError: The snapshot is no JSON object.
    """
    found = result.measured
    if found.samples < LEAST_STEPS:
        return ()
    status = status_of(result)
    tags = _tags(result, status)
    label = str(tags.get("model") or tags.get("workload") or "command")
    step = Record(
        kind="run",
        name=f"step.{label}"[:200],
        value=found.step_time_s["p50"],
        unit="s",
        p10=found.step_time_s["p10"],
        p90=found.step_time_s["p90"],
        n=found.samples,
        machine_id=machine_id(snapshot),
        snapshot=snapshot,
        software=json.dumps({key: str(value) for key, value in sorted(found.facts.items())}),
        when=now(),
        tags=tags,
    )
    others = {
        "memory": (found.memory_bytes, "B"),
        "gpu-memory": (found.gpu_bytes, "B"),
        "input-wait": (found.wait_frac, ""),
    }
    others["energy"] = (result.energy.get("energy_j"), "J")
    shared = {key: value for key, value in tags.items() if key != "model"} | {"workload": label}
    kept = [step]
    for name, (value, unit) in others.items():
        if value is not None:
            kept.append(
                replace(
                    step, name=f"{name}.{label}"[:200], value=value, unit=unit, p10=None, p90=None, n=1, tags=shared
                )
            )
    return tuple(kept)


def status_of(result: Result) -> str:
    """``ok``, or why the step is not what was predicted."""
    if result.state.phase != FINISHED:
        return result.state.phase
    if result.throttled:
        return "throttled"
    if result.input_bound:
        return "input-bound"
    if result.crowded:
        return "busy"
    if result.idle_cores:
        return "some of the cores"
    case = result.predicted.get("case") or {}
    if result.measured.ranks > case.get("count", result.measured.ranks):
        return "several ranks on one CPU"
    if case.get("runtime", "torch") != "torch":
        return "another runtime"
    return "another batch" if result.other_batch else "ok"


def _tags(result: Result, status: str) -> dict[str, Tag]:
    case, state = result.predicted.get("case") or {}, result.state
    tags: dict[str, Tag] = {"run": state.id, "status": status, "ranks": result.measured.ranks}
    if not case:
        return {**tags, "workload": _name(state.command), "device": "this"}
    compiled = result.measured.facts.get("compiled", case["mode"] == "compiled")
    version = str(result.measured.facts.get("torch", "")).partition("+")[0]
    framework = f"PyTorch {version} " if version else ""
    shape = f"3x{case['image_size']}x{case['image_size']}" if case.get("image_size") else ""
    shape = shape or (f"seq {case['seq']}" if case.get("seq") else "")
    notes = [f"optimizer={case['optimizer']}"] if case.get("optimizer") not in (None, "none") else []
    notes += ["no optimizer"] if case.get("optimizer") == "none" else []
    notes += ["act_ckpt=True"] if case.get("recompute") == "full" else []
    named = {"model" if status == "ok" else "workload": _network(case["model"])}
    named |= {"device": result.predicted["device"], "count": case["count"], "task": case["task"]}
    named |= {
        "precision": case.get("dtype") or "fp32",
        "layout": case["layout"],
        "batch": case["batch"],
        "shape": shape,
    }
    named |= {"framework": f"{framework}{'torch.compile' if compiled else 'eager'}", "notes": "; ".join(notes)}
    return {**tags, **{key: value for key, value in named.items() if value != ""}}


def _network(word: str) -> str:
    """What tables call a MODEL: of a captured graph the name of its file, as ``calibrate --graphs`` looks for it.

    >>> _network("graphs/mine.rwg"), _network("resnet18")
    ('mine', 'resnet18')
    """
    return word.replace("\\", "/").rpartition("/")[2].removesuffix(".rwg") if word.endswith(".rwg") else word


def _name(command: tuple[str, ...]) -> str:
    """What to call a command: its script, else its program, without the folder.

    >>> _name(("python", "-u", "/home/me/train.py", "--lr", "0.1"))
    'train.py'
    """
    script = next((word for word in command if word.endswith((".py", ".sh"))), command[0])
    return script.replace("\\", "/").rpartition("/")[2][:100] or "command"
