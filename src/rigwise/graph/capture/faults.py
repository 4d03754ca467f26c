"""What went wrong while a model ran, in one line that its author can use."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from rigwise.errors import CaptureError, RigwiseError

#: Folders of installed code; a fault is reported where the author's own code is.
_NOT_THEIRS = ("site-packages", "dist-packages", "rigwise/graph/capture", "<frozen", "importlib")

_HINTS = {
    "DataDependentOutputException": "it looks at the value of a tensor, which a capture without data does not have",
    "DynamicOutputShapeException": "a shape depends on the values of a tensor, which a capture without data lacks",
    "MemoryError": "a capture may not use that much memory",
    "TooManyOpsError": "the model unrolls a loop into more operators than a graph may hold",
}


def as_capture_error(error: BaseException, what: str) -> RigwiseError:
    """The same fault as one of ours, with the line of the author's code it came from."""
    if isinstance(error, RigwiseError):
        return error
    place = author_line(error.__traceback__)
    kind = type(error).__name__
    text = " ".join(str(error).split())[:300]
    said = f"{kind}: {text}" if text else kind
    return CaptureError(f"{what} failed{f' at {place}' if place else ''}: {said}", hint=_HINTS.get(kind, ""))


def author_line(trace: TracebackType | None) -> str:
    """``file.py:12`` of the innermost frame that is not installed code, empty if there is none."""
    for frame in reversed(traceback.extract_tb(trace)):
        if is_authors(frame.filename):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""


def is_authors(file: str) -> bool:
    """Whether a source file is neither installed, nor part of Python, nor of this package."""
    plain = file.replace("\\", "/")
    standard = Path(traceback.__file__).parent
    return not any(part in plain for part in _NOT_THEIRS) and not Path(file).is_relative_to(standard)
