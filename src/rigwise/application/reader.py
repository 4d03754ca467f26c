"""Read an application file: tables to types, every fault with its file and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rigwise.application.graph import edges_of, in_order
from rigwise.application.places import links_of, places_of
from rigwise.application.quantity import Quantity, quantity, whole
from rigwise.application.tables import (
    ApplicationTable,
    ComponentTable,
    CostTable,
    LinkTable,
    ObjectiveTable,
    OutputTable,
    PlaceTable,
)
from rigwise.application.types import (
    OBJECTIVES,
    RUNNERS,
    Application,
    Component,
    Cost,
    ModelWork,
    Output,
    Place,
)
from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.workload.case import Case, check

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_TABLES = ("application", "objective", "place", "link", "component")
_MOST_COMPONENTS, _MOST_PLACES, _LONGEST_LINE = 64, 16, 200
_TASKS = ("infer", "prefill", "decode")


def is_application(tables: Mapping[str, Any]) -> bool:
    """Whether the tables of a TOML file describe an application: whether it names one, or a component.

    >>> is_application({"component": {"a": {}}}), is_application({"application": {}}), is_application({"workload": {}})
    (True, True, False)
    """
    return "component" in tables or "application" in tables


def read_application(path: str) -> Application:
    """Read an application file.

    Raises:
        InvalidInputError: Missing, not TOML, or a fault of the graph; names file and key.
        UnknownNameError: A device that the catalogue does not have.
    """
    return application_from_tables(parse_toml(read_text(path), path), path)


def application_from_tables(tables: Mapping[str, Any], where: str) -> Application:
    """Read the tables of an application file; same errors as ``read_application``."""
    for key in tables:
        if key not in _TABLES:
            raise InvalidInputError(f"{where}: unknown table [{key}]", hint=near_matches(key, _TABLES))
    head_table = _table(tables.get("application"), f"{where}: [application]")
    head = parse(head_table, ApplicationTable, f"{where}: application")
    goal = parse(tables.get("objective", {}), ObjectiveTable, f"{where}: objective")
    _choice(goal.optimize, OBJECTIVES, f"{where}: objective.optimize")
    stated = {
        name: parse(_table(table, f"{where}: place.{name}"), PlaceTable, f"{where}: place.{name}")
        for name, table in _named(tables, "place", _MOST_PLACES, where)
    }
    places, assumed = places_of(stated, where)
    components = {
        name: _component(name, _table(table, f"{where}: component.{name}"), places, f"{where}: component.{name}")
        for name, table in _named(tables, "component", _MOST_COMPONENTS, where)
    }
    listed = tables.get("link", [])
    if not isinstance(listed, list):
        raise InvalidInputError(f"{where}: link is not a list of tables", hint="write [[link]]")
    links = [
        parse(_table(table, f"{where}: link {i}"), LinkTable, f"{where}: link {i}") for i, table in enumerate(listed, 1)
    ]
    between, more = links_of(links, places, where)
    edges = edges_of(head.flow, components, where)
    return Application(
        name=_line(head.name or Path(where).stem, f"{where}: application.name"),
        where=where,
        components=in_order(components, edges, where),
        edges=edges,
        places=places,
        links=between,
        optimize=goal.optimize,
        top=whole(goal.top, f"{where}: objective.top", 100),
        assumed=(*assumed, *more),
        tables=dict(tables),
    )


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError(f"{where} is {'missing' if value is None else 'not a table'}")
    return value


def _named(tables: Mapping[str, Any], kind: str, most: int, where: str) -> Iterable[tuple[str, Any]]:
    """The tables ``[kind.NAME]``."""
    found = _table(tables.get(kind), f"{where}: [{kind}.NAME]")
    if not 1 <= len(found) <= most:
        raise InvalidInputError(f"{where}: {len(found)} {kind}s", hint=f"give 1 to {most}")
    for name in found:
        _word(name, f"{where}: {kind}.{name}")
    return found.items()


def _word(name: Any, where: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{where}: {str(name)[:70]!r} is not a name", hint="use up to 64 letters, digits, dashes and underscores"
        )
    return name


def _line(text: str, where: str) -> str:
    if len(text) > _LONGEST_LINE or not text.isprintable():
        raise InvalidInputError(f"{where} is {text[:40]!r}", hint=f"write one line of up to {_LONGEST_LINE} characters")
    return text


def _choice(value: str, choices: Iterable[str], where: str, what: str = "") -> str:
    if value not in choices:
        close = near_matches(value, choices) or f"choose one of: {', '.join(choices) or 'none'}"
        raise InvalidInputError(f"{where} is {what}{value!r}", hint=close)
    return value


def _component(name: str, table: dict[str, Any], places: Mapping[str, Place], where: str) -> Component:
    rough = parse(table, ComponentTable, where)
    batch = whole(rough.batch, f"{where}.batch")
    outputs = {port: _output(port, value, f"{where}.outputs.{port}") for port, value in rough.outputs.items()}
    if not rough.inputs and not outputs:
        raise InvalidInputError(f"{where} has neither inputs nor outputs", hint="a source has outputs, a sink inputs")
    if rough.inputs and rough.rate is not None:
        raise InvalidInputError(f"{where} has a rate and inputs", hint="only a source, without inputs, has a rate")
    if rough.on:
        _choice(rough.on, places, f"{where}.on", "the unknown place ")
    if rough.max_wait is not None and batch == 1:
        raise InvalidInputError(f"{where}.max_wait is given and batch is 1", hint="give the batch that it waits for")
    return Component(
        name=name,
        inputs={
            _word(port, f"{where}.inputs"): _word(kind, f"{where}.inputs.{port}") for port, kind in rough.inputs.items()
        },
        outputs=outputs,
        rate_per_s=None if rough.rate is None else quantity(rough.rate, "items/s", f"{where}.rate"),
        merge=rough.merge,
        batch=batch,
        max_wait_s=_seconds(rough.max_wait, f"{where}.max_wait"),
        workers=whole(rough.workers, f"{where}.workers"),
        on=rough.on,
        places=tuple(_choice(p, places, f"{where}.places", "the unknown place ") for p in rough.places),
        costs={p: _cost(p, value, places, f"{where}.cost.{p}") for p, value in rough.cost.items()},
        model=None if rough.model is None else _model(rough.model, batch, f"{where}.model"),
        memory_bytes=quantity(rough.memory, "bytes", f"{where}.memory", zero=True),
        call=_line(rough.call, f"{where}.call"),
        run=_choice(rough.run, RUNNERS, f"{where}.run"),
        ordered=rough.ordered,
        queue=whole(rough.queue, f"{where}.queue"),
    )


def _seconds(value: Quantity | None, where: str) -> float | None:
    return None if value is None else quantity(value, "seconds", where, zero=True)


def _output(port: str, value: Any, where: str) -> Output:
    table = parse(_table(value, where), OutputTable, where)
    return Output(
        type=_word(table.type or port, where),
        item_bytes=quantity(table.bytes, "bytes", f"{where}.bytes", zero=True),
        ratio_frac=quantity(table.ratio, "ratio", f"{where}.ratio"),
    )


def _cost(name: str, value: Any, places: Mapping[str, Place], where: str) -> Cost:
    _choice(name, places, where, "for the unknown place ")
    table, place = parse(_table(value, where), CostTable, where), places[name]
    if table.time is None and table.time_per_batch is None and table.bytes is None:
        raise InvalidInputError(f"{where} has no time", hint="give time, time_per_batch or bytes; 0 if it is free")
    if table.bytes is not None and place.read_bytes_per_s is None:
        raise InvalidInputError(f"{where}.bytes: place.{name} has no bytes_per_s", hint="give it, or a time")
    if whole(table.cores, f"{where}.cores") > place.cores:
        raise InvalidInputError(f"{where}.cores is {table.cores}: place.{name} has {place.cores}")
    return Cost(
        time_s=quantity(table.time or 0, "seconds", f"{where}.time", zero=True),
        time_per_batch_s=quantity(table.time_per_batch or 0, "seconds", f"{where}.time_per_batch", zero=True),
        read_bytes=quantity(table.bytes or 0, "bytes", f"{where}.bytes", zero=True),
        cores=table.cores,
        memory_bytes=quantity(table.memory, "bytes", f"{where}.memory", zero=True),
        source=_line(table.source, f"{where}.source"),
    )


def _model(value: Any, batch: int, where: str) -> ModelWork:
    work = parse(_table(value, where), ModelWork, where)
    _choice(work.task, _TASKS, f"{where}.task")
    try:
        check(case_of(work, batch, ""))
    except RigwiseError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None
    return work


def case_of(work: ModelWork, batch: int, device: str) -> Case:
    """One call of a model on a device, as a case."""
    return Case(
        model=work.name,
        device=device,
        task=work.task,
        batch=batch,
        dtype=work.dtype,
        seq=work.seq,
        context=work.context,
        image_size=work.image_size,
        layout=work.layout,
        mode=work.mode,
    )
