"""What of the software decides how long an operator takes."""

from __future__ import annotations

from dataclasses import dataclass

from rigwise.facts.catalogue import torch_year
from rigwise.workload.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a framework runs the operators of a step.

    Attributes:
        layout: Memory layout of images: nchw or nhwc.
        mode: eager or compiled.
        year: When the software was current; None: that of the calibration.
        runtime: What runs the model; serving runtimes bring attention kernels of their own.
        plain_convolution: Convolutions by the framework's own kernels, without cuDNN.
        operand_sets: Equal sets of operands that a benchmark of one operator rotates; 0: a step, nothing is warm.
    """

    layout: str = "nchw"
    mode: str = "eager"
    year: float | None = None
    runtime: str = "torch"
    plain_convolution: bool = False
    operand_sets: int = 0


def setting_of(case: Case) -> Setting:
    """The setting of a resolved case."""
    plain = case.software.convolution == "plain"
    return Setting(
        layout=case.layout, mode=case.mode, year=_year_of(case), runtime=case.runtime, plain_convolution=plain
    )


def _year_of(case: Case) -> float | None:
    """When the software of a case was current, if it says so."""
    if case.software.year:
        return float(case.software.year)
    return torch_year(case.software.torch) if case.software.torch else None
