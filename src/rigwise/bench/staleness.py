"""Synchronous training against stale-synchronous training between two processes: time until the loss is as low.

A small language model of bytes learns the text of Python's own modules. Both processes pause at random, as busy
computers do. Synchronous, each waits for the other at every step; stale-synchronous, a process may be so many steps
ahead of the other, and applies the other's gradients when they come. More steps in a second are no gain if each of
them teaches less, so what is compared is the time until the held-out loss is what synchronous training had halfway.

Source: Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", 2013.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.bench import ranks
from rigwise.bench.framework import torch_or_none
from rigwise.bench.matmul import is_wanted
from rigwise.bench.types import TIME, Context, Parameter, Raw, Timing

RANKS, STALENESS = 2, 4
#: Runs of each kind, with other random numbers; steps of a run, as many as the time for a figure allows.
RUNS, LEAST_STEPS, MOST_STEPS = 3, 80, 400
_STEPS_PER_S = 200.0
#: A process pauses before one step in so many, for so long: some steps' time.
PAUSED_ONE_IN, PAUSE_S = 8, 0.01


@dataclass(frozen=True, slots=True)
class Course:
    """One run: when each loss was reached.

    Attributes:
        at_s: Time after the start at which each was held, without the time it took to find the loss.
        losses: Held-out loss, nats per byte.
        steps: Of the whole run.
    """

    at_s: Sequence[float]
    losses: Sequence[float]
    steps: int


def run(context: Context) -> Iterator[Raw]:
    """Seconds to the same loss; with pauses, and without."""
    if torch_or_none() is None:
        yield Raw(name="staleness", unit=TIME, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    if not context.folder:
        yield Raw(name="staleness", unit=TIME, skipped="no folder can be written for the processes to meet in")
        return
    for word, one_in in (("even", 0), ("paused", PAUSED_ONE_IN)):
        if not is_wanted(context, f"staleness.{word}"):
            continue
        try:
            courses = trained(context, one_in)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            reason = f"the processes did not answer: {type(error).__name__}"
            yield Raw(name=f"staleness.{word}", unit=TIME, skipped=reason)
            continue
        yield from _figures(word, one_in, courses)


def trained(context: Context, one_in: int) -> Mapping[int, list[Course]]:
    """Courses of synchronous (0) and of stale training.

    Raises:
        subprocess.SubprocessError: A process failed, or took too long.
        ValueError: What it wrote is not what was asked for.
    """
    steps = int(min(MOST_STEPS, max(LEAST_STEPS, context.each_s * _STEPS_PER_S / 2)))
    request = {"steps": steps, "runs": RUNS, "staleness": [0, STALENESS], "seed": context.seed}
    request |= {"paused_one_in": one_in, "pause_s": PAUSE_S}
    found = ranks.answer("rigwise.bench.staleness_rank", request, RANKS, 90 + 10 * context.each_s, context.folder)
    if not isinstance(found, dict) or set(found) != {"0", str(STALENESS)}:
        raise ValueError("no losses")
    return {int(key): [Course(at_s, losses, steps) for at_s, losses in courses] for key, courses in found.items()}


def _figures(word: str, one_in: int, courses: Mapping[int, list[Course]]) -> Iterator[Raw]:
    """The target is of each pair of runs, which begin with the same weights."""
    targets = [course.losses[len(course.losses) // 2] for course in courses[0]]
    for staleness, of in courses.items():
        name = f"staleness.{word}.{'stale' if staleness else 'sync'}"
        times = [time_to(course, target) for course, target in zip(of, targets, strict=True)]
        shown: dict[str, Parameter] = {"beside": f"staleness.{word}.sync", "ranks": RANKS, "library": "gloo"}
        shown |= {"staleness": staleness, "paused_one_in": one_in, "pause_s": PAUSE_S, "steps": of[0].steps}
        shown |= {"target_loss": round(sum(targets) / len(targets), 4), "runs": len(of)}
        shown |= {"steps_per_s": round(sum(one.steps / one.at_s[-1] for one in of) / len(of), 2)}
        reached = [one for one in times if one is not None]
        if len(reached) < len(times):
            missed = f"{len(times) - len(reached)} of {len(times)} runs never came to the loss"
            yield Raw(name=name, unit=TIME, skipped=missed, parameters=shown)
            continue
        timing = Timing(samples_s=tuple(reached), wall_s=sum(one.at_s[-1] for one in of))
        yield Raw(name=name, unit=TIME, timing=timing, parameters=shown, note="until the loss is reached")


def time_to(course: Course, target: float) -> float | None:
    """When the loss was first as low, on a straight line between two looks; None where it never was.

    >>> time_to(Course([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], 3), 1.5)
    2.5
    """
    before_s, before = 0.0, float("inf")
    for now_s, loss in zip(course.at_s, course.losses, strict=True):
        if loss <= target:
            share = (before - target) / (before - loss) if before < float("inf") and before > loss else 1.0
            return before_s + share * (now_s - before_s)
        before_s, before = now_s, loss
    return None


def text() -> bytes:
    """What is learned: the source of some modules of Python, which every installation has."""
    import argparse
    import ast
    import inspect
    import tarfile
    from types import ModuleType

    modules: tuple[ModuleType, ...] = (argparse, ast, tarfile)
    return "".join(inspect.getsource(module) for module in modules).encode()


def network(torch: Any, seed: int, width: int = 128, seen: int = 8) -> Any:
    """The next byte out of the last eight, through two linear layers."""
    torch.manual_seed(seed)
    nn = torch.nn
    layers = [nn.Embedding(256, 16), nn.Flatten(), nn.Linear(16 * seen, width), nn.ReLU(), nn.Linear(width, 256)]
    return nn.Sequential(*layers)
