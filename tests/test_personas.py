"""The page of questions that buying guides answer: each has a command, an answer and a judgement.

``test_docs_blocks.py`` runs the commands.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "personas.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
BLOCK = re.compile(r"```console\n\$ rigwise (.*)\n((?:(?!```).*\n)*)```\n")


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
