"""Run an application with the user's functions, and set what was measured beside what was predicted.

Everything runs in this process and its workers, whatever the place: a component on a GPU is simply called. Copies
over links are not made up.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rigwise.application.answer import Answer
from rigwise.application.costs import Costed, Service
from rigwise.application.plan import plan_application
from rigwise.application.types import Application, Component
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.execute.dataflow import run
from rigwise.execute.measured import Measured
from rigwise.execute.simulated import Cores, simulated_source, simulated_stage
from rigwise.execute.stage import INLINE, THREAD, Limits, Stage

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationRun:
    """An application that has run.

    Attributes:
        costed: The application and its stated or estimated costs.
        predicted: What its placement should yield.
        measured: What it did.
        alone: Whether no two functions ran at once, to measure what each costs by itself.
        simulated: Components that only slept.
        assumed: Sentences.
    """

    costed: Costed
    predicted: Answer
    measured: Measured
    alone: bool
    simulated: tuple[str, ...]
    assumed: tuple[str, ...]


def run_application(
    application: Application, limits: Limits, *, folder: str = ".", simulate: bool = False
) -> ApplicationRun:
    """Execute an application as it is placed in its file, the rest as it is planned.

    Args:
        application: From ``application.reader``.
        limits: When to end; sources may be endless, so items or a duration must be given.
        folder: Where its functions' modules may be, beside the current folder.
        simulate: Let components without a function sleep.

    Raises:
        InvalidInputError: A component has no function, or it is not there.
        RunError: A function failed or never returned.
    """
    try:
        plan = plan_application(replace(application, top=1))
    except InfeasibleError:
        plan = plan_application(replace(application, top=1, optimize="throughput"))
    predicted = plan.answers[0]
    stages, assumed = stages_of(plan.costed, predicted.placement, simulate=simulate)
    with _importable(os.getcwd(), str(Path(folder).resolve())):
        measured = run(stages, limits)
    return ApplicationRun(
        costed=plan.costed,
        predicted=predicted,
        measured=measured,
        alone=limits.one_at_a_time,
        simulated=tuple(name for name, c in application.components.items() if not c.call),
        assumed=(*application.assumed, *assumed),
    )


@contextmanager
def _importable(*folders: str) -> Iterator[None]:
    """Look for modules in these folders first."""
    before = list(sys.path)
    sys.path[:0] = [folder for folder in folders if folder not in before]
    try:
        yield
    finally:
        sys.path[:] = before


def stages_of(costed: Costed, placement: Mapping[str, str], *, simulate: bool) -> tuple[list[Stage], list[str]]:
    """The stages of an application, and what was assumed.

    Raises:
        InvalidInputError: A component without a function, or one that cannot be read.
    """
    application = costed.application
    assumed = []
    stages = []
    in_turn = _before_joins(application)
    cores = {name: Cores(place.cores) for name, place in application.places.items()}
    for name, component in application.components.items():
        if not component.call and not simulate:
            raise InvalidInputError(
                f"{application.name}: component.{name} has no call",
                hint='give call = "module:function", or add --simulate to let it sleep as long as it should take',
            )
        if component.call and not _SPEC.fullmatch(component.call):
            raise InvalidInputError(
                f"{application.name}: component.{name}.call is {component.call!r}", hint="write module:function"
            )
        stage = _stage(costed, component, placement[name], cores[placement[name]])
        if name in in_turn and stage.workers > 1 and not stage.ordered:
            assumed.append(f"{name} keeps its items in order, because they are joined later")
            stage = replace(stage, ordered=True)
        stages.append(stage)
    return stages, assumed


def _stage(costed: Costed, component: Component, place: str, cores: Cores) -> Stage:
    application, service = costed.application, costed.services[component.name][place]
    inline = component.run == INLINE and bool(component.inputs)
    return Stage(
        name=component.name,
        call=component.call or _stand_in(component, service, cores),
        after=tuple(
            edge.source + (f".{edge.output}" if len(application.components[edge.source].outputs) > 1 else "")
            for port in component.inputs
            for edge in application.into(component.name)
            if edge.input == port
        ),
        ports=tuple(component.outputs) if len(component.outputs) > 1 else (),
        merge=component.merge,
        run=INLINE if inline else component.run if component.call and component.run != INLINE else THREAD,
        workers=1 if inline or not component.inputs else service.side_by_side,
        batch=component.batch if component.inputs else 1,
        max_wait_s=component.max_wait_s,
        ordered=component.ordered,
        queue=component.queue,
        rate_per_s=component.rate_per_s,
    )


def _stand_in(component: Component, service: Service, cores: Cores) -> Callable[..., Any]:
    busy = partial(cores.keep_busy, service.cores)
    item_s = service.call_s["p50"] / component.batch
    if not component.inputs:
        return simulated_source(busy, item_s, tuple(component.outputs))
    ratios = [(port, output.ratio_frac) for port, output in component.outputs.items()]
    return simulated_stage(busy, item_s, ratios, batched=component.batch > 1)


def _before_joins(application: Application) -> set[str]:
    """Components from which a join can be reached: their items must stay in order."""
    found: set[str] = set()
    for name, component in reversed(list(application.components.items())):
        edges = application.into(name)
        if name in found or (len(edges) > 1 and not component.merge):
            found |= {edge.source for edge in edges}
    return found
