"""The graph of an application: edges from chains of names, ports that fit, an order without cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rigwise.application.types import Component, Edge
from rigwise.errors import InvalidInputError, near_matches

_MOST_EDGES = 300


def edges_of(flow: Sequence[str], components: Mapping[str, Component], where: str) -> tuple[Edge, ...]:
    """The edges that chains such as ``"a -> b.left -> c"`` describe.

    Raises:
        InvalidInputError: An unknown name, types that differ, an edge that stands twice, or a port
            that nothing is connected to.
    """
    edges = []
    for chain in flow:
        ends = [end.strip() for end in chain.split("->")]
        if len(ends) < 2 or not all(ends):
            raise InvalidInputError(f"{where}: application.flow: {chain!r} is no chain", hint='write "a -> b"')
        # inside a chain a port names the input; there is no room for the output
        lefts = [ends[0], *(end.partition(".")[0] for end in ends[1:-1])]
        for left, right in zip(lefts, ends[1:], strict=True):
            edges.append(_edge(left, right, components, f"{where}: flow {left} -> {right}"))
        if len(edges) > _MOST_EDGES:
            raise InvalidInputError(f"{where}: application.flow has over {_MOST_EDGES} edges")
    for edge, number in Counter(edges).items():
        if number > 1:
            raise InvalidInputError(f"{where}: flow {edge} stands twice")
    _check_connected(edges, components, where)
    return tuple(edges)


def _edge(left: str, right: str, components: Mapping[str, Component], where: str) -> Edge:
    source, output = _end(left, components, where, outward=True)
    target, entry = _end(right, components, where, outward=False)
    made, wanted = components[source].outputs[output].type, components[target].inputs[entry]
    if made != wanted:
        raise InvalidInputError(
            f"{where}: {source}.{output} gives {made!r} and {target}.{entry} takes {wanted!r}",
            hint="put a component between them that turns one into the other",
        )
    return Edge(source=source, output=output, target=target, input=entry)


def _end(text: str, components: Mapping[str, Component], where: str, *, outward: bool) -> tuple[str, str]:
    """Component and port that ``component`` or ``component.port`` names."""
    name, dot, port = text.partition(".")
    if name not in components:
        close = near_matches(name, components) or f"components are {', '.join(list(components)[:8])}"
        raise InvalidInputError(f"{where}: there is no component {name!r}", hint=close)
    ports = list(components[name].outputs if outward else components[name].inputs)
    side = "output" if outward else "input"
    if not dot and len(ports) == 1:
        return name, ports[0]
    if not ports:
        raise InvalidInputError(f"{where}: {name} has no {side}s", hint=f"give it {side}s, or leave the edge out")
    if port not in ports:
        fault = f"{name} has no {side} {port!r}" if dot else f"{name} has {len(ports)} {side}s"
        raise InvalidInputError(f"{where}: {fault}", hint=f"write {' or '.join(f'{name}.{p}' for p in ports[:8])}")
    return name, port


def _check_connected(edges: Sequence[Edge], components: Mapping[str, Component], where: str) -> None:
    arriving = Counter((edge.target, edge.input) for edge in edges)
    leaving = Counter((edge.source, edge.output) for edge in edges)
    for component in components.values():
        for side, ports, used in (
            ("input", list(component.inputs), arriving),
            ("output", list(component.outputs), leaving),
        ):
            for port in ports:
                if not used[component.name, port]:
                    raise InvalidInputError(
                        f"{where}: component.{component.name}: {side} {port!r} is not connected",
                        hint="add an edge to application.flow, or remove the port",
                    )
        for port in component.inputs:
            number = arriving[component.name, port]
            if number > 1 and not component.merge:
                raise InvalidInputError(
                    f"{where}: component.{component.name}: {number} edges end at input {port!r}",
                    hint="say merge = true to take items as they come, or give it an input for each",
                )
    if all(component.inputs for component in components.values()):
        raise InvalidInputError(f"{where}: there is no source", hint="a component without inputs is one")
    if all(component.outputs for component in components.values()):
        raise InvalidInputError(f"{where}: there is no sink", hint="a component without outputs is one")


def in_order(components: Mapping[str, Component], edges: Sequence[Edge], where: str) -> dict[str, Component]:
    """The components, each behind all that feed it, otherwise as in the file.

    Raises:
        InvalidInputError: There is a cycle; the message names it.

    Source: Kahn, "Topological sorting of large networks", CACM 5(11), 1962.
    """
    waiting = {name: {edge.source for edge in edges if edge.target == name} for name in components}
    ordered: dict[str, Component] = {}
    while waiting:
        ready = next((name for name, before in waiting.items() if before <= ordered.keys()), None)
        if ready is None:
            loop = " -> ".join(_cycle(waiting))
            raise InvalidInputError(f"{where}: application.flow has a cycle: {loop}", hint="remove one of its edges")
        ordered[ready] = components[ready]
        del waiting[ready]
    return ordered


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """A cycle among components that wait for each other: walk backwards until a name comes again."""
    path = [next(iter(waiting))]
    while path.count(path[-1]) == 1:
        path.append(min(waiting[path[-1]] & waiting.keys()))
    return path[path.index(path[-1]) :][::-1]
