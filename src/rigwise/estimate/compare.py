"""The same question on several devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import MissingFactError, RigwiseError, UnsupportedError
from rigwise.estimate.predict import Prediction, predict, predict_document
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.shown import Shown
from rigwise.workload.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A prediction, or why there is none for this device."""

    case: Case
    prediction: Prediction | None = None
    error: RigwiseError | None = None


class Answers(tuple[Answer, ...], Shown):
    """Answers side by side, the quickest first."""

    __slots__ = ()


def compare(cases: Sequence[Case], model: Model | None = None) -> Answers:
    """Predict every case, quickest first; what a device cannot do is an answer, a typo is not.

    Args:
        cases: The same model on several devices.
        model: The captured model, if at hand; else that of the first case is loaded.

    Raises:
        RigwiseError: The model, a device name or a size is wrong.
    """
    model = model or load_model(cases[0].model)
    answers = []
    for case in cases:
        try:
            answers.append(Answer(case=case, prediction=predict(case, model)))
        except (UnsupportedError, MissingFactError) as error:
            answers.append(Answer(case=case, error=error))
    return Answers(sorted(answers, key=_step_s))


def _step_s(answer: Answer) -> float:
    return answer.prediction.step_time_s["p50"] if answer.prediction else float("inf")


def compare_document(answers: Sequence[Answer]) -> dict[str, Any]:
    """The JSON object of ``rigwise.compare/1``."""
    results = []
    for answer in answers:
        if answer.prediction:
            results.append(predict_document(answer.prediction))
        elif answer.error:
            results.append({"device": answer.case.device, "error": answer.error.as_dict()})
    return {"schema": "rigwise.compare/1", "results": results}
