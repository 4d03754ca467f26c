"""The page of questions that buying guides answer: each has a command that works, an answer and a judgement."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import root as command_line

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "personas.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
BLOCK = re.compile(r"```console\n\$ rigwise (.*)\n((?:(?!```).*\n)*)```\n")


def refresh_readme():
    spec = importlib.util.spec_from_file_location("refresh_readme", ROOT / "tools" / "refresh_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_persona_is_there() -> None:
    words = ("$300", "Kaggle", "researcher", "language models", "laptop", "15 W")
    assert [next(w for w in words if w in title) for title in SECTIONS] == list(words)


@pytest.mark.parametrize("title", SECTIONS)
def test_each_has_a_command_with_its_answer_and_a_judgement(title) -> None:
    text = SECTIONS[title]
    blocks = BLOCK.findall(text)
    assert blocks
    assert all(printed.strip() for _, printed in blocks)
    judgement = BLOCK.sub("", text).strip()
    assert len(re.findall(r"[.!?](?:\s|$)", judgement)) >= 2


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in BLOCK.findall(PAGE)])
def test_each_command_still_answers_its_question(arguments, monkeypatch) -> None:
    """The first line says what was asked; the answer below it may depend on the day."""
    monkeypatch.setenv("RIGWISE_OFFERS", "none")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(command_line, shlex.split(arguments))
    assert done.exit_code == 0, done.output
    printed = dict(BLOCK.findall(PAGE))[arguments]
    assert done.output.strip().splitlines()[0].strip() == printed.strip().splitlines()[0].strip()


def test_a_block_is_refreshed_and_one_that_depends_on_the_day_can_be_skipped(monkeypatch) -> None:
    module = refresh_readme()
    monkeypatch.setattr(module, "answer", lambda arguments: f"answer to {arguments}")
    page = "a\n```console\n$ rigwise plan x\nold\n```\n```console\n$ rigwise devices\n```\n"
    assert module.refreshed(page, skip=module.OF_THE_DAY) == page.replace("devices\n", "devices\nanswer to devices\n")
    assert "old" not in module.refreshed(page)
    assert "docs/personas.md" in module.PAGES
