"""The hundred days: all that a day names exists, and what is done is kept."""

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rigwise.cli.main import COMMANDS
from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.graph.load import load_model
from rigwise.labs import path, progress
from rigwise.labs.shelf import labs
from rigwise.machine.this import resolve_device

#: Words in the place of a model that are none: a subcommand, and files that an earlier day wrote.
MADE = ("verify", "job.toml")


@pytest.fixture
def root() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_progress(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "kept" / "progress.json"))


def anchors(page: str) -> set[str]:
    """What may stand after ``#``: ids that headings are given, and those made from their words."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", page, re.MULTILINE):
        given = re.search(r"\{ *#([\w-]+) *\}", heading)
        words = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(given[1] if given else re.sub(r"[-\s]+", "-", words))
    return found


def context_of(words: list[str]) -> click.Context:
    """What click makes of a command line, without running it."""
    command: click.Command = command_line
    context = command.make_context("rigwise", words, resilient_parsing=False)
    while isinstance(context.command, click.Group) and (rest := [*context._protected_args, *context.args]):
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def fault(day: path.Day, docs) -> str:
    """What a day names that does not exist; empty if all does."""
    page, _, anchor = day.read.partition("#")
    if page and not (docs / page).is_file():
        return f"no page {page}"
    if anchor and anchor not in anchors((docs / page).read_text("utf-8")):
        return f"no section {day.read}"
    if bool(day.do) == (day.lab is not None):
        return "neither a command nor a lab, or both"
    if day.lab is not None:
        lab = next((lab for lab in labs() if lab.number == day.lab), None)
        heads = [cell.source for cell in lab.cells if not cell.is_code] if lab else []
        return "" if re.search(rf"^#+ {re.escape(day.part)}$", "\n".join(heads), re.MULTILINE) else f"no {day.part!r}"
    words = shlex.split(day.do)
    if words[:1] != ["rigwise"] or words[1] not in COMMANDS:
        return f"no command {day.do}"
    try:
        context_of(words[1:])
        if words[1] != "offers":  # a filter there, which may mean several devices
            for device in (after for word, after in pairwise(words) if word == "--device"):
                resolve_device(device)
        if words[1] in ("predict", "compare", "show", "plan") and words[2][0] != "-" and words[2] not in MADE:
            load_model(words[2])
    except (click.ClickException, RigwiseError) as error:
        return f"{day.do}: {error}"
    return ""


def test_there_are_a_hundred_days_and_all_they_name_exists(root) -> None:
    assert len(path.days()) == path.DAYS
    assert {number: found for number, day in path.days().items() if (found := fault(day, root / "docs"))} == {}


def test_the_days_differ() -> None:
    days = path.days().values()
    assert len({day.title for day in days}) == len({day.notice for day in days}) == path.DAYS
    work = [(day.do, day.lab, day.part) for day in days]
    assert len(set(work)) == len(work)


def test_every_lab_has_its_days_in_order() -> None:
    order = [day.lab for day in path.days().values() if day.lab]
    assert order == sorted(order)
    assert set(order) == {lab.number for lab in labs()}


def test_the_commands_that_labs_name_exist() -> None:
    found = {}
    for lab in labs():
        text = "\n".join(cell.source for cell in lab.cells if not cell.is_code)
        for words in re.findall(r"`rigwise ([^`]+)`", text):
            try:
                with suppress(click.exceptions.Exit):  # a group alone prints its help
                    context_of(shlex.split(words))
            except click.ClickException as error:
                found[f"{lab.name}: {' '.join(words.split())}"] = error.format_message()
    assert found == {}


def test_what_labs_need_are_modules_of_an_extra() -> None:
    from rigwise.cli.lab import _EXTRAS

    assert {module for lab in labs() for module in lab.needs} <= set(_EXTRAS)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"read": "reference/no-such.md"}, "no page"),
        ({"read": "reference/inspect.md#no-such"}, "no section"),
        ({"do": "rigwise inspekt"}, "no command"),
        ({"do": "rigwise inspect --no-such"}, "--no-such"),
        ({"do": "rigwise lab open x"}, "'x'"),
        ({"do": "rigwise show no-such-model"}, "no-such-model"),
        ({"do": "rigwise predict resnet50 --device h999"}, "h999"),
        ({"do": "", "lab": 1, "part": "No such part"}, "No such part"),
        ({"lab": 1}, "both"),
    ],
)
def test_the_check_of_days_sees_a_fault(root, changed: dict, word: str) -> None:
    day = {"title": "t", "notice": "n", "read": "reference/inspect.md#what-is-read", "do": "rigwise inspect"}
    assert fault(path.Day(**day), root / "docs") == ""
    assert word in fault(path.Day(**(day | changed)), root / "docs")


def test_days_are_done_undone_and_the_next_is_named() -> None:
    assert path.next_day(progress.read()) == 1
    for number in (1, 2, 100):
        progress.done(number)
    assert path.next_day(progress.read()) == 3
    progress.undo(1)
    assert path.next_day(progress.read()) == 1
    assert set(progress.read().days) == {"2", "100"}


def test_the_date_of_the_first_time_stays() -> None:
    place = progress.place()
    progress.done(1)
    place.write_text(place.read_text().replace(progress.read().days["1"], "2020-01-01"))
    progress.done(1)
    assert progress.read().days == {"1": "2020-01-01"}


def test_many_writers_lose_nothing(tmp_path) -> None:
    code = "import sys; from rigwise.labs import progress\nfor day in sys.argv[1:]: progress.done(int(day))"
    groups = [[str(n) for n in range(first, 41, 4)] for first in (1, 2, 3, 4)]
    writers = [subprocess.Popen([sys.executable, "-c", code, *group], env=dict(os.environ)) for group in groups]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert set(progress.read().days) == {str(n) for n in range(1, 41)}


@pytest.mark.parametrize(
    "text",
    ["{", "", "[]", '{"schema": "rigwise.lab.kept/9"}', '{"days": 3}', '{"schema": "rigwise.lab.kept/1", "x": 1}'],
)
def test_a_damaged_file_is_one_line_and_nothing_is_lost(text: str) -> None:
    place = progress.place()
    place.parent.mkdir(parents=True)
    place.write_text(text)
    for change in (progress.read, lambda: progress.done(3), lambda: progress.keep_solved("1.3")):
        with pytest.raises(InvalidInputError, match="--reset"):
            change()
        assert place.read_text() == text
    aside = progress.reset()
    assert aside is not None
    assert aside.read_text() == text
    assert progress.done(3).days.keys() == {"3"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "file" / "progress.json"))
    with pytest.raises(InvalidInputError, match=progress.VARIABLE):
        progress.done(1)


def test_the_command_shows_notes_and_takes_back() -> None:
    def run(*arguments: str) -> dict:
        result = CliRunner().invoke(command_line, ["lab", "progress", *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert (run()["done"], run()["next"]) == (0, 1)
    assert (run("--done", "1")["done"], run("--done", "1")["next"]) == (1, 2)
    assert run("--undo", "1")["next"] == 1
    shown = CliRunner().invoke(command_line, ["lab", "progress"]).stdout
    assert "0 of 100 days done" in shown
    assert "Day 1:" in shown
    assert max(len(line) for line in shown.splitlines()) < 100


@pytest.mark.parametrize(
    "arguments", [["--done", "0"], ["--done", "101"], ["--done", "x"], ["--done", "1", "--undo", "2"]]
)
def test_what_is_no_day_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(command_line, ["lab", "progress", *arguments])
    assert result.exit_code != 0
    assert not progress.place().exists()
