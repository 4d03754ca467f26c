"""Running a notebook without a browser, and what became of its exercises.

The kernel runs the learner's own code, as JupyterLab does: it is no sandbox. The notebook itself is not written.
"""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError, MissingExtraError, RunError
from rigwise.labs.learner import STATES

_LINE = re.compile(rf"^(\d+\.\d+)  ({'|'.join(STATES)})\b", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A notebook that ran.

    Attributes:
        wall_s: Start of the kernel to the end of the last cell.
        states: Name of an exercise -> ``Right``, ``Not yet`` or ``No answer yet``, as it said last.
        fault: Why it ended early; empty where it did not.
        document: The notebook with its outputs, as a file holds it.
    """

    wall_s: float
    states: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    document: str = ""


def execute(text: str, folder: Path, *, timeout_s: float = 300.0) -> Executed:
    """Run all cells in order.

    Args:
        text: A notebook file.
        folder: Where its kernel works.
        timeout_s: For one cell.

    Raises:
        InvalidInputError: It is no notebook.
        MissingExtraError: What runs notebooks is not installed.
        RunError: The kernel did not start.
    """
    nbclient, nbformat = _module("nbclient"), _module("nbformat")
    try:
        notebook = nbformat.reads(text, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInputError("this is no notebook", hint="it must be JSON of nbformat 4") from None
    client = nbclient.NotebookClient(
        notebook, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    started_s = time.monotonic()
    with tempfile.TemporaryFile() as written:
        fault = _run(nbclient, client, written)
    return Executed(
        wall_s=time.monotonic() - started_s,
        states=states_of(notebook),
        fault=fault,
        document=nbformat.writes(notebook),
    )


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(name, "lab") from None


def _run(nbclient: Any, client: Any, written: Any) -> str:
    """Run it; why it ended early in one line, or nothing."""
    no_kernel = _module("jupyter_client.kernelspec").NoSuchKernel
    wrong = nbclient.exceptions
    try:
        _run_all(client, written)
    except no_kernel:
        raise MissingExtraError("ipykernel", "lab") from None
    except wrong.CellExecutionError as error:
        return f"{_where(client)}: {_last_line(f'{error.ename}: {error.evalue}')}"
    except wrong.DeadKernelError:
        return f"{_where(client)}: the kernel died; out of memory is the usual cause{_told(written)}"
    except wrong.CellTimeoutError:
        return f"{_where(client)}: it took longer than {client.timeout:g} s"
    except (RuntimeError, OSError) as error:
        raise RunError(f"the kernel did not start: {_last_line(str(error))}{_told(written)}") from None
    return ""


def _run_all(client: Any, written: Any) -> None:
    """Run it. nbclient answers Ctrl-C by putting the kernel away, and fails of that in several ways."""
    try:
        with warnings.catch_warnings():  # of a home that cannot be written, for one: Jupyter helps itself
            warnings.simplefilter("ignore")
            client.execute(stderr=written)
    except Exception:
        if getattr(client, "_async_cleanup_kernel_future", None) is not None:
            raise KeyboardInterrupt from None
        raise


def states_of(notebook: Any) -> dict[str, str]:
    """What the exercises of a notebook said last."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(f"{output.text}\n" for output in outputs if output.output_type == "stream")
    return {name: state for name, state in _LINE.findall(text)}


def _where(client: Any) -> str:
    """The cell that ran last, counted as a reader counts."""
    cells = client.nb.cells
    ran = [place for place, cell in enumerate(cells, start=1) if cell.cell_type == "code" and _began(cell)]
    return f"cell {ran[-1] if ran else 1}"


def _began(cell: Any) -> bool:
    return bool(cell.get("execution_count") or cell.get("metadata", {}).get("execution"))


def _last_line(text: str) -> str:
    lines = [line for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it says nothing"


def _told(written: Any) -> str:
    """The last line that the kernel wrote to its terminal."""
    written.seek(0)
    lines = [line for line in written.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
    return f" ({lines[-1].strip()[:200]})" if lines and "WARNING" not in lines[-1] else ""
