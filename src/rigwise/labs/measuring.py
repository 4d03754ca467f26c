"""Measuring in a notebook: figures of ``rigwise bench``, and the time of a call of the learner's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rigwise.errors import RunError
from rigwise.labs.learner import sized

if TYPE_CHECKING:
    from rigwise.bench.types import Figure


def measure(*names: str, part: str = "cpu", each_s: float = 0.3, folder: str = ".") -> Mapping[str, Figure]:
    """Figures of ``rigwise bench`` by their names, measured now, each in about ``each_s`` (a quarter in a quick run).

    What cannot be measured here is left out; why is printed.

    Args:
        names: Benchmarks or figures: ``stream``, ``matmul.fp32``.
        part: ``cpu``, or ``gpu0`` for the first GPU.
        each_s: Time for one figure.
        folder: Where the disk is tested.

    Raises:
        UnknownNameError: There is no such benchmark.
        RunError: Nothing could be measured.
    """
    from rigwise.bench.suite import Request, run_suite

    quick_s = sized(each_s, each_s / 4)
    report = run_suite(Request(names=names, part=part, each_s=quick_s, folder=folder))
    figures = {figure.raw.name: figure for figure in report.figures if figure.value is not None}
    for figure in report.figures:
        if figure.value is None:
            print(f"{figure.raw.name} was not measured: {figure.raw.skipped}")
    if not figures:
        raise RunError("nothing could be measured", hint=f"rigwise bench {' '.join(names)}")
    return figures


def timed(call: Callable[[], object], each_s: float = 0.2, target: str = "cpu") -> float:
    """Median time of one call in seconds, warmed up, over blocks of calls for about ``each_s``.

    Args:
        call: Without arguments.
        each_s: Time for all of it; a quarter in a quick run.
        target: Where it computes, as PyTorch names it: a GPU's queue is waited for.
    """
    from rigwise.bench.framework import torch_or_none, waiting
    from rigwise.bench.timing import measure as blocks
    from rigwise.bench.timing import quantile

    wait = waiting(torch_or_none(), target)
    return quantile(blocks(call, sized(each_s, each_s / 4), wait).samples_s, 0.5)
