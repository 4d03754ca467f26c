"""Every error that rigwise raises on purpose.

    RigwiseError                what was asked, what was found, what to do
    ├── InvalidInputError       a file, key, flag or value that cannot be read (exit 2)
    ├── UnknownNameError        a model, device, offer ... that no table has; lists near matches
    ├── AmbiguousNameError      a name with several variants; lists them
    ├── MissingFactError        the catalogue lacks a figure that the answer needs
    ├── UnsupportedError        a combination that the device or rigwise cannot do
    ├── CaptureError            the model could not be turned into a graph
    ├── MissingExtraError       an optional dependency is not installed; gives the install line
    ├── RunError                the user's code failed, ended or never returned while it ran (exit 1)
    └── InfeasibleError         it ran, and no plan satisfies the constraints (exit 1)

The command line prints one of these as a single line and exits with ``exit_code``.
Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class RigwiseError(Exception):
    """Base of the tree: a message for the person who asked, and a hint how to go on.

    >>> str(RigwiseError("no batch given", hint="add --batch 8"))
    'no batch given; add --batch 8'
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, str]:
        """The error as one JSON object, as ``--json`` documents carry it."""
        return {"type": type(self).__name__, "message": self.message, "hint": self.hint}


class InvalidInputError(RigwiseError):
    """A file, key, flag or value cannot be used as it stands."""


class UnknownNameError(RigwiseError):
    """No table has this name."""


class AmbiguousNameError(RigwiseError):
    """Several variants answer to this name."""


class MissingFactError(RigwiseError):
    """The catalogue has no sourced figure where one is needed."""


class UnsupportedError(RigwiseError):
    """The device, the model or rigwise cannot do what was asked."""


class CaptureError(RigwiseError):
    """A model could not be turned into a compute graph."""


class MissingExtraError(RigwiseError):
    """An optional dependency is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed",
            hint=f"pip install 'rigwise[{extra}]'",
        )


class RunError(RigwiseError):
    """What was run failed: the user's code raised, its process ended, or it never returned."""

    exit_code = 1


class InfeasibleError(RigwiseError):
    """The question was understood and the answer is: nothing satisfies it."""

    exit_code = 1


def near_matches(name: str, known: Iterable[str], *, limit: int = 4) -> str:
    """The closest known names, for the end of an error message.

    >>> near_matches("rtx-490", ["rtx-4090", "t4", "rtx-4080"])
    'did you mean rtx-4090, rtx-4080?'
    """
    from difflib import get_close_matches

    found = get_close_matches(name.lower(), list(known), n=limit, cutoff=0.5)
    return f"did you mean {', '.join(found)}?" if found else ""
