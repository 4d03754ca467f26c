"""Run the commands of README.md and the documentation, and write what they print below them.

    python tools/refresh_readme.py [--check] [PAGE ...]
    python tools/refresh_readme.py --pictures            the pictures of README.md, from the same commands

What stands below a command of a ``console`` block is written anew, unless the comment above the block says that it is not run
or that it varies; see ``doc_blocks.py``. A page that names the day of its answers gets today's. With --check nothing is
written, answers are those of the page's day, and the exit code is 1 if a page is out of date or a block does not run.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from doc_blocks import PRINTED_ON, ROOT, Block, pages, same
from doc_run import Page, in_process

#: Pictures of the README, each in both themes: what it is called and what draws it.
PICTURES = {"plan": ("plan", "resnet50", "--samples", "128e6", "--deadline", "12h")}
#: Flat colours need no more, and a page with smaller pictures opens sooner.
COLOURS = 64


def written(block: Block, printed: list[str | None]) -> str:
    """The body of a ``console`` block with what its commands printed; ``None`` leaves what is there, and so do lines of ``...``."""
    parts = re.split(r"^(?=\$ )", block.body, flags=re.M)
    for number, (part, text) in enumerate(zip(parts[1:], printed, strict=True), 1):
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = f"{command}\n{more}"
        if text is not None and shown.strip() and "...\n" not in shown and not same(shown.strip("\n"), text):
            parts[number] = f"{command}\n{text}\n" + ("\n" if shown.endswith("\n\n") else "")
    return "".join(parts)


def refreshed(page: Page) -> tuple[str, list[str]]:
    """The page as it should stand today, and what does not run."""
    page.day = datetime.datetime.now(datetime.UTC).date()
    wrong = [fault for _, _, faults in page.run() for fault in faults if "\nexit code " in fault]
    text = page.text
    for block in reversed(page.blocks):
        if block.language == "console" and block.start in page.fresh:
            body = re.sub(r"^(?=.)", block.indent, written(block, page.fresh[block.start]), flags=re.M)
            text = (
                text[: block.start]
                + body
                + text[block.start + len(re.sub(r"^(?=.)", block.indent, block.body, flags=re.M)) :]
            )
    return PRINTED_ON.sub(f"<!-- printed on {page.day} -->", text), wrong


def draw(folder: Path) -> list[Path]:
    """Write every picture, light and dark.

    Raises:
        SystemExit: A command fails.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, words in PICTURES.items():
        for theme in ("light", "dark"):
            path = folder / f"{name}-{theme}.png"
            command = [*words, "--quiet", "--plot", str(path), "--plot-theme", theme]
            code, _, wrong = in_process(command, None)
            if code:
                raise SystemExit(f"rigwise {' '.join(command)}: {wrong}")
            Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
            drawn.append(path)
    return drawn


def main() -> int:
    """Write the pages, or say whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("pages", nargs="*", type=Path, help="only these")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures of the README")
    options = parser.parse_args()
    if options.pictures:
        for path in draw(ROOT / "docs/pictures"):
            print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
        return 0
    wrong: list[str] = []
    for path in [one.resolve() for one in options.pages] or pages():
        page = Page(path)
        if not any(block.language == "console" for block in page.blocks) and not options.pages:
            continue
        if options.check:
            wrong += [fault for _, _, faults in page.run() for fault in faults]
            continue
        text, faults = refreshed(page)
        wrong += faults
        if not faults and text != page.text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
    print("\n\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
