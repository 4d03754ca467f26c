"""What an operator costs that does nothing: the framework's own path, and on a GPU the launch of a kernel."""

from __future__ import annotations

from collections.abc import Iterator

from rigwise.bench.framework import normal, torch_or_none, waiting
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import TIME, Context, Raw


def run(context: Context) -> Iterator[Raw]:
    """One call after the other, and one call waited for."""
    torch = torch_or_none()
    if torch is None:
        import numpy as np

        number = np.ones(1, np.float32)
        timing = measure(lambda: np.add(number, 1.0, out=number), context.each_s / 2)
        yield Raw(name="launch.queued", unit=TIME, timing=timing, parameters={"library": "numpy"})
        return
    number = normal(torch, context, "fp32", 1)
    wait = waiting(torch, context.target)
    with torch.no_grad():
        if is_wanted(context, "launch.queued"):
            timing = measure(lambda: number.add_(1.0), context.each_s / 2, wait)
            yield Raw(name="launch.queued", unit=TIME, timing=timing, note="adding to one element, many in a row")
        if context.target != "cpu" and is_wanted(context, "launch.waited"):

            def one() -> None:
                number.add_(1.0)
                wait()

            yield Raw(name="launch.waited", unit=TIME, timing=measure(one, context.each_s / 2), note="until it is done")
