"""Answers that a notebook draws.

The words and pictures are those of ``report.notebook``, which is looked up by name when a notebook
asks: nothing of it is loaded before, and what computes an answer knows nothing of how it looks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Shown:
    """An answer with a rich representation in IPython, Jupyter and what follows their protocol.

    Source: IPython, "Integrating your objects with IPython": ``_repr_mimebundle_``.
    """

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        del include, exclude  # all of it is small
        bundle: dict[str, str] = import_module("rigwise.report.notebook").bundle(self)
        return bundle
