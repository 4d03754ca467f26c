"""What lab 6 asks: disks, records and the input pipeline."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from rigwise.bench.pipeline import HARD_DISK, PAGE_BYTES, UNPACKED_BYTES, reading
from rigwise.labs.exercise import Exercise, Given, Prediction, Verdict, number
from rigwise.labs.mistakes import values

READS_PER_S, BYTES_PER_S = HARD_DISK
_SEEK_H = reading("hard disk", *HARD_DISK).by_seek_s / 3600

PREDICTIONS = {
    "6.1": Prediction(
        question="How many times as many samples a second come out of one packed file as out of as many small files,"
        " neither of them in memory yet?",
        unit="times",
    ),
    "6.3": Prediction(
        question="Decoding takes as long as computing. Without help the GPU computes half of the time; how much of it"
        " with one worker?",
        unit="%",
    ),
}


def judge_cores(answer: Any, given: Given) -> Verdict:
    """Whole cores, so that what they decode together is at least what is wanted."""
    exact = given["wanted"] / given["per_core"]
    needed = math.ceil(exact)
    if isinstance(answer, bool) or not isinstance(answer, Real) or not math.isfinite(float(answer)):
        return Verdict(right=False, because="a whole number of cores was asked for")
    value = float(answer)
    told = f"{given['wanted']:,.0f} pictures a second at {given['per_core']:,.0f} a core are {exact:.2f} cores"
    if value == needed:
        return Verdict(right=True, because=f"{told}, so {needed}; with fewer the GPU waits")
    if math.isclose(value, exact, rel_tol=0.02):
        return Verdict(right=False, because="that is right before rounding; there are whole cores only")
    if value == math.floor(exact):
        short = given["wanted"] - value * given["per_core"]
        return Verdict(
            right=False, because=f"rounded down, {short:,.0f} pictures a second are missing and the GPU waits"
        )
    if math.isclose(value, 1 / exact, rel_tol=0.02):
        return Verdict(right=False, because="that is one over it: divide what is wanted by what a core does")
    words = "so many would wait for the GPU" if value > needed else "with so few the GPU waits"
    return Verdict(right=False, because=words)


EXERCISES = {
    "6.2": Exercise(
        question="A hard disk does 110 reads a second at random places. ImageNet, counted as 2**40 bytes, is"
        " read in pages of 4 KiB in any order. How many hours does one pass take?",
        judge=number(
            _SEEK_H,
            "2**40 / 4096 are 268 million reads, at 110 a second {right:.0f} hours: four weeks for each epoch",
            within_frac=0.01,
            mistakes=values(
                _SEEK_H,
                {
                    1e12 / PAGE_BYTES / READS_PER_S / 3600: "that takes 1e12 bytes for 2**40: a TB for a TiB, 9 % less",
                    UNPACKED_BYTES / 4000 / READS_PER_S / 3600: "that takes 4,000 bytes for a page of 4 KiB,"
                    " which has 4,096",
                    _SEEK_H / 24: "that is days; hours were asked for",
                    _SEEK_H * 60: "that is minutes; hours were asked for",
                    _SEEK_H * 3600: "that is seconds; hours were asked for",
                    UNPACKED_BYTES / BYTES_PER_S / 3600: "that is reading in sequence at 170 MB/s, which is what"
                    " packing is for",
                },
            ),
        ),
    ),
    "6.4": Exercise(
        question="How many cores must decode so that an H100 that trains ResNet-50 does not wait?",
        judge=judge_cores,
    ),
}
