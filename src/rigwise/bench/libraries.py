"""Libraries that are compared where they are installed; the reason why not where they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from rigwise.bench.framework import why_not
from rigwise.bench.types import Context, Raw

#: Makes what one library is timed with; raises ImportError where it is missing.
Maker = Callable[[], Raw]


def needed(module: str, install: str = "") -> Any:
    """A module by name.

    Raises:
        ImportError: It is not here; the message says what installs it.
    """
    return _loaded(module, f"pip install {install or module.partition('.')[0]}")


def rapids(context: Context, module: str) -> Any:
    """A module of RAPIDS, where the target is a GPU of NVIDIA.

    Raises:
        ImportError: The target is another, or RAPIDS is not installed.
    """
    if not context.target.startswith("cuda"):
        raise ImportError("not here: needs a GPU of NVIDIA and RAPIDS")
    return _loaded(module, "needs RAPIDS, as its own page installs it for this driver")


def _loaded(module: str, missing: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == top:
            raise ImportError(f"not here: {missing}") from None
        raise ImportError(f"{top} is here and does not load: {why_not(error)}") from None


def compared(makers: Mapping[str, Maker], unit: str) -> Iterator[Raw]:
    """The figure of each library, or why there is none: a missing one is a line, and a faulty one costs itself only."""
    for name, make in makers.items():
        try:
            yield make()
        except ImportError as error:
            yield Raw(name=name, unit=unit, skipped=why_not(error))
        except Exception as error:  # whatever a library raises, the others go on
            yield Raw(name=name, unit=unit, skipped=f"{type(error).__name__}: {why_not(error)}")
