"""The JSON Schema of job files, for editors that complete and check: derived from the tables that are read.

Source: JSON Schema 2020-12.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from rigwise.workload.job_tables import JobFile, StagedFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """The schema: a job of one workload, or one of stages."""
    tables: dict[str, Any] = {}
    kinds = [_reference(kind, tables) for kind in (JobFile, StagedFile)]
    return {
        "$schema": DIALECT,
        "title": "rigwise job",
        "description": "A job for rigwise plan: what is run, within which limits, and what best means.",
        "anyOf": kinds,
        "$defs": dict(sorted(tables.items())),
    }


def _reference(kind: Any, tables: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in tables:
        tables[name] = {}  # so that a table may hold itself
        tables[name] = _table(kind, tables)
    return {"$ref": f"#/$defs/{name}"}


def _table(kind: Any, tables: dict[str, Any]) -> dict[str, Any]:
    said = described(kind)
    hints = typing.get_type_hints(kind)
    properties = {}
    for field in dataclasses.fields(kind):
        schema = _type(hints[field.name], tables)
        if choices := field.metadata.get("choices"):
            schema = {"enum": [choice for choice in choices if choice]}
        properties[field.name] = {**schema, **_usual(field), "description": said[field.name]}
    return {
        "type": "object",
        "description": (kind.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "required": [field.name for field in dataclasses.fields(kind) if _is_needed(field)],
        "additionalProperties": False,
    }


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _usual(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """The value of a key that is left out, where there is a plain one."""
    plain = isinstance(field.default, str | int | float | bool) and field.default != ""
    return {"default": field.default} if plain else {}


def _type(hint: Any, tables: dict[str, Any]) -> dict[str, Any]:
    if isinstance(hint, types.UnionType):
        kinds = [_type(part, tables) for part in typing.get_args(hint) if part is not type(None)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if dataclasses.is_dataclass(hint):
        return _reference(hint, tables)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], tables)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _type(arguments[1], tables)}
    return {"type": {str: "string", bool: "boolean", int: "integer", float: "number"}[hint]}


def described(kind: Any) -> dict[str, str]:
    """What the docstrings of a table and of those it extends say of each key.

    >>> from rigwise.workload.job_tables import UntilTable
    >>> described(UntilTable)["loss"]
    'The loss to reach.'
    """
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        _, _, block = (each.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for line in block.splitlines():
            name, colon, words = line.strip().partition(": ")
            if colon and name.isidentifier():
                said[name] = words
    return said
