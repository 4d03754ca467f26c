"""Lab 2: what is asked of number formats."""

from __future__ import annotations

import math
from typing import Any

from rigwise.labs.exercise import Exercise, Given, Prediction, Verdict, choice, number

PREDICTIONS = {
    "2.1": Prediction(question="How many times the error of fp16 is that of bf16?", unit="times"),
    "2.2": Prediction(question="How many times as quick as fp32 is fp16 on this machine?", unit="times"),
}


def largest(exponent_bits: int, fraction_bits: int) -> float:
    """The largest finite number: all fraction bits set, and the highest exponent that does not mean infinity.

    Source: IEEE 754-2019, 3.4: the exponent of all ones stands for infinity and for what is no number.

    >>> largest(5, 10)
    65504.0
    """
    return math.ldexp(2.0 - math.ldexp(1.0, -fraction_bits), 2 ** (exponent_bits - 1) - 1)


def smallest(exponent_bits: int, fraction_bits: int) -> float:
    """The smallest number above zero, with leading zeros in its fraction.

    Source: IEEE 754-2019, 3.4: subnormal numbers have the lowest exponent and no hidden one.

    >>> smallest(5, 10) == 2.0**-24
    True
    """
    return math.ldexp(1.0, 2 - 2 ** (exponent_bits - 1) - fraction_bits)


_GRADIENT = 1e-9


def _least_scale(answer: Any, given: Given) -> Verdict:
    """Whether a factor is the least power of two that keeps the gradient from vanishing in fp16."""
    verdict = number(32.0, "", within_frac=1e-6)(answer, given)
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not 0 < answer < math.inf:
        return verdict
    half_step = smallest(5, 10) / 2
    because = {
        32.0: "32e-9 is more than half of the smallest number, 2**-24 = 6e-8, and is rounded up to it",
        64.0: "that keeps it, but so does half of it: above half a step, numbers are rounded up",
        5.0: "that is the power; the factor is 2 to it",
        6.0: "that is a power, and one too many; the factor is 2 to it",
    }
    told = because.get(float(answer))
    if told is None and math.log2(answer) % 1:
        told = "a power of two was asked for: it changes the exponent alone and costs no precision"
    if told is None:
        keeps = answer * _GRADIENT > half_step
        low = "it still vanishes: below half of 2**-24, zero is nearer"
        told = "that keeps it, but much less would" if keeps else low
    return Verdict(right=answer == 32, because=told)


EXERCISES = {
    "2.3": Exercise(
        question="What is the largest finite number of fp16, with 5 exponent bits and 10 fraction bits? "
        "(The exponent of all ones is kept for infinity.)",
        judge=number(
            largest(5, 10),
            "(2 - 2**-10) x 2**15 = {right:,.0f}",
            within_frac=1e-5,
            mistakes={
                65536 / 65504: "nearly: 2**16 itself has no place, the fraction ends one step below",
                2.0 * 65536 / 65504: "the exponent of all ones is kept for infinity, so the highest is 15",
                2.0: "the exponent of all ones is kept for infinity, so the highest is 15",
                0.5: "the one before the point is not stored but counts: the fraction reaches nearly 2",
                32768 / 65504: "that is 2**15; the fraction bits can all be ones and nearly double it",
                65535 / 65504: "that is the largest whole number of 16 bits; here 5 of them are an exponent",
                32767 / 65504: "that is the largest whole number of 15 bits; here 5 of them are an exponent",
            },
        ),
    ),
    "2.4": Exercise(
        question="By which power of two must a loss at least be scaled, so that a gradient of 1e-9 is not 0 in fp16?",
        judge=_least_scale,
    ),
    "2.5": Exercise(
        question="Gradients of a network lie between 1e-10 and 10, and nobody wants to scale losses: fp16 or bf16?",
        judge=choice(
            "bf16",
            {
                "bf16": "its exponents are those of fp32, down to 1e-38; the two or three digits that it keeps are "
                "enough for gradients, which are noisy anyway",
                "fp16": "it has the finer steps, but nothing below 6e-8: all smaller gradients are zero",
            },
        ),
    ),
}
