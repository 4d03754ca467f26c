"""Ten labs, each one idea, and the path of a hundred days that orders them.

A lab is a text, ``labNN_name.md``: a head of ``key: value`` lines, Markdown, and blocks of Python that
become cells. What is asked in it and how answers are judged stands in ``answersNN.py``. In a notebook::

    from rigwise.labs import check, measure, predict, reveal, sized, timed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rigwise.labs.learner import check, predict, reveal, sized
    from rigwise.labs.measuring import measure, timed

#: Public name -> module that defines it; loaded on first use (PEP 562).
_PUBLIC = {
    "check": "rigwise.labs.learner",
    "measure": "rigwise.labs.measuring",
    "predict": "rigwise.labs.learner",
    "reveal": "rigwise.labs.learner",
    "sized": "rigwise.labs.learner",
    "timed": "rigwise.labs.measuring",
}

__all__ = ["check", "measure", "predict", "reveal", "sized", "timed"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rigwise.labs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
