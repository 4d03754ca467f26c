"""What gpuhunt lists first. Run by the Python of an environment that has ``gpuhunt``; see bench_choice.py.

    python gpuhunt_choice.py QUERY.json

The query holds ``offers`` (cloud, instance, region, device, count, usd_per_h, memory in GiB of one device), the
``least_memory_gib`` of all devices together, and ``repeats``. The offers are written as gpuhunt's own files in a
temporary folder; nothing is fetched. Printed: one JSON document.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: Its names of clouds that are called otherwise here.
NAMES = {"lambda": "lambdalabs"}


def write_catalogue(folder: Path, offers: list[dict[str, Any]]) -> None:
    """One file for each provider that it reads offline, empty for those without an offer."""
    from gpuhunt._internal.catalog import OFFLINE_PROVIDERS
    from gpuhunt._internal.storage import CATALOG_V2_FIELDS

    for provider in OFFLINE_PROVIDERS:
        with (folder / f"{provider}.csv").open("w", newline="", encoding="utf-8") as stream:
            rows = csv.DictWriter(stream, CATALOG_V2_FIELDS)
            rows.writeheader()
            for o in sorted(offers, key=lambda offer: float(offer["usd_per_h"])):  # as its own files are
                if NAMES.get(o["cloud"], o["cloud"]) == provider:
                    rows.writerow(
                        {
                            "instance_name": o["instance"],
                            "location": o["region"] or "any",
                            "price": o["usd_per_h"],
                            "cpu": int(o["vcpus"] or 8),
                            "memory": o["memory_gib"] or 32,
                            "gpu_count": o["count"],
                            "gpu_name": o["device"],
                            "gpu_memory": o["device_memory_gib"],
                            "spot": False,
                            "disk_size": "",
                            "gpu_vendor": o["vendor"],
                            "flags": "",
                            "cpu_arch": "x86",
                            "provider_data": "{}",
                        }
                    )


def main() -> None:
    query = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    started = time.process_time()
    import gpuhunt
    from gpuhunt.version import __version__

    imported_s = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(Path(folder), query["offers"])
        os.environ["GPUHUNT_CATALOG_DIR"] = folder
        times = []
        for _ in range(query["repeats"]):
            started = time.process_time()
            found = gpuhunt.Catalog(balance_resources=False, auto_reload=False).query(
                min_gpu_count=1, min_total_gpu_memory=query["least_memory_gib"], spot=False
            )
            times.append(time.process_time() - started)
    first = found[0]
    back = {ours: here for here, ours in NAMES.items()}
    answer = {
        "import_s": imported_s,
        "answer_s": times,
        "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": __version__,
        "cloud": back.get(first.provider, first.provider),
        "instance": first.instance_name,
        "region": first.location,
        "device": first.gpu_name,
        "count": first.gpu_count,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
