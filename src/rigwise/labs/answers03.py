"""Lab 3: what is asked of layouts."""

from __future__ import annotations

from typing import Any

from rigwise.labs.exercise import Exercise, Given, Prediction, Verdict, choice, number

PREDICTIONS = {
    "3.1": Prediction(question="Every 16th number: which share of the time that all of them take?", unit="of it"),
    "3.2": Prediction(question="How many times as quick as NCHW is NHWC?", unit="times"),
}

#: Pictures of the exercises: number, channels, rows, columns.
SHAPE = (8, 3, 224, 224)


def strides(shape: tuple[int, int, int, int], layout: str) -> tuple[int, int, int, int]:
    """Numbers from one to the next along N, C, H and W.

    >>> strides((8, 3, 224, 224), "nchw"), strides((8, 3, 224, 224), "nhwc")
    ((150528, 50176, 224, 1), (150528, 1, 672, 3))
    """
    _, channels, rows, columns = shape
    picture = channels * rows * columns
    if layout == "nhwc":
        return picture, 1, columns * channels, channels
    return picture, rows * columns, columns, 1


def _judge_strides(answer: Any, given: Given) -> Verdict:
    """Whether four numbers are the strides of NHWC."""
    right = strides(SHAPE, "nhwc")
    try:
        told = tuple(int(one) for one in answer)
    except (TypeError, ValueError):
        return Verdict(right=False, because="four whole numbers were asked for, as in (1, 2, 3, 4)")
    n, c, h, w = right
    known = {
        right: "the channels of a pixel are neighbours, then come the pixels of a row, then the rows",
        strides(SHAPE, "nchw"): "those are the strides of NCHW, where a channel is a plane",
        tuple(4 * one for one in right): "those are bytes; PyTorch counts strides in numbers",
        (
            n,
            h,
            w,
            c,
        ): "those are the right numbers in the order N, H, W, C; strides follow the shape, N, C, H, W",
    }
    if told in known:
        return Verdict(right=told == right, because=known[told])
    if len(told) != len(right):
        return Verdict(right=False, because=f"there are four axes, and {len(told)} numbers here")
    names = [name for name, one, wanted in zip("NCHW", told, right, strict=True) if one != wanted]
    return Verdict(
        right=False, because=f"that of {' and '.join(names)} differs: count what lies between two neighbours"
    )


_PLANE_BYTES = 224 * 224 * 4

EXERCISES = {
    "3.3": Exercise(
        question=f"A batch of shape {SHAPE} in NHWC (channels_last): what are its strides, in the order N, C, H, W?",
        judge=_judge_strides,
    ),
    "3.4": Exercise(
        question="One picture of 3 x 224 x 224 numbers in fp32 lies in NHWC. Only its first channel is read. "
        "How many bytes does memory deliver, in lines of 64 bytes?",
        judge=number(
            3.0 * _PLANE_BYTES,
            "every line holds numbers of all channels, so all {right:,.0f} bytes come, a third of them wanted",
            within_frac=1e-4,
            mistakes={
                1 / 3: "that is what is wanted; but the numbers are 12 bytes apart, and every line has some of them",
                0.25: "those are numbers; one in fp32 has 4 bytes",
                1 / 12: "those are the numbers that are wanted; a number has 4 bytes, and whole lines are delivered",
                16.0 / 3: "that is a line for each number; but five numbers of a channel share a line",
                8.0: "that is in bits, or for a batch of 8; one picture, in bytes",
            },
        ),
    ),
    "3.5": Exercise(
        question="a.t() turns a matrix round: it copies nothing. And a.t().contiguous(), 'copies' or 'nothing'?",
        judge=choice(
            "copies",
            {
                "copies": "a.t() is another view of the same memory; contiguous() writes the numbers in the new order, "
                "which reads or writes with gaps and is slower than a plain copy",
                "nothing": "a.t() changes the strides alone; its numbers do not lie in their order, so contiguous() "
                "has to copy them",
            },
        ),
    ),
}
