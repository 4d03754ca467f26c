"""What of the software decides how long an operator takes."""

from __future__ import annotations

from dataclasses import dataclass

from rigwise.workload.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a framework runs the operators of a step.

    Attributes:
        layout: Memory layout of images: nchw or nhwc.
        mode: eager or compiled.
        year: When the software was current; None: that of the calibration.
    """

    layout: str = "nchw"
    mode: str = "eager"
    year: float | None = None


def setting_of(case: Case) -> Setting:
    """The setting of a case; a compiler picks the quicker layout itself."""
    layout = "nhwc" if case.mode == "compiled" else case.layout
    return Setting(layout=layout, mode=case.mode, year=case.software.year)
