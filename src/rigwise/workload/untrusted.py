"""Documents that others wrote stay data: a model that would have us run code is refused."""

from __future__ import annotations

import re

from rigwise.errors import InvalidInputError

_CODE = re.compile(r"[\w.]+:\w+")


def refuse_code(model: str, where: str) -> None:
    """Refuse a model of a document that would have us run code.

    Raises:
        InvalidInputError: It would.
    """
    if _CODE.fullmatch(model):
        raise InvalidInputError(
            f"{where}: job.model is code to run: {model}", hint="capture it to a .rwg file and plan that"
        )
