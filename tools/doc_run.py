"""Runs the blocks of one page of the documentation in an empty folder; see ``doc_blocks.py``.

Commands of rigwise run in this process, because a new interpreter for each would take longer than most of them, but
for those that start processes themselves. Everything else is given to a shell.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import glob
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from doc_blocks import ROOT, Block, Command, blocks_of, file_of, parse_faults, printed_on, same

#: Commands that start processes which write to the terminal, or that must be interrupted from outside.
APART = ("run", "bench", "watch", "serve", "lab")
LONGEST_S = 60.0
SPECIAL = re.compile(r"\$|`|~|\bexport\b|^\w+=")


class Page:
    """A page, its folder and what its commands share."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        """Read the page; ``text`` stands for what the file holds."""
        self.path = path
        self.name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
        self.text = path.read_text(encoding="utf-8") if text is None else text
        self.blocks = blocks_of(self.text, self.name)
        self.day = printed_on(self.text)
        self.fresh: dict[int, list[str | None]] = {}
        self.namespace: dict[str, Any] = {}
        self.exported: dict[str, str] = {}

    def run(self) -> Iterator[tuple[Block, float, list[str]]]:
        """Each block with the seconds of the processor that it took, and what is wrong with it."""
        with tempfile.TemporaryDirectory() as scratch, self._place(Path(scratch).resolve()) as folder:
            for block in self.blocks:
                start = sum(os.times()[:4])
                faults = self._run(block, folder)
                yield block, sum(os.times()[:4]) - start, faults

    @contextlib.contextmanager
    def _place(self, scratch: Path) -> Iterator[Path]:
        """An empty folder, with the examples of a checkout; settings that are nobody's."""
        folder = scratch / "page"
        if self.path.parents[1] == ROOT / "examples":
            shutil.copytree(self.path.parent, folder)
        else:
            folder.mkdir()
            (folder / "examples").symlink_to(ROOT / "examples")
        own = {
            "COLUMNS": "80", "PYTHONUTF8": "1", "NO_COLOR": "1", "RIGWISE_OFFERS": "none",
            "RIGWISE_STORE": str(scratch / "store.sqlite"), "RIGWISE_RUNS": str(scratch / "runs"),
            "XDG_CONFIG_HOME": str(scratch / "settings"), "XDG_STATE_HOME": str(scratch / "state"),
            "XDG_DATA_HOME": str(scratch / "data"), "CHECKOUT": str(ROOT),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }  # fmt: skip
        if "RIGWISE_CACHE" not in os.environ:
            own["RIGWISE_CACHE"] = str(scratch / "cache")
        before, path = Path.cwd(), list(sys.path)
        with mock.patch.dict(os.environ, own):
            os.environ.pop("RIGWISE_CALIBRATION", None)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            try:
                yield folder
            finally:
                os.chdir(before)
                sys.path[:] = path

    def _run(self, block: Block, folder: Path) -> list[str]:
        faults = [f"{block.page}:{block.line}: {fault}" for fault in block.faults] + parse_faults(block)
        if faults:
            return faults
        if (name := file_of(block)) is not None:
            (folder / name).write_text(block.body, encoding="utf-8")
        for line in block.before:
            faults += self._line(block, Command(text=line), folder)[0]
        if block.kind in ("not run", "parsed", "shown"):
            return faults
        if block.language == "python":
            return faults + (self._python(block) if name is None else [])
        for one in block.commands:
            wrong, printed = self._line(block, one, folder) if not one.skipped else ([], None)
            faults += wrong
            self.fresh.setdefault(block.start, []).append(printed if not block.varies else None)
        return faults

    def _line(self, block: Block, one: Command, folder: Path) -> tuple[list[str], str | None]:
        code, printed = self._shell(one.text, self.day if one.shown is not None and not block.varies else None)
        printed = "\n".join(line.rstrip() for line in printed.replace(f"{folder}{os.sep}", "").splitlines()).strip("\n")
        place = f"{block.page}:{block.line}: $ {one.text}"
        if code not in one.exit_codes:
            wanted = " or ".join(map(str, one.exit_codes))
            return [f"{place}\n{printed[-2000:]}\nexit code {code}, not {wanted}"], printed
        if one.shown is None or block.varies or same(one.shown, printed):
            return [], printed
        difference = difflib.unified_diff(one.shown.splitlines(), printed.splitlines(), "shown", "printed", lineterm="")
        return [f"{place}\n" + "\n".join(difference)], printed

    def _python(self, block: Block) -> list[str]:
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(block.body, f"{block.page}:{block.line}", "exec"), self.namespace)
        except Exception as error:
            return [f"{block.page}:{block.line}: {type(error).__name__}: {error}"]
        return []

    def _shell(self, text: str, day: datetime.date | None) -> tuple[int, str]:
        """Exit code of a line, and its output: what is on stdout, then what is on stderr."""
        if found := re.fullmatch(r"export (\w+)=(\S+)(\s+#.*)?", text):
            self.exported[found[1]] = os.environ[found[1]] = found[2].strip("\"'").replace("$PWD", str(Path.cwd()))
            return 0, ""
        words = None if SPECIAL.search(re.sub(r"'[^']*'", "''", text)) or self.exported else plain(text)
        if words is None:
            return _process(["bash", "-c", text])
        command, target = words
        if command[0] != "rigwise" or (len(command) > 1 and command[1] in APART):
            return _process(["bash", "-c", text])
        code, out, err = in_process(command[1:], day)
        if target is not None:
            Path(target).write_text(out, encoding="utf-8")
            out = ""
        return code, out + err


def plain(text: str) -> tuple[list[str], str | None] | None:
    """Words of a single command, patterns of file names replaced, and the file it is written to; None for anything else.

    >>> plain("rigwise devices --memory '>=24GB' > list.txt")
    (['rigwise', 'devices', '--memory', '>=24GB'], 'list.txt')
    >>> plain("rigwise plan a && rigwise plan b") is None
    True
    """
    lexer = shlex.shlex(text, posix=False, punctuation_chars=True)
    lexer.whitespace_split = True
    words, target = list(lexer), None
    if ">" in words[-2:-1]:
        target, words = words[-1], words[:-2]
    if any(set(word) <= set("();<>|&") for word in words):
        return None
    found: list[str] = []
    for word in words:
        quoted = word[:1] in "\"'" or "'" in word or '"' in word
        matches = sorted(glob.glob(word)) if not quoted and re.search(r"[*?\[]", word) else []
        found += matches or shlex.split(word)
    return found, target


def _process(words: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            encoding="utf-8", check=False, timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"not done after {LONGEST_S:.0f} s"
    return done.returncode, done.stdout


class _Wrapper(io.TextIOWrapper):
    """Text that is kept when click closes or detaches it."""

    def __init__(self, name: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._name = name

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def in_process(arguments: Sequence[str], day: datetime.date | None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``rigwise ARGUMENTS``, on a day if one is given."""
    from rigwise.cli.main import main

    out, err = _Wrapper("stdout"), _Wrapper("stderr")
    code: int | str | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _on(arguments, day):
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        except Exception:
            code = 70
            traceback.print_exc()
    return int(code or 0), out.text(), err.text()


@contextlib.contextmanager
def _on(arguments: Sequence[str], day: datetime.date | None) -> Iterator[None]:
    """As if it were that day, because prices age: ``date.today`` asks ``time.time``, and the command's module ``datetime.now``."""
    if day is None:
        yield
        return
    clock, late = time.time, datetime.timedelta(days=(datetime.date.today() - day).days)

    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) - late

    module = None
    with contextlib.suppress(ImportError):
        module = importlib.import_module(f"rigwise.cli.{arguments[0] if arguments else 'main'}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(time, "time", side_effect=lambda: clock() - late.total_seconds()))
        if getattr(module, "datetime", None) is datetime.datetime:
            stack.enter_context(mock.patch.object(module, "datetime", Then))
        yield
