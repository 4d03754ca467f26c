"""Code blocks of the documentation: found, run in an empty folder for each page, and compared with what the page shows.

    python tools/doc_blocks.py [PAGE ...]        what each block does, what it costs, and what is wrong with it

Blocks of ``sh`` and ``console`` are run line by line, ``python`` as a whole, in the order of the page and in one folder.
``toml`` and ``json`` are parsed. A block whose first line is ``# name.toml`` or ``# name.py`` is written to that file.
In a ``console`` block the lines below a command are what it prints; a line ``...`` stands for any lines. ``text`` is only shown.

HTML comments above a block say what else holds. Each stands on a line of its own:

    <!-- not run: needs a GPU -->             the block is not run; the reason is counted
    <!-- not run (refresh, ray): network -->  only the lines that contain one of these words are not run
    <!-- varies: figures of this machine -->  it runs, but what it prints is not compared
    <!-- exit 1 (lint) -->                    lines with this word end with this exit code, not with 0; `exit 0 or 1` for either
    <!-- before: rigwise inspect --save a.json -->   run first, not shown; may be repeated; $CHECKOUT is where the sources are

Answers that depend on the day are those of the day that the page names: ``<!-- printed on 2026-11-21 -->``, or today.
"""

from __future__ import annotations

import datetime
import re
import shlex
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
REMARK = re.compile(r"^ *<!-- (?P<text>.*?) -->\s*$")
PRINTED_ON = re.compile(r"<!-- printed on (\d{4}-\d\d-\d\d) -->")
NAMED = re.compile(r"# (?P<name>[\w-]+\.(?:py|toml|csv|jsonl|json))\s*$")
SHELLS, PARSED = ("sh", "bash", "console"), ("toml", "json")
LANGUAGES = (*SHELLS, *PARSED, "python", "text")
#: Times that a search took, which no two runs share.
CLOCKED = re.compile(r"(A\*|exhaustive), [\d.,]+ (?:us|ms|s|min)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line of a shell block, and what the page shows below it (null where it shows nothing)."""

    text: str
    shown: str | None = None
    skipped: str = ""
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block and what the comments above it say."""

    page: str
    line: int
    language: str
    body: str
    start: int  # of the body in the page
    indent: str = ""
    skipped: str = ""
    varies: str = ""
    before: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What happens to it: ``run``, ``compared``, ``parsed``, ``shown`` or ``not run``."""
        if self.language == "text":
            return "shown"
        if self.skipped or (self.commands and all(one.skipped for one in self.commands)):
            return "not run"
        if self.language in PARSED:
            return "parsed"
        return "compared" if any(one.shown is not None for one in self.commands) and not self.varies else "run"


@dataclass(slots=True)
class _Remarks:
    skipped: str = ""
    words: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    varies: str = ""
    exits: list[tuple[tuple[str, ...], tuple[int, ...]]] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read(self, text: str) -> None:
        if found := re.fullmatch(r"not run \((.+?)\): (\S.*)", text):
            self.words.append((_words(found[1]), found[2]))
        elif found := re.fullmatch(r"not run: (\S.*)", text):
            self.skipped = found[1]
        elif found := re.fullmatch(r"varies: (\S.*)", text):
            self.varies = found[1]
        elif found := re.fullmatch(r"exit (\d+(?: or \d+)*)(?: \((.+?)\))?", text):
            self.exits.append((_words(found[2] or ""), tuple(map(int, found[1].split(" or ")))))
        elif found := re.fullmatch(r"before: (\S.*)", text):
            self.before.insert(0, found[1])
        elif re.match(r"not run|varies|exit|before", text):
            self.faults.append(f"a comment that says nothing: {text}")


def pages() -> list[Path]:
    """Every page whose blocks are held to what they say."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return found + sorted((ROOT / "examples").rglob("README.md"))


def blocks_of(text: str, page: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [_block(match, text, page) for match in FENCE.finditer(text)]


def unfenced(text: str, page: str) -> list[str]:
    """Commands that stand indented, where nothing would run them."""
    outside = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text).splitlines()
    found = [(number, line.strip()) for number, line in enumerate(outside, 1) if re.match(r"(?: {4}|\t)\$ ", line)]
    return [f"{page}:{number}: put it into a fence: {line}" for number, line in found]


def _block(match: re.Match[str], text: str, page: str) -> Block:
    remarks = _Remarks()
    for line in reversed(text[: match.start()].splitlines()):
        if found := REMARK.match(line):
            remarks.read(found["text"])
        elif line.strip():
            break
    body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.M) if match["indent"] else match["body"]
    commands, unused = _commands(match["language"], body, remarks)
    faults = [*remarks.faults, *(f"no line of the block contains {word!r}" for word in unused)]
    if match["language"] not in LANGUAGES:
        faults.append(f"a fence of {match['language'] or 'no language'}: give one of {', '.join(LANGUAGES)}")
    return Block(
        page=page, line=text.count("\n", 0, match.start()) + 1, language=match["language"], body=body,
        start=match.start("body"), indent=match["indent"], skipped=remarks.skipped, varies=remarks.varies,
        before=tuple(remarks.before), commands=tuple(commands), faults=tuple(faults),
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _commands(language: str, body: str, remarks: _Remarks) -> tuple[list[Command], set[str]]:
    """The commands of a block, and words of the comments that stand in none of them."""
    unused = {word for words, _ in (*remarks.words, *remarks.exits) for word in words} - {""}
    if language not in SHELLS:
        return [], unused
    found: list[Command] = []
    for text, shown in console(body) if language == "console" else ((line, None) for line in lines(body)):
        reasons = [remarks.skipped, *(why for words, why in remarks.words if any(word in text for word in words))]
        codes = [codes for words, codes in remarks.exits if any(word in text for word in words)]
        unused = {word for word in unused if word not in text}
        reason = next(filter(None, reasons), "")
        found.append(Command(text=text, shown=shown, skipped=reason, exit_codes=codes[-1] if codes else (0,)))
    return found, unused


def lines(body: str) -> list[str]:
    """Commands of a shell block: lines joined at a backslash, without empty ones and remarks."""
    joined = body.replace("\\\n", " ").splitlines()
    return [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]


def console(body: str) -> Iterator[tuple[str, str | None]]:
    """Each command after ``$`` with what is shown below it."""
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        command, *rest = re.split(r"(?<!\\)\n", part, maxsplit=1)
        shown = rest[0].rstrip("\n") if rest else ""
        yield command.replace("\\\n", " ").strip(), shown or None


def file_of(block: Block) -> str | None:
    """The file that a block is written to, if it names one."""
    found = NAMED.match(block.body.split("\n", 1)[0])
    return found["name"] if found and block.language not in SHELLS else None


def printed_on(text: str) -> datetime.date:
    """The day that the answers of a page are of."""
    found = PRINTED_ON.search(text)
    return datetime.date.fromisoformat(found[1]) if found else datetime.datetime.now(datetime.UTC).date()


def same(shown: str, printed: str) -> bool:
    """Whether a page shows what a command printed, but for times of the clock and lines of ``...``."""
    pattern = r"(?:.*\n)*?".join(
        re.escape(CLOCKED.sub(r"\1, TIME", part)) for part in re.split(r"^\.\.\.\n", shown + "\n", flags=re.M)
    )
    return re.fullmatch(pattern, CLOCKED.sub(r"\1, TIME", printed) + "\n") is not None


def parse_faults(block: Block) -> list[str]:
    """What keeps a block from being read as what it says it is."""
    try:
        if block.language == "toml":
            tomllib.loads(block.body)
        elif block.language == "json":
            import json

            json.loads(block.body)
        elif block.language == "python":
            compile(block.body, f"{block.page}:{block.line}", "exec")
        elif block.language in SHELLS:
            for one in block.commands:
                shlex.split(one.text, comments=True)
    except (ValueError, SyntaxError) as error:
        return [f"{block.page}:{block.line}: {block.language}: {error}"]
    return []


def counts(blocks: list[Block]) -> Counter[str]:
    """How many blocks are run, compared, parsed, shown and not run; and commands that are run or not."""
    found = Counter(block.kind for block in blocks)
    found["commands run"] = sum(not one.skipped for block in blocks for one in block.commands)
    found["commands not run"] = sum(bool(one.skipped) for block in blocks for one in block.commands)
    return found


def main() -> int:
    """Run pages and say what each block does."""
    from doc_run import Page

    wrong, total_s = 0, 0.0
    every: list[Block] = []
    for path in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        page = Page(path)
        every += page.blocks
        for block, seconds, faults in page.run():
            why = block.skipped or block.varies or next((one.skipped for one in block.commands if one.skipped), "")
            print(f"{seconds:7.2f} s  {block.page}:{block.line}  {block.language}  {block.kind}  {why}", flush=True)
            wrong, total_s = wrong + len(faults), total_s + seconds
            for fault in faults:
                print(fault, file=sys.stderr, flush=True)
    found = ", ".join(f"{number} {name}" for name, number in sorted(counts(every).items()))
    print(f"{found}; {total_s:.0f} s of the processor")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
