"""Continuous batching in the steady state: how many requests a replica takes, and what its users wait for.

Requests of P prompt and O output tokens arrive at a rate r. Each brings one prompt, T_p, after
which it takes part in O - 1 decode steps. A replica works without a pause, so the share r T_p of
its time goes to prompts, and a decode step that takes T_d(N) alone comes round every

    T = T_d(N) / (1 - r T_p)                      time for each output token
    N = r (O - 1) T                               sequences at one time

Without T, these are r = N / ((O - 1) T_d(N) + N T_p) and T = T_d(N) + N T_p / (O - 1): more
sequences are more requests and a longer wait. The first token comes after the step that is under
way and the prompt: T_d(N) + T_p. Whether the prompt runs whole or in pieces between steps changes
single gaps between tokens, not their mean.

Left out: queues and the tails of waiting that they make, requests of other lengths, prompts that
share a beginning, steps that take prompts and tokens together (which read weights once for both).

Source: Little, "A Proof for the Queuing Formula L = lambda W", 1961; Yu et al., "Orca", 2022,
section 3, for batching by the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.serving_curve import Curves
from rigwise.workload.serving_load import Serving
from rigwise.workload.table import Array

_NORMAL = NormalDist()
#: Quantiles between which a probability is sought, in standard deviations.
_FURTHEST = 6.0


def rate_per_s(sequences: Any, decode_s: Any, prefill_s: Any, decode_steps: int) -> Any:
    """Requests in a second of a replica that has ``sequences`` at one time.

    Source: see the module.

    >>> rate_per_s(10.0, 0.02, 0.05, 100)
    4.0
    """
    return sequences / (decode_steps * decode_s + sequences * prefill_s)


def token_s(sequences: Any, decode_s: Any, prefill_s: Any, decode_steps: int) -> Any:
    """Mean time from one token of a request to its next; nothing without a next one.

    Source: see the module.

    >>> token_s(10.0, 0.02, 0.05, 100)
    0.025
    """
    return decode_s + sequences * prefill_s / decode_steps if decode_steps else 0.0 * decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Steps at one quantile: ``decode_s`` ``[machines, sizes]``, ``prefill_s`` ``[machines]``."""

    decode_s: Array
    prefill_s: Array

    def pick(self, machine: int) -> Times:
        """Those of one machine, still with an axis for it."""
        return Times(decode_s=self.decode_s[[machine]], prefill_s=self.prefill_s[[machine]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The most that a replica takes within the limits ``[machines]``; nothing is 0.

    Attributes:
        rate_per_s: Requests.
        sequences: At one time.
    """

    rate_per_s: Array
    sequences: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A replica at work at a given rate.

    Attributes:
        sequences: At one time, on average.
        recorded: Index of the recorded number that a step is padded to.
    """

    sequences: float
    recorded: int


def times_at(curves: Curves, deviations: float) -> Times:
    """Steps at a quantile, given in standard deviations of ln(time) above the median.

    A step is padded to a recorded number, so one of more sequences is never quicker.

    >>> from statistics import NormalDist
    >>> round(NormalDist().inv_cdf(0.9), 2)
    1.28
    """
    decode_s = np.maximum(curves.decode_s * np.exp(deviations * curves.decode_spread), curves.decode_floor_s)
    prefill_s = np.maximum(curves.prefill_s * np.exp(deviations * curves.prefill_spread), curves.prefill_floor_s)
    return Times(decode_s=np.maximum.accumulate(decode_s, axis=1), prefill_s=prefill_s)


def fitting_sequences(curves: Curves, confidence: float) -> Array:
    """The most whole sequences whose peak is within the memory with that probability ``[machines]``.

    The peak is the larger of sums that grow with the sequences, so between two numbers it lies
    under the straight line: what the line says is never too many.
    """
    margin = np.exp(-_NORMAL.inv_cdf(confidence) * curves.memory_spread)
    found = np.zeros(len(margin))
    for row, allowed in enumerate(curves.capacity_bytes * margin):
        peaks = curves.memory_bytes[row]
        over = np.flatnonzero(~(peaks <= allowed))
        if not over.size:
            found[row] = curves.batches[-1]
        elif over[0] > 0:
            last, first = over[0] - 1, over[0]
            part = (allowed - peaks[last]) / (peaks[first] - peaks[last])
            found[row] = np.floor(curves.batches[last] + part * (curves.batches[first] - curves.batches[last]) + 1e-9)
    return found


def capacity(batches: Array, times: Times, fitting: Array, load: Serving) -> Capacity:
    """The most that replicas take within the limits of a load.

    At each recorded number the sequences are as many as that number, the memory and the time for
    each token allow; of all numbers the best counts.

    Source: see the module.
    """
    decode_s, prefill_s = times.decode_s, times.prefill_s[:, None]
    most = np.minimum(batches[None, :], fitting[:, None])
    if load.tpot_s is not None and load.decode_steps:
        most = np.minimum(most, (load.tpot_s - decode_s) * load.decode_steps / prefill_s)
    allowed = (most > 0) & (fitting[:, None] >= 1)
    if load.ttft_s is not None:
        allowed &= decode_s + prefill_s <= load.ttft_s
    most = np.where(allowed, most, 0.0)
    rates = np.nan_to_num(rate_per_s(np.maximum(most, 1e-300), decode_s, prefill_s, load.decode_steps) * allowed)
    best = rates.argmax(axis=1)
    rows = np.arange(len(best))
    return Capacity(rate_per_s=rates[rows, best], sequences=most[rows, best])


def operation(batches: Array, times: Times, rate: float, decode_steps: int) -> Operation | None:
    """One replica at a rate: the smallest recorded number that takes the sequences there then are.

    None if it falls behind.

    Source: see the module.
    """
    decode_s, left = times.decode_s[0], 1.0 - rate * float(times.prefill_s[0])
    if left <= 0:
        return None
    sequences: NDArray[np.float64] = rate * decode_steps * decode_s / left
    enough = np.flatnonzero(sequences <= batches * (1 + 1e-9))
    if not enough.size:
        return None
    return Operation(sequences=float(sequences[enough[0]]), recorded=int(enough[0]))


def probability(curves: Curves, machine: int, fitting: float, load: Serving, rate: float) -> float:
    """Chance that a replica takes a rate within the limits, all its steps being slow or quick together.

    Source: quantiles of the estimate; the slower the steps the less a replica takes, so the chance
    is that of the slowest times that still do.
    """

    def takes(deviations: float) -> bool:
        times = times_at(curves, deviations).pick(machine)
        return bool(capacity(curves.batches, times, np.array([fitting]), load).rate_per_s[0] >= rate * (1 - 1e-9))

    low, high = -_FURTHEST, _FURTHEST
    if not takes(low):
        return 0.0
    if takes(high):
        return 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return _NORMAL.cdf(low)
