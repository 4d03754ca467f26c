"""Wrong answers by what they are, where a factor would hide them."""

from __future__ import annotations

from collections.abc import Mapping


def values(right: float, wrong: Mapping[float, str]) -> dict[float, str]:
    """Mistakes as ``exercise.number`` wants them: wrong answer over right answer.

    Args:
        right: The right answer.
        wrong: A wrong one -> the mistake that it shows; what is right after all is left out.

    >>> values(10.0, {5.0: "half of it", 10.0: "never said"})
    {0.5: 'half of it'}
    """
    return {value / right: words for value, words in wrong.items() if value != right}
