"""The modules of a model as a tree, with what lies under each of them.

A node is a module path. Equal layers, which a graph holds once, are one node: its name ends in
``*`` and its count says how many there are. Two blocks of different layers in one stack (dense
layers, then layers of experts) are two nodes. What the operators and parameters of a node cost
is summed, so the parts of a node add up to the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from rigwise.graph.graph import Parameter
from rigwise.graph.op import Op, Phase, Role
from rigwise.graph.summary import Cost

#: One step of a path: a name, and how many equal modules it stands for.
Part = tuple[str, int]
Place = tuple[Part, ...]

#: What is deeper than this stands in the last node, so that no file makes a tree without end.
_MAX_DEPTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operator of a graph and what all its runs cost.

    Attributes:
        op: The operator.
        cost: Of all its runs in one step.
        binds_s: Their time on a device by what binds it (compute, memory, launch); empty without one.
        number_format: In which it computes, where the graph was lowered to one.
    """

    op: Op
    cost: Cost
    binds_s: Mapping[str, float] = field(default_factory=dict)
    number_format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A sum over operators and parameters.

    Attributes:
        operators: Rows of the graph; a repeated one counts once.
        parameters: Elements.
        cost: FLOPs, bytes, saved activations.
        binds_s: Seconds by what binds them; empty without a device.
    """

    operators: int = 0
    parameters: int = 0
    cost: Cost = field(default_factory=Cost)
    binds_s: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Load) -> Load:
        names = dict.fromkeys((*self.binds_s, *other.binds_s))
        return Load(
            operators=self.operators + other.operators,
            parameters=self.parameters + other.parameters,
            cost=self.cost + other.cost,
            binds_s={name: self.binds_s.get(name, 0.0) + other.binds_s.get(name, 0.0) for name in names},
        )

    @property
    def time_s(self) -> float:
        """Seconds, whatever binds them."""
        return sum(self.binds_s.values())

    @property
    def binds(self) -> str:
        """What most of the time goes into; empty without a device."""
        return max(self.binds_s, key=lambda name: self.binds_s[name]) if self.time_s else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A module, or equal modules.

    Attributes:
        place: Where it stands; the root has the empty place.
        count: Equal layers that the last part of its path stands for.
        own: What it runs and holds itself, outside its children.
        total: With everything below.
        children: In the order they first run.
        rows: Indices of its own operators among the rows of the tree.
    """

    place: Place
    count: int
    own: Load
    total: Load
    children: tuple[Node, ...]
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.place[-1][0] if self.place else ""

    @property
    def path(self) -> str:
        """Its path as PyTorch writes it, folded numbers as ``*``."""
        return ".".join(name for name, _ in self.place)

    def walk(self) -> Iterator[Node]:
        """The node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def module_tree(rows: Sequence[Row], parameters: Sequence[Parameter] = (), phase: Phase | None = None) -> Node:
    """The tree of a graph's modules.

    Args:
        rows: Operators in the order they run, of all phases: the forward pass says which modules there are.
        parameters: Of the model; each is counted at the module whose name it carries.
        phase: Sum only the operators of one phase.
    """
    root = _Branch()
    for index, place in enumerate(places([row.op for row in rows])):
        branch = root.add(place)
        if phase is None or rows[index].op.phase is phase:
            branch.rows.append(index)
    read = _read_elements(rows)
    for parameter in parameters:
        _hang(root, parameter, read)
    return _summed((), root, rows)


def sums(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, Load]:
    """What the operators of each group cost, in the order they first run."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: load_of(group) for name, group in groups.items()}


def load_of(rows: Sequence[Row], parameters: int = 0) -> Load:
    """The sum of operators, and of the parameters they hold."""
    costs = [row.cost for row in rows]
    names = dict.fromkeys(name for row in rows for name in row.binds_s)
    return Load(
        operators=len(rows),
        parameters=parameters,
        cost=Cost(
            calls=sum(cost.calls for cost in costs),
            flops=sum(cost.flops for cost in costs),
            macs=sum(cost.macs for cost in costs),
            read_bytes=sum(cost.read_bytes for cost in costs),
            write_bytes=sum(cost.write_bytes for cost in costs),
            saved_bytes=sum(cost.saved_bytes for cost in costs),
        ),
        binds_s={name: sum(row.binds_s.get(name, 0.0) for row in rows) for name in names},
    )


def places(ops: Sequence[Op]) -> list[Place]:
    """The node of each operator.

    A layer that stands alone in the backward pass only, while its forward pass is part of a block,
    belongs to that block.
    """
    known = _Branch()
    found: dict[int, Place] = {}
    for wanted in (True, False):
        for index, op in enumerate(ops):
            if (op.phase is Phase.FORWARD) is wanted:
                exact = _place(op.module, op.repeat)
                found[index] = exact if wanted else known.nearest(exact)
                known.add(found[index])
    return [found[index] for index in range(len(ops))]


def _place(module: str, repeat: int) -> Place:
    """The parts of a path; the first ``*`` stands for the repetitions."""
    names = [name for name in module.split(".") if name]
    names = [*names[: _MAX_DEPTH - 1], ".".join(names[_MAX_DEPTH - 1 :])] if len(names) > _MAX_DEPTH else names
    folded = names.index("*") if "*" in names else -1
    return tuple((name, repeat if index == folded else 1) for index, name in enumerate(names))


class _Branch:
    """A node while the tree grows: its children by part, and its own rows and parameters."""

    def __init__(self) -> None:
        self.children: dict[Part, _Branch] = {}
        self.rows: list[int] = []
        self.parameters = 0
        self.copies: set[int] = set()

    def add(self, place: Place) -> _Branch:
        """The branch at a place below this one, made if there is none."""
        branch = self
        for part in place:
            branch = branch.children.setdefault(part, _Branch())
        return branch

    def nearest(self, place: Place) -> Place:
        """A place like this one that exists as far as one does: a number may stand in a folded stack."""
        branch: _Branch | None = self
        parts: list[Part] = []
        for part in place:
            if branch is not None:
                part = part if part in branch.children else _stack_of(part, branch.children)  # noqa: PLW2901
                branch = branch.children.get(part)
            parts.append(part)
        return tuple(parts)


def _stack_of(part: Part, siblings: Mapping[Part, object]) -> Part:
    """The folded stack that holds a layer: the longest one, if the part is a number or folded itself."""
    stacks = [sibling for sibling in siblings if sibling[0] == "*"]
    return max(stacks, key=lambda s: s[1]) if stacks and (part[0].isdigit() or part[0] == "*") else part


def _read_elements(rows: Sequence[Row]) -> set[tuple[str, int]]:
    """Module paths and the sizes of the parameters that are read there."""
    return {
        (row.op.module, prod(size for size in tensor.shape if isinstance(size, int)))
        for row in rows
        for tensor in row.op.inputs
        if tensor.role is Role.PARAMETER
    }


def _hang(root: _Branch, parameter: Parameter, read: set[tuple[str, int]]) -> None:
    """Count equal parameters at the modules they are named after, in proportion to the layers these stand for.

    Of several modules that a name with ``*`` may mean, those count that read parameters of this size. A
    module that runs no operator itself, such as an embedding shared by others, becomes a branch.
    """
    names = parameter.name.split(".")[:-1][:_MAX_DEPTH]
    found: list[Place] = []
    for length in range(len(names), 0, -1):
        found = list(_matches(root, names[:length]))
        if found:
            break
    each = parameter.elements // parameter.count
    reading = [place for place in found if (".".join(name for name, _ in place), each) in read]
    places = reading or found or [tuple((name, 1) for name in names)]
    layers = [prod(repeat for _, repeat in place) for place in places]
    given = seen = 0
    for place, share in zip(places, layers, strict=True):
        seen += share
        count = parameter.count * seen // sum(layers) - given
        given += count
        root.add(place).parameters += each * count
        stack = next((index for index, (_, repeat) in enumerate(place) if repeat > 1), None)
        if stack is not None and names.count("*") == 1:
            root.add(place[: stack + 1]).copies.add(count)


def _matches(branch: _Branch, names: Sequence[str]) -> Iterator[Place]:
    """Places below a branch that a parameter's path names: ``*`` is any number, a number may be folded."""
    if not names:
        yield ()
        return
    first, exact = names[0], (names[0], 1)
    for part, child in branch.children.items():
        folded = part[0] == "*" and first.isdigit() and exact not in branch.children
        if part[0] == first or folded or (first == "*" and part[0].isdigit()):
            yield from ((part, *rest) for rest in _matches(child, names[1:]))


def _summed(place: Place, branch: _Branch, rows: Sequence[Row]) -> Node:
    own = load_of([rows[index] for index in branch.rows], branch.parameters)
    children = tuple(_summed((*place, part), child, rows) for part, child in branch.children.items())
    total = sum((child.total for child in children), own)
    repeat = place[-1][1] if place else 1
    layers = min(branch.copies) if len(branch.copies) == 1 else 0  # a block may hold several layers
    count = layers if layers and layers % repeat == 0 else repeat
    return Node(place=place, count=count, own=own, total=total, children=children, rows=tuple(branch.rows))
