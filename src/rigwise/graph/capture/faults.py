"""What went wrong while a model ran, in one line that its author can use."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from types import TracebackType

from rigwise.errors import CaptureError, RigwiseError

#: Folders of installed code; a fault is reported where the author's own code is.
_NOT_THEIRS = ("site-packages", "dist-packages", "rigwise/graph/capture", "rigwise/execute", "<frozen", "importlib")

#: Packages that run models rather than hold them.
_ENGINES = ("torch", "jax", "jaxlib", "flax", "keras", "numpy", "rigwise")

#: Packages that a model's own code may import, and the extra that brings each.
EXTRAS = {"torch": "torch", "transformers": "torch", "jax": "jax"}

#: What installs timm without replacing torch, which plain ``pip install timm`` does.
INSTALL_TIMM = "pip install huggingface_hub safetensors pyyaml pillow, then pip install --no-deps timm"

_HINTS = {
    "DataDependentOutputException": "it looks at the value of a tensor, which a capture without data does not have",
    "DynamicOutputShapeException": "a shape depends on the values of a tensor, which a capture without data lacks; "
    "to capture routed experts, give each the same number of rows",
    "MemoryError": "a capture may not use that much memory",
    "TracerBoolConversionError": "it looks at the value of an array, which a capture without data does not have",
    "ConcretizationTypeError": "it looks at the value of an array, which a capture without data does not have",
    "TracerArrayConversionError": "it looks at the value of an array, which a capture without data does not have",
    "TracerIntegerConversionError": "it looks at the value of an array, which a capture without data does not have",
    "NonConcreteBooleanIndexError": "a shape depends on the values of an array, which a capture without data lacks",
    "TooManyOpsError": "the model unrolls a loop into more operators than a graph may hold; equal steps are folded "
    "if the factory takes seq",
}


def missing_package(error: BaseException) -> str:
    """The package that an import did not find, if it is one that an extra brings and is not installed; else empty."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ImportError) or package not in EXTRAS:
        return ""
    return "" if importlib.util.find_spec(package) else package


def as_capture_error(error: BaseException, what: str) -> RigwiseError:
    """The same fault as one of ours, with the line of the author's code it came from."""
    if isinstance(error, RigwiseError):
        return error
    place = author_line(error.__traceback__)
    kind = type(error).__name__
    text = " ".join(str(error).split()).partition(" The error occurred while tracing the function")[0][:300]
    said = f"{kind}: {text}" if text else kind
    return CaptureError(f"{what} failed{f' at {place}' if place else ''}: {said}", hint=_HINTS.get(kind, ""))


def author_line(trace: TracebackType | None) -> str:
    """``file.py:12`` of the innermost frame that is not installed code.

    If all is installed code, that of the library the model is from; empty if there is neither.
    """
    frames = traceback.extract_tb(trace)
    for frame in reversed(frames):
        if is_authors(frame.filename):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    for frame in reversed(frames):
        library, found, inside = frame.filename.replace("\\", "/").rpartition("-packages/")
        if found and library and inside.partition("/")[0] not in _ENGINES:
            return f"{inside}:{frame.lineno}"
    return ""


def is_authors(file: str) -> bool:
    """Whether a source file is neither installed, nor part of Python, nor of this package."""
    plain = file.replace("\\", "/")
    standard = Path(traceback.__file__).parent
    return not any(part in plain for part in _NOT_THEIRS) and not Path(file).is_relative_to(standard)
