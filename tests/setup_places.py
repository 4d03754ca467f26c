"""Places and plans that the tests of rigwise setup share."""

import copy
import json

from rigwise.sandbox.environment import Wish
from rigwise.sandbox.place import Place, place_of_device, place_of_plan
from rigwise.sandbox.targets import Extra, render, setting_of

PLAN = {
    "schema": "rigwise.plan/1",
    "job": {"model": "resnet50"},
    "plans": [
        {
            "rank": 1, "kind": "rent", "provider": "aws", "instance": "g4dn.12xlarge", "region": "us-east-1",
            "market": "spot", "device": "t4", "count": 4, "nodes": 1, "dtype": "amp-fp16", "mode": "compiled",
            "micro_batch": 32, "accumulation": 1, "recompute": "none",
            "time_s": {"p10": 3000.0, "p50": 3300.0, "p90": 3601.0}, "why": ["it is the cheapest"],
            "parallel": {"data": 4, "tensor": 1, "pipeline": 1, "zero": 3, "schedule": "1f1b"},
        },
        {
            "rank": 2, "kind": "rent", "provider": "lambda", "instance": "gpu_8x_h100_sxm5", "region": "us-east-1",
            "market": "on-demand", "device": "h100-sxm5-80gb", "count": 16, "nodes": 2, "dtype": "amp-bf16",
            "mode": "eager", "micro_batch": 8, "recompute": "full", "time_s": {"p90": 86_400.0},
            "parallel": {"data": 16, "zero": 2},
        },
    ],
}  # fmt: skip


def plan(**changes: object) -> dict:
    """The plan with keys of its best row replaced."""
    document = copy.deepcopy(PLAN)
    document["plans"][0].update(changes)
    return document


def places() -> dict[str, Place]:
    """One GPU, four on a node, two nodes, a CPU, two of them, and the oldest GPU in the tables."""
    several = place_of_device("epyc-7742")
    return {
        "one": place_of_device("rtx-4090"),
        "node": place_of_plan(PLAN, "plan.json"),
        "nodes": place_of_plan(PLAN, "plan.json", 2),
        "cpu": several,
        "cpus": Place(
            of="two machines", device="epyc-7742", device_name="EPYC 7742", target=several.target, count=2, nodes=2
        ),
        "old": place_of_device("tesla-k80-per-gpu"),
    }  # fmt: skip


def files_of(target: str, place: Place, wish: Wish | None = None, extra: Extra | None = None) -> dict[str, str]:
    """The files of a target at a place."""
    return render(target, setting_of(target, place, wish or Wish(), extra or Extra()))


def written(document: dict, folder) -> str:
    """The path of a plan file."""
    path = folder / "plan.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)
