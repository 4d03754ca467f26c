"""What lab 7 asks: all-reduce round a ring and over a tree."""

from __future__ import annotations

from math import log2

from rigwise.labs.exercise import BINARY, Exercise, Prediction, number
from rigwise.labs.mistakes import values

#: The network of the lab.
RANKS, LATENCY_S, BYTES_PER_S = 8, 2e-3, 100e6
#: ResNet-50 in the exercise: weights, bytes of a gradient.
WEIGHTS, GRADIENT_BYTES = 25.6e6, 4.0


def crossing_bytes(ranks: int, latency_s: float, bytes_per_s: float) -> float:
    """The message at which a ring and a plain binary tree, which sends it whole at each hop, take equally long.

    Source: ``2 (n-1) (latency + m / n / rate) = 2 log2 n (latency + m / rate)``, solved for m.

    >>> round(crossing_bytes(8, 2e-3, 100e6))
    376471
    """
    saved_s = 2 * (ranks - 1 - log2(ranks)) * latency_s
    more_s_per_byte = 2 * (log2(ranks) - (ranks - 1) / ranks) / bytes_per_s
    return saved_s / more_s_per_byte


_CROSSING_KB = crossing_bytes(RANKS, LATENCY_S, BYTES_PER_S) / 1e3
_MESSAGE_MB = WEIGHTS * GRADIENT_BYTES / 1e6
_SENT_MB = 2 * (RANKS - 1) / RANKS * _MESSAGE_MB
_HOP_KB = LATENCY_S * BYTES_PER_S / 1e3  # what a link could send in one latency
_LARGE = (63 / 64) / (7 / 8)

PREDICTIONS = {
    "7.1": Prediction(question="How many times as long as the tree does the ring take for 4 kB?", unit="times"),
    "7.2": Prediction(question="And how many times as long as the ring does the tree take for 4 MB?", unit="times"),
}

EXERCISES = {
    "7.3": Exercise(
        question="Set 2 (n-1) (latency + m / n / rate) equal to 2 log2 n (latency + m / rate). For which m, in"
        " kB, are ring and tree equally quick, with n = 8, 2 ms and 100 MB/s?",
        judge=number(
            _CROSSING_KB,
            "14 x 2 ms + 1.75 m / rate = 6 x 2 ms + 6 m / rate: 16 ms pay for 4.25 m / rate, so {right:.0f} kB",
            within_frac=0.015,
            mistakes=values(
                _CROSSING_KB,
                {
                    32 * _HOP_KB: "that is the crossing with NCCL's two trees, which send in pieces; this tree"
                    " sends the whole message at each hop",
                    11 / 1.25 * _HOP_KB: "the tree was counted in one direction only: up and down are 2 log2 n ="
                    " 6 hops",
                    1 / 5.125 * _HOP_KB: "the ring was counted in one direction only: it goes round twice, 2"
                    " (n-1) = 14 hops",
                    8 / 6 * _HOP_KB: "the ring moves bytes too: 1.75 times the message",
                    8 / 4.25 * 8 * _HOP_KB: "that is bits where bytes were asked for",
                },
            )
            | BINARY,
        ),
    ),
    "7.4": Exercise(
        question="ResNet-50 has 25.6 million weights with gradients of 4 bytes. How many MB does each of 8 GPUs"
        " send in every step, round a ring?",
        judge=number(
            _SENT_MB,
            "the message is 102.4 MB; each sends an eighth of it 2 x 7 times, 1.75 x 102.4 = {right:.1f} MB",
            within_frac=0.01,
            mistakes=values(
                _SENT_MB,
                {
                    _MESSAGE_MB: "that is the message once; each part goes round twice, once to add up and once"
                    " to tell",
                    2 * _MESSAGE_MB: "that is 2 m; in a ring each sends 2 (n-1)/n of the message",
                    _SENT_MB / 2: "that is adding up alone; the sum has to go round again",
                    14 * _MESSAGE_MB: "that sends the whole message at each of 14 hops, where it is an eighth of"
                    " it; or it is bits where bytes were asked for",
                    _SENT_MB / GRADIENT_BYTES: "that counts a byte for each gradient; in fp32 it is four",
                    RANKS * _MESSAGE_MB: "that is the gradients of all GPUs; each has its own to send",
                },
            )
            | BINARY,
        ),
    ),
    "7.5": Exercise(
        question="From 8 to 64 GPUs on equal links: how many times as long does the ring take for a very large"
        " message?",
        judge=number(
            _LARGE,
            "2 x 63/64 of the message against 2 x 7/8: {right:.3f} times, and never more than 2 / 1.75",
            within_frac=0.01,
            mistakes=values(
                _LARGE,
                {
                    8.0: "eight times as many GPUs, but each part is an eighth of what it was",
                    9.0: "that is the number of hops, which a very large message does not feel",
                    1.0: "nearly: each sends 2 (n-1)/n of the message, which still grows a little",
                    2.0: "that is the latency of a tree, 12 hops against 6; a ring was asked for, and bytes",
                },
            ),
        ),
    ),
}
