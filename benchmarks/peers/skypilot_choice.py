"""What SkyPilot's optimizer chooses. Run by the Python of an environment that has ``skypilot``; see bench_choice.py.

    python skypilot_choice.py QUERY.json

The query holds ``offers`` (cloud, instance, region, device, count, usd_per_h), ``seconds`` by "device x count"
(what a job takes there, or nothing) and ``repeats``. The catalogue is written in SkyPilot's v8 format under a
temporary home, the clouds are entered in its own state as enabled, and nothing is fetched. Printed: one JSON document.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COLUMNS = (
    "InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "Price", "Region", "GpuInfo",
    "SpotPrice",
)  # fmt: skip
#: Clouds whose tables have a column of zones; it drops rows where that column stands and is blank.
ZONED = ("aws",)


def write_catalogue(home: Path, offers: list[dict[str, Any]]) -> list[str]:
    """One table for each cloud, in SkyPilot's columns."""
    folder = home / ".sky" / "catalogs" / "v8"
    clouds = sorted({offer["cloud"] for offer in offers})
    (folder / "common").mkdir(parents=True)
    with (folder / "common" / "accelerators.csv").open("w", newline="", encoding="utf-8") as stream:
        names = csv.writer(stream)
        names.writerow(["AcceleratorName", "Clouds"])
        names.writerows([device, ""] for device in sorted({offer["device"] for offer in offers}))
    for cloud in clouds:
        (folder / cloud).mkdir(parents=True)
        with (folder / cloud / "vms.csv").open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow([*COLUMNS, *(["AvailabilityZone"] if cloud in ZONED else [])])
            for o in offers:
                if o["cloud"] == cloud:
                    size = (o["vcpus"] or 8, o["memory_gib"] or 32)
                    kind = (o["instance"], o["device"], o["count"], *size, o["usd_per_h"], o["region"] or "any")
                    rows.writerow([*kind, "", "", *([f"{o['region']}a"] if cloud in ZONED else [])])
    return clouds


def main() -> None:
    query = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        os.environ["HOME"] = name
        os.environ["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"
        clouds = write_catalogue(Path(name), query["offers"])
        with contextlib.redirect_stdout(io.StringIO()):  # what it prints while it searches
            found = choice(query, clouds)
        print(json.dumps(found))


def choice(query: dict[str, Any], clouds: list[str]) -> dict[str, Any]:
    """SkyPilot's answer, with the seconds it took."""
    started = time.process_time()
    import sky
    from sky import global_user_state, skypilot_config
    from sky.clouds import cloud as sky_cloud
    from sky.optimizer import Optimizer
    from sky.utils import common, registry

    imported_s = time.process_time() - started
    found = [str(registry.CLOUD_REGISTRY.from_str(name)) for name in clouds]
    workspace = skypilot_config.get_active_workspace()
    from sky import check

    global_user_state.set_allowed_clouds(check._get_workspace_allowed_clouds(workspace), workspace)
    global_user_state.set_enabled_clouds(found, sky_cloud.CloudCapability.COMPUTE, workspace)
    pairs = sorted({(offer["device"], offer["count"]) for offer in query["offers"]})
    seconds = query["seconds"]

    def ask() -> Any:
        with sky.Dag() as dag:
            task = sky.Task("job", run="true")
            task.set_resources({sky.Resources(accelerators={device: count}) for device, count in pairs})
            if seconds:
                task.set_time_estimator(lambda r: seconds[" x ".join(map(str, *dict(r.accelerators).items()))])
        Optimizer.optimize(dag, minimize=common.OptimizeTarget.COST, quiet=True)
        return dag.tasks[0].best_resources

    times = []
    for _ in range(query["repeats"]):
        started = time.process_time()
        best = ask()
        times.append(time.process_time() - started)
    ((device, count),) = best.accelerators.items()
    return {
        "import_s": imported_s,
        "answer_s": times,
        "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": sky.__version__,
        "cloud": str(best.cloud).lower(),
        "instance": best.instance_type,
        "region": best.region,
        "device": device,
        "count": count,
    }


if __name__ == "__main__":
    main()
