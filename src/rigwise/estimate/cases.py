"""Files of cases: one JSON object on a line, one answer for each, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from rigwise.edge import parse, parse_json, read_text
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.estimate.predict import predict, predict_document
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.workload.case import Case


def answer_cases(path: str) -> Iterator[dict[str, Any]]:
    """Answers to the cases of a ``.jsonl`` file; a case that fails yields its error.

    Raises:
        InvalidInputError: The file itself cannot be read, or holds no case.
    """
    lines = [(n, line) for n, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise InvalidInputError(f"{path} holds no case")
    for number, line in lines:
        yield _answer(line, f"{path} line {number}")


def _answer(line: str, where: str) -> dict[str, Any]:
    try:
        case = parse(parse_json(line, where), Case, where)
        return predict_document(predict(case, _model(case.model)))
    except RigwiseError as error:
        return {"schema": "rigwise.predict/1", "error": error.as_dict()}


@lru_cache(maxsize=32)
def _model(name: str) -> Model:
    return load_model(name)
