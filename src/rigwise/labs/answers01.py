"""Lab 1: what is asked of a roofline."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.labs.exercise import MULTIPLY_ADD, Exercise, Given, Prediction, number

PREDICTIONS = {
    "1.1": Prediction(question="How many FLOP can this machine do while it fetches one byte?", unit="FLOP/byte"),
    "1.2": Prediction(question="How many times as long as one sample do 16 samples take?", unit="times"),
}

_SIDE, _SAMPLES, _BYTES = 2048, 64, 4


def intensity(side: float, samples: float, number_bytes: float = _BYTES) -> float:
    """FLOP per byte of a square matrix times so many columns, each number moved once.

    Source: two FLOP for each of ``side * side * samples`` multiply-adds; the matrix, the columns and the result.

    >>> intensity(2, 1, 4)
    0.25
    """
    return 2 * side * side * samples / (number_bytes * (side * side + 2 * side * samples))


def batch_at_ridge(given: Given) -> float:
    """The number of columns whose intensity is the ridge point of what was measured; infinite where none is.

    Source: ``intensity`` solved for the samples.

    >>> round(intensity(4096, batch_at_ridge({"peak": 100.0, "bandwidth": 10.0, "N": 4096})), 9)
    10.0
    """
    ridge, side = given["peak"] / given["bandwidth"], given["N"]
    most = side / _BYTES  # FLOP per byte that no batch exceeds
    return float("inf") if ridge >= most else _BYTES * ridge / (2 * (1 - ridge / most))


def _ridge_mistakes(given: Given) -> Mapping[float, str]:
    """The ridge itself, over the right answer, and the batch where only the weights are counted."""
    right, ridge = batch_at_ridge(given), given["peak"] / given["bandwidth"]
    return {
        ridge / right: "that is the ridge point itself; a sample does 2 FLOP with each weight of 4 bytes",
        2.0: "half of it: each weight does 2 FLOP for each sample, a multiplication and an addition",
        4 * ridge / right: "that is one FLOP for each weight and sample; a multiply-add is 2",
    }


EXERCISES = {
    "1.3": Exercise(
        question=f"Weights of {_SIDE} x {_SIDE} numbers in fp32, times {_SAMPLES} samples: how many FLOP per byte, "
        "if weights, samples and results are each moved once?",
        judge=number(
            intensity(_SIDE, _SAMPLES),
            "2 x 2048 x 2048 x 64 FLOP over 4 x (2048 x 2048 + 2 x 2048 x 64) bytes are {right:.1f}",
            within_frac=0.015,
            mistakes={
                **MULTIPLY_ADD,
                4.0: "that is FLOP per number; a number in fp32 has 4 bytes",
                2 * _SAMPLES / _BYTES / intensity(_SIDE, _SAMPLES): "the weights alone were counted: samples and "
                "results are moved as well",
                2 * _SAMPLES / intensity(_SIDE, _SAMPLES): "that is FLOP for each weight; a weight has 4 bytes, and "
                "samples and results move too",
                8.0: "that is FLOP per number, and a multiply-add counted as 4; a number in fp32 has 4 bytes",
            },
        ),
    ),
    "1.4": Exercise(
        question="From how many samples on does the layer of N x N compute longer than it fetches, by the peak and "
        "the bandwidth that you measured? (Solve intensity = ridge point for n; a sixth off still counts.)",
        judge=number(
            batch_at_ridge,
            "about {right:.0f} samples: 4 bytes a weight, 2 FLOP for each sample, so half of 4 times the ridge point, "
            "and a little more for the samples themselves",
            within_frac=0.17,
            mistakes=_ridge_mistakes,
        ),
    ),
}
