"""What lab 5 asks: how quick a GPU is that one does not own."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.labs.exercise import BINARY, BITS, Exercise, Given, Prediction, choice, number
from rigwise.labs.mistakes import values

PREDICTIONS = {
    "5.1": Prediction(
        question="How many times as fast as the RTX 3090 does the RTX 4090 write, one word piece at a time?",
        unit="times",
    ),
    "5.2": Prediction(
        question="And how many times as fast does it read a text of 4,096 word pieces at once?", unit="times"
    ),
    "5.4": Prediction(question="How long does one pass of your network take on this machine?", unit="ms"),
}


def tokens_per_s(given: Given) -> float:
    """Tokens that can be written in a second at most: each reads all weights once.

    Source: the memory roof of one sequence, nothing else read.

    >>> tokens_per_s({"weights": 3e9, "bandwidth": 9e11})
    150.0
    """
    return float(given["bandwidth"] / (2.0 * given["weights"]))


def _mistakes(given: Given) -> Mapping[float, str]:
    compute = given["peak"] / (2.0 * given["weights"]) / tokens_per_s(given)
    return {
        2.0: "that takes a byte for each weight; 16 bits are two",
        0.5: "that takes four bytes for each weight; 16 bits are two",
        **BITS,
        1 / 16: "that takes 16 bytes for each weight; it is 16 bits, two bytes",
        **BINARY,
        compute: "that is the roof of arithmetic; one token alone does 2 FLOP for each weight it fetches, far"
        " too few to reach it",
    }


EXERCISES = {
    "5.3": Exercise(
        question="The weights have 16 bits each and all of them are read for each token. How many tokens can the"
        " RTX 4090 write in a second at most?",
        judge=number(
            tokens_per_s,
            "{bandwidth:.4g} B/s over 2 x {weights:.3g} bytes are {right:.0f}; nothing can be quicker, whatever"
            " it computes",
            within_frac=0.015,
            mistakes=_mistakes,
        ),
    ),
    "5.5": Exercise(
        question="Card A has 60 TFLOP/s and 1.6 TB/s, card B 160 TFLOP/s and 0.8 TB/s. Your step does 40 FLOP"
        " for each byte that it moves. Which card is quicker?",
        judge=choice(
            "a",
            {
                "a": "A's roofs are 60 TFLOP/s and 1.6 TB/s x 40 = 64: it does 60. B's memory feeds 0.8 x 40 ="
                " 32 of its 160",
                "b": "B has more arithmetic than its memory feeds: 0.8 TB/s x 40 FLOP/byte are 32 TFLOP/s, of 160",
            },
        ),
    ),
    "5.6": Exercise(
        question="At which arithmetic intensity, in FLOP/byte, are the two cards equally quick?",
        judge=number(
            75.0,
            "A does 60 TFLOP/s from 37.5 FLOP/byte on; B reaches 60 at 60 / 0.8 = {right:g}, and passes it from there",
            within_frac=0.01,
            mistakes=values(
                75.0,
                {
                    37.5: "that is A's ridge point, 60 / 1.6; there B does 0.8 x 37.5 = 30 TFLOP/s",
                    200.0: "that is B's ridge point, 160 / 0.8; it has passed A long before",
                    100.0: "that is where A, if it could, and B would reach 160 TFLOP/s; A never does more than 60",
                },
            ),
        ),
    ),
}
