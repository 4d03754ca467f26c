"""Lab 4: what is asked of compute graphs."""

from __future__ import annotations

from rigwise.labs.exercise import PERCENT, Exercise, Prediction, choice, number

PREDICTIONS = {
    "4.1": Prediction(question="Which share of the time do operators without multiply-adds take?", unit="of the time"),
}


def convolution_flops(batch: int, channels: tuple[int, int], kernel: int, pixels: int) -> int:
    """FLOP of a convolution with square kernels and as many pixels on each side of its result.

    Source: two FLOP for each multiply-add; one for each weight, picture and pixel of the result.

    >>> convolution_flops(1, (1, 1), 3, 1)
    18
    """
    return 2 * batch * channels[0] * channels[1] * kernel**2 * pixels**2


_RIGHT = convolution_flops(8, (64, 128), 3, 16)

EXERCISES = {
    "4.2": Exercise(
        question="A convolution with 3 x 3 kernels turns 64 channels into 128 and takes every second pixel (stride 2), "
        "so that 32 x 32 pixels become 16 x 16. How many FLOP for a batch of 8?",
        judge=number(
            float(_RIGHT),
            "2 x 8 x 64 x 128 x 3 x 3 x 16 x 16 = {right:,.0f}",
            within_frac=1e-3,
            mistakes={
                0.5: "those are multiply-adds (MACs); each is 2 FLOP",
                4.0: "that is with 32 x 32 pixels; the sum is done for each pixel of the result, and there are 16 x 16",
                2.0: "that is with 32 x 32 pixels and multiply-adds counted once; count 16 x 16 and 2 FLOP each",
                1 / 9: "the kernel is missing: each pixel of the result sums over 3 x 3 pixels",
                1 / 18: "the kernel is missing, and a multiply-add is 2 FLOP",
                1 / 3: "the kernel has 3 x 3 weights for each pair of channels, not 3",
                1 / 8: "that is for one picture; the batch has 8",
                1 / 16: "that is multiply-adds of one picture: 2 FLOP each, and 8 pictures",
                1 / 64: "every channel of the result sums over all 64 channels that come in",
                1 / 128: "there are 128 channels in the result",
            },
        ),
    ),
    "4.3": Exercise(
        question="A training step runs forward and backward. About how many times the FLOP of the forward pass is it "
        "altogether: 1, 2, 3 or 6?",
        judge=choice(
            "3",
            {
                "1": "that would be the forward pass alone",
                "2": "that is the backward pass alone, or one product for each layer in it; there are two, one for the "
                "gradient of the weights and one for that of the inputs",
                "3": "each layer has one product forward and two backward: for its weights, and for its inputs, which "
                "the first layer does not need",
                "6": "6 FLOP for each weight and sample is right, and the forward pass alone is 2 of them",
            },
        ),
    ),
    "4.4": Exercise(
        question="A layer takes 1 of 10 ms. Somebody makes it infinitely quick. Which share of the time is saved, as a "
        "fraction?",
        judge=number(
            0.1,
            "what takes a tenth can save a tenth, however quick it becomes: look for what takes the time first",
            within_frac=1e-3,
            mistakes={
                **PERCENT,
                9.0: "that is what is left",
                10 / 9: "a ninth would be saved of the rest; of the step it is a tenth",
            },
        ),
    ),
}
