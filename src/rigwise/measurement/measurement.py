"""One measured time, as a table of measurements states it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A row of a table of measurements; docs/reference/measurements.md says what each column means.

    Attributes:
        source: Who published it; the stem of the file where a table does not say.
        device, device_variant: As the table spells them.
        count: Devices that shared the work.
        model: A network, or ``op:`` and an operator.
        task: infer, train, prefill, decode, or the part of a training step: fwd, bwd.
        precision, layout: As the table spells them; layout is empty where it does not matter.
        batch: Samples of one step over all devices; None where the table does not say.
        shape: Image size, sequence length, or the sizes of an operator.
        framework: Software with its versions.
        metric: What ``value`` counts: see ``METRICS``.
        value: In the unit of the metric.
        notes: Anything else, ``key=value`` pairs separated by semicolons.
        where: File and line, for messages.
        spread_frac: Standard deviation of ln(value) between the samples behind it; 0 where it is not known.
    """

    source: str
    device: str
    device_variant: str
    count: int
    model: str
    task: str
    precision: str
    layout: str
    batch: int | None
    shape: str
    framework: str
    metric: str
    value: float
    notes: str
    where: str
    spread_frac: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row, or a whole file, that was left out.

    Attributes:
        where: File and line.
        reason: What is wrong with it.
    """

    where: str
    reason: str


def spread_frac(p10: float | None, p90: float | None) -> float:
    """Standard deviation of ln(value) whose tenths lie beyond p10 and p90; 0 where one is missing.

    >>> round(spread_frac(0.9, 1.1), 3), spread_frac(None, 1.0)
    (0.078, 0.0)

    Source: quantiles of the normal distribution, +-1.2816 standard deviations.
    """
    return math.log(p90 / p10) / (2 * 1.2816) if p10 and p90 and 0 < p10 < p90 < math.inf else 0.0


#: What a value may count. Rates are over all devices.
METRICS = ("s_per_step", "ms_per_step", "us_per_step", "samples_per_s", "tokens_per_s")
