"""Write docs/reference/executed.md from src/rigwise/facts/data/executed.toml.

python tools/build_executed.py
"""

from __future__ import annotations

from pathlib import Path

from rigwise.facts.executed import LEVELS, rows

PATH = Path(__file__).parents[1] / "docs" / "reference" / "executed.md"
HEAD = f"""# What has been executed

rigwise describes many machines that its tests cannot run on. This table says, for each part that touches the outside, how far it
has been tried: {" < ".join(LEVELS)}. A row that was never executed says so in the output
of the command itself. The page is written from `facts/data/executed.toml` by `tools/build_executed.py`.

| part | level | on what | when |
|---|---|---|---|
"""


def text() -> str:
    return HEAD + "".join(f"| {row.part} | {row.level} | {row.on} | {row.when} |\n" for row in rows())


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
