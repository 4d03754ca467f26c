"""Compile the facts under ``src/rigwise/facts/data`` to the one file that rigwise reads.

    python tools/build_catalogue.py            write catalogue.json
    python tools/build_catalogue.py --check    exit 1 if it is not current

A fault in the data is one line that names the file and the key.
"""

from __future__ import annotations

import sys

from rigwise.edge import read_text, write_atomically
from rigwise.errors import RigwiseError
from rigwise.facts.catalogue import DATA
from rigwise.facts.data_files import compile_catalogue


def main(arguments: list[str]) -> int:
    target = DATA / "catalogue.json"
    try:
        text = compile_catalogue(DATA)
    except RigwiseError as error:
        print(f"build_catalogue: {error}", file=sys.stderr)
        return 1
    if "--check" in arguments:
        current = target.exists() and read_text(target) == text
        print(f"{target.name} is {'current' if current else 'stale; run python tools/build_catalogue.py'}")
        return 0 if current else 1
    write_atomically(target, text)
    print(f"wrote {target.name}, {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
