"""What lab 8 asks: why more GPUs do not help, synchronous and stale."""

from __future__ import annotations

from math import cos, pi

from rigwise.labs.exercise import Exercise, Prediction, choice, number
from rigwise.labs.mistakes import values

#: The step of the exercise: its time, how much of it every GPU does anew, GPUs.
STEP_MS, SHARED_MS, GPUS = 100.0, 10.0, 8
DELAY = 4


def speed_up(step: float, not_divided: float, count: float) -> float:
    """How many times as fast so many devices are, if a part of the step is not divided between them.

    Source: Amdahl, "Validity of the Single Processor Approach", 1967.

    >>> speed_up(100, 50, 2)
    1.3333333333333333
    """
    return step / (not_divided + (step - not_divided) / count)


def steepest_rate(delay: int) -> float:
    """The learning rate, times the curvature, from which gradients that are so many steps old no longer converge.

    Source: Levin & May, "A Note on Difference-Delay Equations", 1976.

    >>> round(steepest_rate(0), 9), round(steepest_rate(1), 9)
    (2.0, 1.0)
    """
    return 2 * cos(delay * pi / (2 * delay + 1))


_AMDAHL = speed_up(STEP_MS, SHARED_MS, GPUS)
_DIVIDED_MS = (STEP_MS - SHARED_MS) / GPUS

PREDICTIONS = {
    "8.1": Prediction(
        question="How many times as fast as one RTX 4090 are 32 of them, with the same batch?", unit="times"
    ),
    "8.3": Prediction(
        question="How many times as many steps a second do the two processes make that do not wait for each other?",
        unit="times",
    ),
    "8.4": Prediction(
        question="And how many times as soon is the loss as low as it was halfway through synchronous training?",
        unit="times",
    ),
}

EXERCISES = {
    "8.2": Exercise(
        question="A step takes 100 ms on one GPU. 90 ms of it are divided among all GPUs, 10 ms are not. How"
        " many times as fast are 8 GPUs?",
        judge=number(
            _AMDAHL,
            "10 ms + 90 ms / 8 are 21.25 ms, so {right:.2f} times; with ever more GPUs it never exceeds 10",
            within_frac=0.01,
            mistakes=values(
                _AMDAHL,
                {
                    GPUS: "8 times needs all of the step to be divided; 10 ms are not",
                    0.9 * GPUS: "0.9 x 8 takes the share for a factor; add up the times instead: what is not divided,"
                    " and an eighth of what is",
                    STEP_MS / SHARED_MS: "that is the limit for ever more GPUs; here there are 8",
                    STEP_MS / _DIVIDED_MS: "that leaves the 10 ms out",
                    (STEP_MS - SHARED_MS) / (_DIVIDED_MS + SHARED_MS): "one GPU takes all 100 ms, not 90",
                    _DIVIDED_MS + SHARED_MS: "that is the time of a step in ms; how many times as fast was asked for",
                    _AMDAHL / GPUS: "that is the efficiency, the speed-up for each GPU",
                },
            ),
        ),
    ),
    "8.5": Exercise(
        question="From which learning rate on do gradients that are 4 steps old no longer find the minimum?",
        judge=number(
            steepest_rate(DELAY),
            "2 cos(4 pi / 9) is {right:.3f}, against 2 without delay: stale gradients need smaller steps",
            within_frac=0.03,
            mistakes=values(
                steepest_rate(DELAY),
                {
                    steepest_rate(0): "that is the limit without delay",
                    2.0 / (DELAY + 1): "2 / 5 is close and still too much: run it for longer and see it grow",
                    steepest_rate(DELAY - 1): "that is the limit for gradients that are 3 steps old",
                    steepest_rate(DELAY + 1): "that is the limit for gradients that are 5 steps old",
                },
            ),
        ),
    ),
    "8.6": Exercise(
        question="Two equal computers, never disturbed, train a small network. What do stale updates gain: much"
        " (a), little (b), or do they lose for certain (c)?",
        judge=choice(
            "b",
            {
                "a": "nobody waits long for a computer that is as quick as oneself; only what hides behind"
                " computation is gained",
                "b": "there is nobody to wait for; what is left to gain is communication that hides behind"
                " computation, and what is lost are gradients that teach a little less",
                "c": "a little is gained still: communication hides behind computation; whether that pays is to"
                " be measured",
            },
        ),
    ),
}
