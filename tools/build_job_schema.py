"""Write docs/reference/job.schema.json, the schema of job files, from the tables that are read.

python tools/build_job_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from rigwise.workload.job_schema import job_schema

PATH = Path(__file__).parents[1] / "docs" / "reference" / "job.schema.json"


def text() -> str:
    return json.dumps(job_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
