"""The text of a lab as a notebook: a head, Markdown, and blocks of Python.

A block that opens with the line ```` ```python ```` and ends with ```` ``` ```` is a cell of code; all that stands
between two such blocks is one cell of text. Other fences belong to the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rigwise.errors import InvalidInputError

#: Keys of the head, in their order.
HEAD = ("title", "question", "minutes", "needs")

_OPEN, _FENCE, _RULE = "```python", "```", "---"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: text in Markdown, or Python."""

    is_code: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One lab as it is written.

    Attributes:
        number: 1 to 10.
        name: Of its file, without the ending: ``lab01_roofline``.
        title: Of the notebook.
        question: What it answers.
        minutes: A learner needs, with reading.
        needs: Modules that must be installed, ``torch`` for example.
        cells: Without the title.
    """

    number: int
    name: str
    title: str
    question: str
    minutes: int
    needs: tuple[str, ...]
    cells: tuple[Cell, ...]


def read_lab(text: str, name: str) -> Lab:
    r"""The lab that a text describes.

    Args:
        text: Head and body.
        name: Of its file, ``labNN_...``: errors name it.

    Raises:
        InvalidInputError: A key of the head is missing, unknown or twice there, or a block has no end.

    >>> lab = read_lab("---\ntitle: T\nquestion: Q?\nminutes: 9\nneeds: torch\n---\nWords.\n"
    ...                "```python\n1 + 1\n```\n", "lab01_t")
    >>> lab.number, lab.needs, [(cell.is_code, cell.source) for cell in lab.cells]
    (1, ('torch',), [(False, 'Words.'), (True, '1 + 1')])
    """
    lines = text.splitlines()
    if not lines or lines[0] != _RULE or _RULE not in lines[1:]:
        raise InvalidInputError(f"{name}: the head is missing", hint=f"it stands between two lines of {_RULE}")
    end = lines.index(_RULE, 1)
    head = _head(lines[1:end], name)
    return Lab(
        number=int(name[3:5]),
        name=name,
        title=head["title"],
        question=head["question"],
        minutes=int(head["minutes"]),
        needs=tuple(head["needs"].replace(",", " ").split()),
        cells=tuple(_cells(lines[end + 1 :], name, end + 1)),
    )


def _head(lines: Sequence[str], name: str) -> Mapping[str, str]:
    pairs = [line.partition(":") for line in lines if line.strip()]
    head = {key.strip(): value.strip() for key, _, value in pairs}
    if sorted(head) != sorted(HEAD) or len(head) < len(pairs):
        raise InvalidInputError(f"{name}: the head has {', '.join(head)}", hint=f"it must have {', '.join(HEAD)}")
    return head


def _cells(lines: Sequence[str], name: str, before: int) -> list[Cell]:
    cells: list[Cell] = []
    kept: list[str] = []
    opened = ""
    at = 0

    def close(*, is_code: bool) -> None:
        source = "\n".join(kept).strip("\n")
        if source:
            cells.append(Cell(is_code=is_code, source=source))
        kept.clear()

    for place, line in enumerate(lines, start=before + 1):
        if not opened and line.rstrip() == _OPEN:
            close(is_code=False)
            opened, at = _OPEN, place
        elif opened == _OPEN and line.rstrip() == _FENCE:
            close(is_code=True)
            opened = ""
        else:
            if opened == _FENCE and line.rstrip() == _FENCE:
                opened = ""
            elif not opened and line.startswith(_FENCE):
                opened, at = _FENCE, place
            kept.append(line)
    if opened:
        raise InvalidInputError(f"{name}: the block that opens in line {at} has no end")
    close(is_code=False)
    return cells


def notebook(lab: Lab) -> str:
    """The lab as a notebook file, nbformat 4.5: the title and the question, then its cells.

    Source: the schema of nbformat 4.5.
    """
    title = Cell(is_code=False, source=f"# Lab {lab.number}. {lab.title}\n\n**{lab.question}**")
    document = {
        "cells": [_cell(cell, place) for place, cell in enumerate((title, *lab.cells))],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "rigwise": {"lab": lab.number},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(cell: Cell, place: int) -> dict[str, object]:
    source = cell.source.splitlines(keepends=True)
    head: dict[str, object] = {"id": f"cell-{place}", "metadata": {}, "source": source}
    if not cell.is_code:
        return {"cell_type": "markdown", **head}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **head}
