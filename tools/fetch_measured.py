"""Rebuild the folder of measured tables from its public sources.

    python tools/fetch_measured.py FOLDER [--table timm] [--mirror http://127.0.0.1:8000]

``measured_sources.toml`` says where each table lies and under which licence, ``measured/`` how its rows are
extracted. Rows that predictions are judged on elsewhere are dropped (``measured/held_out.py``). Columns:
docs/reference/measurements.md. A file that is missing or not of the known form is named and skipped; the exit
code is then 1. With ``--mirror`` the same paths are read from another server.

Only tables that their makers publish as plain files are covered: timm, cnn-benchmarks, llm-foundry.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from measured import cnn_benchmarks, llm_foundry, timm
from measured.held_out import is_held_out
from measured.row import COLUMNS, Row

EXTRACT: Mapping[str, Callable[[str, str], list[Row]]] = {
    "timm": timm.rows_of,
    "cnn-benchmarks": cnn_benchmarks.rows_of,
    "llm-foundry": llm_foundry.rows_of,
}

SOURCES = Path(__file__).parent / "measured_sources.toml"
_LIMIT_BYTES = 32 * 2**20
_TIMEOUT_S = 30


def read_url(url: str) -> str:
    """The text of a file on a server; only https, or a mirror on this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise ValueError(f"{url} is not https")
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
        content = response.read(_LIMIT_BYTES + 1)
    if len(content) > _LIMIT_BYTES:
        raise ValueError(f"{url} has over {_LIMIT_BYTES:,} bytes")
    return content.decode("utf-8")


def url_of(template: str, table: Mapping[str, Any], path: str, mirror: str) -> str:
    """Where a file lies; on a mirror under the same path."""
    quoted = {key: urllib.parse.quote(str(table[key])) for key in ("repository", "revision")}
    url = template.format(path=urllib.parse.quote(path), **quoted)
    return mirror.rstrip("/") + urllib.parse.urlsplit(url).path if mirror else url


def fetch(table: Mapping[str, Any], template: str, mirror: str) -> Iterator[Row | str]:
    """Rows of one entry of the sources that are not held out; a string for each file that failed."""
    for path in table["paths"]:
        try:
            rows = EXTRACT[table["name"]](path, read_url(url_of(template, table, path, mirror)))
        except (OSError, ValueError, urllib.error.URLError) as error:
            yield f"{table['repository']}/{path}: {error}"
            continue
        for row in rows:
            if not is_held_out(row):
                yield {**row, "repo_path": f"{table['repository']}/{path}"}


def write_table(folder: Path, name: str, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / f"{name}.csv").write_text(text.getvalue(), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", choices=sorted(EXTRACT), help="only this one")
    parser.add_argument("--mirror", default="", help="another server with the same paths")
    parser.add_argument("--sources", type=Path, default=SOURCES)
    options = parser.parse_args(arguments)
    sources = tomllib.loads(options.sources.read_text(encoding="utf-8"))
    rows: dict[str, list[Row]] = {}
    failed = 0
    for table in sources["table"]:
        if options.table in (None, table["name"]):
            for found in fetch(table, sources["url"], options.mirror):
                if isinstance(found, str):
                    print(f"skipped {found}", file=sys.stderr)
                    failed += 1
                else:
                    rows.setdefault(table["name"], []).append(found)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, members in rows.items():
        write_table(options.folder, name, members)
        print(f"{name}: {len(members):,} rows")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
