"""Write the published rows that come with the package, from which a fit of a few rows starts.

    python tools/fit/evidence.py --graphs DIR [--rows 60] [--others 20]

Reads timm.csv in the folder RIGWISE_MEASURED (default ../shared/data/measured) and captured graphs named like its
models. From each device and setting it keeps the rows that tell most about all others, at most so many; what they say
is how far the packaged constants were off, so run it after those were fitted. Writes
src/rigwise/estimate/calibration/evidence-2026-11.toml.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from rigwise.calibrate.file import calibration_text
from rigwise.calibrate.fit import gather
from rigwise.calibrate.shelf import Shelf
from rigwise.calibrate.suggest import design
from rigwise.estimate.calibration import EVIDENCE
from rigwise.estimate.learned import Evidence, Learned
from rigwise.facts.catalogue import resolve_device
from rigwise.measurement.tables import read_tables

TARGET = Path(__file__).parents[2] / "src/rigwise/estimate/calibration" / EVIDENCE
#: The newest version for each task: training was published no later.
VERSIONS = {"infer": "PyTorch 2.4", "train": "PyTorch 1.12"}
#: Rows among which the telling ones are chosen.
MOST_CANDIDATES = 400


def chosen(rows: list[Evidence], count: int) -> list[Evidence]:
    candidates = rows[:: max(1, len(rows) // MOST_CANDIDATES)]
    found = design(candidates, resolve_device(rows[0].device), count)
    return [candidates[index] for index, _ in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=60, help="of each device and setting, eager inference")
    parser.add_argument("--others", type=int, default=20, help="of each other device and setting")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th model only")
    options = parser.parse_args()
    shelf = Shelf(options.graphs)
    measured, _ = read_tables([Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured")) / "timm.csv"])
    names = set(sorted(shelf.names)[:: options.every])
    found = gather([m for m in measured if m.model in names and VERSIONS[m.task] in m.framework], shelf)
    groups: dict[tuple[object, ...], list[Evidence]] = defaultdict(list)
    for row in found.rows:
        groups[row.device, row.regime, row.task].append(row)
    kept = []
    for key, rows in groups.items():
        usual = rows[0].task == "infer" and rows[0].regime.mode == "eager"
        picked = chosen(rows, options.rows if usual else options.others)
        print(f"{len(picked):4} of {len(rows):4} rows: {key}")
        kept += [replace(row, shipped=True) for row in picked]
    learned = Learned(where="", date=datetime.date.today().isoformat(), software=(), scales=(), evidence=tuple(kept))
    source = {"source": "timm benchmark tables (Apache-2.0), the rows that tell most", "rows": len(kept)}
    text = calibration_text(learned, source)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.name}: {len(kept)} rows, {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
