"""The user's functions: found by name, called with items, their results as lists, their faults in one line.

What a function returns: one item; ``None`` for no item; a generator (or other iterator) for as many as it
yields. A function that takes batches returns a list of items, of any length. A function with several outputs
returns a dictionary, output -> any of these.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import InvalidInputError, RigwiseError, RunError, near_matches
from rigwise.graph.capture.faults import author_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How a function is called.

    Attributes:
        batched: With lists of items.
        joined: With one argument for each input.
        ports: Outputs: none for a sink; one without a name, or several by name.
    """

    batched: bool
    joined: bool
    ports: tuple[str, ...]


def resolve(spec: str) -> Callable[..., Any]:
    """The callable that ``module:function`` names; the current folder is searched first.

    Raises:
        InvalidInputError: There is no such module, or nothing callable of that name in it.
        RunError: Importing the module failed.
    """
    module_name, _, name = spec.partition(":")
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise RunError(f"importing {module_name} failed{fault(error)}") from error
        raise InvalidInputError(
            f"{spec}: there is no Python module {error.name!r}", hint="run it from the folder that holds the module"
        ) from None
    except (Exception, SystemExit) as error:
        raise RunError(f"importing {module_name} failed{fault(error)}") from error
    found = getattr(module, name, None)
    if found is None:
        close = near_matches(name, [word for word in vars(module) if not word.startswith("_")])
        raise InvalidInputError(f"{spec}: the module {module_name} has no {name!r}", hint=close)
    if not callable(found):
        raise InvalidInputError(f"{spec} is {type(found).__name__}, not a function or a class")
    return found  # type: ignore[no-any-return]


def prepared(call: Callable[..., Any] | str) -> Callable[..., Any]:
    """What a worker calls: the function, or its own instance of a class."""
    function = resolve(call) if isinstance(call, str) else call
    if not isinstance(function, type):
        return function
    made: Callable[..., Any] = function()
    if not callable(made):
        raise InvalidInputError(f"{function.__name__} has no __call__", hint="its instances are called with items")
    return made


def items_of(call: Callable[..., Any] | str) -> Iterator[Any]:
    """The items of a source."""
    function = resolve(call) if isinstance(call, str) else call
    given = function()
    if not isinstance(given, Iterable):
        raise InvalidInputError(
            f"it returned {type(given).__name__}", hint="a source returns an iterator: let it yield its items"
        )
    return iter(given)


def answer(function: Callable[..., Any], how: Convention, items: Sequence[Any]) -> tuple[list[Any], ...]:
    """The items that come out at each output of one call.

    Args:
        function: The user's.
        how: Its convention.
        items: Of one call; tuples with one of each input where several are joined.

    >>> how = Convention(batched=False, joined=False, ports=("",))
    >>> answer(lambda x: (y for y in range(x)), how, [3]), answer(lambda x: None, how, [3])
    (([0, 1, 2],), ([],))
    """
    if how.batched:
        result = function(*(list(column) for column in zip(*items, strict=True))) if how.joined else function(items)
    else:
        result = function(*items[0]) if how.joined else function(items[0])
    if not how.ports:
        if isinstance(result, Iterator):
            deque(result, maxlen=0)
        return ()
    if len(how.ports) == 1:
        return (_listed(result, how.batched),)
    return tuple(_listed(value, how.batched) for value in _by_port(result, how.ports))


def given(item: Any, how: Convention) -> tuple[list[Any], ...]:
    """The items at each output of a source for one item that it yields."""
    if len(how.ports) == 1:
        return ([item],)
    return tuple([] if value is None else [value] for value in _by_port(item, how.ports))


def _by_port(result: Any, ports: Sequence[str]) -> list[Any]:
    if result is None:
        return [None] * len(ports)
    if not isinstance(result, Mapping) or not set(result) <= set(ports):
        found = f"the keys {', '.join(map(str, result))}" if isinstance(result, Mapping) else type(result).__name__
        raise InvalidInputError(f"it gave {found}", hint=f"give a dictionary with {', '.join(ports)}")
    return [result.get(port) for port in ports]


def _listed(result: Any, batched: bool) -> list[Any]:
    if result is None:
        return []
    if isinstance(result, Iterator):
        return list(result)
    if not batched:
        return [result]
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise InvalidInputError(f"it takes batches and returned {type(result).__name__}", hint="return a list of items")
    return list(result)


def fault(error: BaseException) -> str:
    """`` at stages.py:12: ValueError: bad jpeg``: where in the user's code, and what."""
    if isinstance(error, RigwiseError):
        return f": {error}"
    place = author_line(error.__traceback__)
    text = " ".join(str(error).split())[:300]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f" at {place}: {said}" if place else f": {said}"
