"""Write docs/reference/commands.md from the commands and docs/reference/keys.md from the documents that they print.

    python tools/build_reference.py [--check]

With --check nothing is written, and the exit code is 1 if a page is not what the code says.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
COMMANDS, KEYS = ROOT / "docs/reference/commands.md", ROOT / "docs/reference/keys.md"
#: Commands that share the flags of a case, and where those are listed.
CASE = ("show", "predict", "compare", "run", "trace")
EVERYWHERE = {"--json", "--quiet", "--debug", "--help"}
#: The page that says more, where it is not called as the command is.
PAGES = {
    "capture": "models", "show": "models", "devices": "commands#tables", "cpus": "commands#tables", "parts": "rig",
    "predict": "json#case", "compare": "json#case", "plan": "job", "judge": "measurements", "rig check": "rig",
    "rig build": "rig", "rig verify": "rig",
}  # fmt: skip
EXAMPLE = re.compile(r"^\s*(?:For example|Then|Or)?(?:, behind [a-z ]+)?:? *(rigwise .*)$", re.M)
HEAD = """# Commands

This page is written by `python tools/build_reference.py` from the commands themselves; `rigwise COMMAND --help` says the same.

MODEL is a zoo name (`rigwise models` lists them), a Hugging Face `config.json` or its folder, an `.onnx`, `.pt2` or `.rwg` file,
`timm:NAME`, or `package.module:factory`: [all forms](models.md). DEVICE is a catalogue id (`rtx-4090`), a common name, a CPU id, `this`
or a [snapshot](inspect.md). Numbers may be written `20e6` or `20M`, sizes `16GB`, times `500ms` or `24h`, money `$100`.

**Every command that answers** takes `--json` (one [document](json.md) on stdout and nothing else), `--quiet` (the answer only) and
`--debug` (the traceback of an error). Exit codes are 0 (answered), 1 (ran and found problems, or nothing feasible), 2 (bad input) and 130
(Ctrl-C): [all of them](errors.md). `NO_COLOR` is honoured.

## Flags of a case { #case }

{commands} take them; a [case](json.md#case) is what one step of a model is.

{table}

## Tables of the catalogue { #tables }

`rigwise devices`, `cpus`, `offers`, `parts` and `models` have a flag for each column. OP is `>=`, `<=`, `>`, `<`, `=` or `!=`, and for text
`~` (contains): quote it, `--memory '>=24GB'`. `--sort FIELD` puts the smallest first, `--sort -FIELD` the largest; `--limit 0` prints all rows.
"""


#: Flags with their value, what they mean, and the default.
Row = tuple[str, str, str]


def prose(text: str) -> str:
    """Help text in which nothing is taken for a tag, and flags stand out."""
    return re.sub(r"(?<![`\w-])(--[a-z][\w-]*)", r"`\1`", text.replace("<", "&lt;"))


def cell(text: str) -> str:
    """Help text in a cell of a table."""
    return prose(" ".join(text.split()).replace("|", "\\|"))


def all_commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its name, those inside others behind them."""
    from rigwise.cli.main import COMMANDS as NAMES
    from rigwise.cli.main import root

    top = click.Context(root, info_name="rigwise")
    for name in NAMES:
        command = root.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top)
        yield name, command, context
        inner: Mapping[str, click.Command] = getattr(command, "commands", None) or getattr(command, "subcommands", {})
        for second in sorted(inner):
            yield f"{name} {second}", inner[second], click.Context(inner[second], info_name=second, parent=context)


def option_row(option: click.Option, context: click.Context) -> Row:
    """Flags with their value, what they mean, and the default."""
    record = option.get_help_record(context)
    if record is None:
        return "", "", ""
    flags, about = record
    about, _, extra = about.partition("  [") if "  [" in about else (about, "", "")
    if not extra and re.fullmatch(r"\[.*\]", about):
        about, extra = "", about[1:]
    notes = [note.strip() for note in extra.rstrip("]").split(";")] if extra else []
    default = next((note.removeprefix("default: ") for note in notes if note.startswith("default: ")), "")
    others = [note for note in notes if note and not note.startswith("default: ")]
    about = about.strip() + (f" ({', '.join(others)})" if others else "")
    return flags, about, "" if default == "False" else default


def table(rows: Sequence[Row]) -> str:
    """Options in a table; the column of defaults is left out where there is none."""
    rows = [row for row in rows if row[0]]
    if not any(row[2] for row in rows):
        return "\n".join(["| flag | |", "|---|---|", *(f"| {code(a)} | {cell(b)} |" for a, b, _ in rows)])
    head = ["| flag | | default |", "|---|---|---|"]
    return "\n".join([*head, *(f"| {code(a)} | {cell(b)} | {cell(c)} |" for a, b, c in rows)])


def code(text: str) -> str:
    """Flags in a cell, where a bar between choices would end it and a backslash is shown by some readers."""
    return f"<code>{html.escape(' '.join(text.split()), quote=False).replace('|', '&#124;')}</code>"


def options(command: click.Command, context: click.Context) -> list[click.Option]:
    """The options of a command that are its own."""
    found = [one for one in command.get_params(context) if isinstance(one, click.Option) and not one.hidden]
    return [one for one in found if not EVERYWHERE & set(one.opts)]


def case_rows() -> dict[str, Row]:
    """The flags that say what a case is: alike in most of the commands that have them, and nowhere otherwise."""
    found = {name: (command, context) for name, command, context in all_commands() if name in CASE}
    rows = {
        name: {one.name or "": option_row(one, where) for one in options(command, where)}
        for name, (command, where) in found.items()
    }
    shared = {}
    for key, row in rows["predict"].items():
        others = [of[key][:2] for of in rows.values() if key in of]
        if len(others) >= len(CASE) - 1 and set(others) == {row[:2]} and not key.startswith("plot"):
            shared[key] = row
    return shared


def section(name: str, command: click.Command, context: click.Context, shared: Mapping[str, Row]) -> str:
    """One command."""
    about = (command.help or "").replace("\b", "").strip()
    examples = EXAMPLE.findall(about)
    about = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", about) if not EXAMPLE.match(part))
    epilog = (command.epilog or "").replace("\b", "")
    examples += [line.strip() for line in epilog.splitlines() if re.match(r"\s+\S", line) and "rigwise" in line]
    rows = {one.name or "": option_row(one, context) for one in options(command, context)}
    with_case = sum(key in rows for key in shared) > len(shared) // 2
    own = [row for key, row in rows.items() if not (with_case and key in shared)]
    usage = " ".join(["rigwise", *name.split(), *command.collect_usage_pieces(context)])
    level = "###" if " " in name else "##"
    page = PAGES.get(name, name if (ROOT / f"docs/reference/{name}.md").exists() else "")
    stem, _, anchor = page.partition("#")
    link = f"{stem}.md#{anchor}".rstrip("#").removeprefix("commands.md") if page else ""
    parts = [f"{level} rigwise {name}", f"`{usage}`", prose(about)]
    parts += [table(own)] if any(row[0] for row in own) else []
    parts += ["And the [flags of a case](#case)."] if with_case else []
    if examples:
        parts.append("```text\n" + "\n".join(dict.fromkeys(examples)) + "\n```")
    parts += [f"More: [{title(stem)}]({link})."] if link and not link.startswith("#") else []
    return "\n\n".join(parts)


def title(stem: str) -> str:
    """The heading of a page of the reference."""
    first = (ROOT / f"docs/reference/{stem}.md").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").strip()


def commands_page() -> str:
    """The whole page."""
    shared = case_rows()
    names = [f"`{name}`" for name in CASE]
    head = HEAD.replace("{commands}", f"{', '.join(names[:-1])} and {names[-1]}").replace(
        "{table}", table(list(shared.values()))
    )
    return "\n\n".join([head.rstrip(), *(section(*found, shared) for found in all_commands())]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or say whether they are current."""
    from doc_keys import keys_page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    code = 0
    for path, text in ((COMMANDS, commands_page()), (KEYS, keys_page())):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        code = 1 if options.check else 0
        print(f"{path.relative_to(ROOT)} is {'out of date' if options.check else 'written'}", file=sys.stderr)
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
