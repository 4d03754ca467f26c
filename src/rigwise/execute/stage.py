"""Stages of a dataflow, and how long it may run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import InvalidInputError, near_matches

THREAD, PROCESS, INLINE = "thread", "process", "inline"
RUNNERS = (THREAD, PROCESS, INLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One function of a dataflow, and where its items come from.

    Attributes:
        name: Unique.
        call: A function, a class (instantiated once for each worker), or ``module:function``. A source is called
            without arguments and is iterated over. Any other stage is called with one item, or with one of each
            input if it joins several; with lists of items if ``batch`` is above 1.
        after: Stages before it, each as ``name`` or ``name.port``; empty for a source.
        ports: Names of its outputs if it has several: it then returns a dictionary with these keys.
        merge: Several inputs are taken as they come; else one item of each is joined, in order.
        run: ``thread`` for functions that wait or release the interpreter's lock (NumPy, torch), ``process`` for
            Python that computes, ``inline`` to be called in the worker that made the item.
        workers: Calls side by side.
        batch: Most items of one call.
        max_wait_s: Longest wait for a batch to fill; None: until it is full or nothing more comes.
        ordered: Items leave in the order in which they came, whatever the number of workers.
        queue: Items that may wait at an input before the stage before has to wait.
        rate_per_s: Of a source; None: as fast as the rest can take.
    """

    name: str
    call: Callable[..., Any] | str
    after: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    merge: bool = False
    run: str = THREAD
    workers: int = 1
    batch: int = 1
    max_wait_s: float | None = None
    ordered: bool = False
    queue: int = 8
    rate_per_s: float | None = None

    @property
    def is_source(self) -> bool:
        """Whether nothing comes before it."""
        return not self.after

    @property
    def joins(self) -> bool:
        """Whether one item of each of several inputs makes one call."""
        return len(self.after) > 1 and not self.merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a dataflow ends.

    Attributes:
        items: Items that each source gives at most; None: all it has.
        duration_s: After this time the sources end, and what is under way is finished.
        grace_s: Longest time to finish what is under way, and then for workers to end, after a stop.
        call_s: Longest time of one call.
        start_s: Longest time for workers to import their functions.
        one_at_a_time: No two functions run at once, to measure what each costs alone.
    """

    items: int | None = None
    duration_s: float | None = None
    grace_s: float = 10.0
    call_s: float = 60.0
    start_s: float = 120.0
    one_at_a_time: bool = False


def check(stages: Sequence[Stage]) -> None:
    """Whether the stages make a dataflow: each after earlier ones, so without cycles.

    Raises:
        InvalidInputError: The first fault, with the stage and what to do.
    """
    known: dict[str, Stage] = {}
    for stage in stages:
        _check_sizes(stage)
        if stage.name in known:
            raise InvalidInputError(f"two stages are named {stage.name!r}")
        for end in stage.after:
            _check_end(stage, end, known)
        known[stage.name] = stage
    if not any(stage.is_source for stage in stages):
        raise InvalidInputError("there is no source", hint="one stage has to come after none")


def split(end: str) -> tuple[str, str]:
    """Stage and port of an entry of ``after``; the port is empty if none is named."""
    name, _, port = end.partition(".")
    return name, port


def _check_end(stage: Stage, end: str, known: dict[str, Stage]) -> None:
    name, port = split(end)
    before = known.get(name)
    if before is None:
        close = near_matches(name, known) or "a stage stands after those that feed it"
        raise InvalidInputError(f"stage {stage.name} comes after {name!r}, which is no earlier stage", hint=close)
    if port not in (before.ports or ("",)):
        listed = ", ".join(before.ports) or "one without a name"
        raise InvalidInputError(
            f"stage {stage.name} comes after the output {port!r} of {name}", hint=f"its outputs: {listed}"
        )


def _check_sizes(stage: Stage) -> None:
    for word, value in (("workers", stage.workers), ("batch", stage.batch), ("queue", stage.queue)):
        if value < 1:
            raise InvalidInputError(f"stage {stage.name}: {word} is {value}", hint="give 1 or more")
    if stage.run not in RUNNERS:
        raise InvalidInputError(
            f"stage {stage.name}: run is {stage.run!r}", hint=near_matches(stage.run, RUNNERS) or ", ".join(RUNNERS)
        )
    if stage.run == INLINE and (len(stage.after) != 1 or stage.batch > 1 or stage.workers > 1):
        raise InvalidInputError(
            f"stage {stage.name} cannot run inline",
            hint="only a stage with one input, one worker and no batches can; use a thread",
        )
    if stage.is_source and (stage.batch > 1 or stage.workers > 1):
        raise InvalidInputError(f"source {stage.name} has batches or workers", hint="a source is iterated over once")
    if stage.rate_per_s is not None and (not stage.is_source or stage.rate_per_s <= 0):
        raise InvalidInputError(
            f"stage {stage.name}: rate is {stage.rate_per_s:g}", hint="only a source has one, above 0"
        )
