"""The graph of a step as boxes within boxes, ready to be drawn.

A box is a module, an operator, or a few small operators that a module runs itself. The boxes of
the forward pass are drawn; what the backward pass costs is counted at the module it belongs to.
A module that runs twice, with other work between that needs the first run, stands twice: so no box
ever waits for one that waits for it, and every picture has an order from top to bottom.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rigwise.errors import UnsupportedError
from rigwise.graph.dim import Size
from rigwise.graph.graph import Model
from rigwise.graph.op import Kind, Op, Phase, Role
from rigwise.graph.tree import Load, Node, load_of, module_tree
from rigwise.report.graph_text import unwrapped
from rigwise.report.step_rows import Step

#: Ends of an edge that are no boxes: where data comes into a box, and where it leaves.
INTO, OUT_OF = -1, -2

#: Kinds that stand alone where a module runs them itself; the others are gathered.
_HEAVY = frozenset({Kind.GEMM, Kind.CONV, Kind.ATTENTION, Kind.RNN, Kind.PAIRWISE, Kind.COLLECTIVE, Kind.UNKNOWN})

#: More boxes than this in one frame are put into frames of their own.
_MOST_BOXES = 48

#: Boxes that are seen at first sight.
_FIRST_SIGHT = 30

#: Part of the whole that a box must make up to be opened at first sight.
_WORTH_OPENING = 0.02

#: An operator joins one of so many last runs of its module, or starts another.
_RECENT = 8

#: More operators than this make no picture.
MOST_DRAWN = 20_000

#: So many operators are named one by one.
_FEW = 3
_SMALL = "small operators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A module, an operator or a group of operators.

    Attributes:
        label: What it is called, with ``x32`` where it stands for equal layers.
        path: Module path.
        detail: Its operator and the shape it gives.
        forward: What its forward pass costs; all of it where only one phase counts.
        total: What it costs in all.
        boxes: What lies inside, in an order that data flows.
        edges: Pairs of indices of ``boxes``, or ``INTO`` and ``OUT_OF``.
        opened: Whether its inside is seen at first sight.
    """

    label: str
    path: str
    detail: str
    forward: Load
    total: Load
    boxes: tuple[Box, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    opened: bool = False


def drawn_rows(model: Model, step: Step) -> frozenset[int]:
    """Indices of the operators that are drawn.

    Raises:
        UnsupportedError: There are too many for a picture.
    """
    phase = drawn_phase(step)
    drawn = frozenset(i for i, row in enumerate(step.rows) if row.op.phase is phase)
    if len(drawn) > MOST_DRAWN:
        raise UnsupportedError(
            f"{model.name} has {len(drawn):,} operators in its {phase} pass, and a picture holds {MOST_DRAWN:,}",
            hint="show it as a table",
        )
    return drawn


def drawn_phase(step: Step) -> Phase:
    """The phase whose operators are drawn."""
    return step.phase or Phase.FORWARD


def scene(model: Model, step: Step, depth: int | None = None) -> Box:
    """The whole step as one box; ``depth`` levels are open, or as many as can be taken in at once.

    Raises:
        UnsupportedError: There are too many operators for a picture.
    """
    tree = module_tree(step.rows, model.parameters, step.phase)
    root = _Drawing(step, drawn_rows(model, step)).root(tree, model.name)
    return _opened_to(root, depth) if depth else _opened(root)


def sources_of(ops: Sequence[Op], drawn: Collection[int]) -> dict[int, list[int]]:
    """The drawn operators that each one reads from; an index from its own on is the repetition before.

    What a repeated block reads from the repetition before it, its first repetition reads from what
    comes before the block: the last result of that shape.
    """
    starts = [0] * len(ops)
    for index in range(1, len(ops)):
        starts[index] = starts[index - 1] if ops[index].repeat == ops[index - 1].repeat else index
    entries: dict[tuple[int, tuple[Size, ...]], int | None] = {}
    sources: dict[int, list[int]] = {}
    for index in sorted(drawn):
        found: dict[int | None, None] = {}
        for tensor in ops[index].inputs:
            if tensor.producer is None or tensor.producer not in drawn:
                continue
            found[tensor.producer] = None
            if tensor.producer >= index:
                key = (starts[index], tensor.shape)
                if key not in entries:
                    earlier = (i for i in range(starts[index] - 1, -1, -1) if i in drawn)
                    entries[key] = next((i for i in earlier if _gives(ops[i], tensor.shape)), None)
                found[entries[key]] = None
        sources[index] = [source for source in found if source is not None]
    return sources


def _gives(op: Op, shape: tuple[Size, ...]) -> bool:
    return any(tensor.shape == shape for tensor in op.outputs)


def short_name(op: Op) -> str:
    """An operator without its library: ``addmm``."""
    return op.name.partition(".")[2] or op.name


def shape_text(op: Op) -> str:
    """The shape of the first result: ``[b, s, 768]``."""
    return f"[{', '.join(map(str, op.outputs[0].shape))}]" if op.outputs and op.outputs[0].shape else ""


@dataclass(frozen=True, slots=True)
class _Visit:
    """Operators that are drawn in one box: of a child module, or the node's own."""

    child: Node | None
    rows: tuple[int, ...]


class _Drawing:
    """What all boxes of one step look up."""

    def __init__(self, step: Step, drawn: frozenset[int]) -> None:
        self.rows, self.drawn = step.rows, drawn
        self.sources = sources_of([row.op for row in step.rows], self.drawn)
        self.held: dict[int, int] = {}
        self.last = max(self.drawn, default=-1)
        self.readers: dict[int, list[int]] = {}
        for reader, sources in self.sources.items():
            for source in sources:
                self.readers.setdefault(source, []).append(reader)

    def root(self, tree: Node, label: str) -> Box:
        """The whole step; parameters stand at the first operator that their module runs, itself if it does."""
        for node in tree.walk():
            own = (index for inner in node.walk() for index in inner.rows if index in self.drawn)
            first = next(own, None)
            if first is not None:
                self.held[first] = self.held.get(first, 0) + node.own.parameters
        box = self.box(tree, label, sorted(index for node in tree.walk() for index in node.rows))
        missed = Load(parameters=tree.total.parameters - box.total.parameters)
        return replace(box, label=label, forward=box.forward + missed, total=box.total + missed)

    def box(self, node: Node, label: str, rows: Sequence[int]) -> Box:
        """A module with the given operators, drawn and other."""
        drawn = [index for index in rows if index in self.drawn]
        rest = self.load([index for index in rows if index not in self.drawn])
        forward = self.load(drawn)
        if len(drawn) == 1:
            op = self.rows[drawn[0]].op
            detail = f"{short_name(op)} {shape_text(op)}".rstrip()
            return Box(label=label, path=node.path, detail=detail, forward=forward, total=forward + rest)
        visits = self.visits(node, drawn)
        if len(visits) == 1 and visits[0].child is None:
            visits = [_Visit(None, (index,)) for index in drawn]
        boxes, edges = self.inside(node, visits, self.homes(node, visits, rows))
        if len(boxes) == 1:
            return replace(boxes[0], forward=forward, total=forward + rest)
        plain = Box(label=label, path=node.path, detail="", forward=forward, total=forward + rest)
        return replace(plain, detail=_detail([self.rows[i].op for i in drawn]), boxes=boxes, edges=edges)

    def load(self, rows: Sequence[int]) -> Load:
        held = sum(self.held.get(index, 0) for index in rows)
        return load_of([self.rows[index] for index in rows], held)

    # Which operators share a box.

    def visits(self, node: Node, drawn: Sequence[int]) -> list[_Visit]:
        """Operators by child, in runs that data passes through only once, in the order of the data."""
        child_of = {index: child for child in node.children for inner in child.walk() for index in inner.rows}
        runs = _Runs()
        for index in drawn:
            child = child_of.get(index)
            alone = child is None and self.rows[index].op.kind in _HEAVY
            key = ("operator", index) if alone else ("module", id(child)) if child else ("small", 0)
            runs.add(key, index, self.sources[index])
        return [_Visit(child_of.get(rows[0]), tuple(rows)) for rows in runs.ordered()]

    def homes(self, node: Node, visits: Sequence[_Visit], rows: Sequence[int]) -> dict[int, list[int]]:
        """Operators that are not drawn, by the visit they belong to: the one of their module they read from."""
        child_of = {index: child for child in node.children for inner in child.walk() for index in inner.rows}
        visit_of = {index: number for number, visit in enumerate(visits) for index in visit.rows}
        visits_of: dict[int, list[int]] = {}
        for number, visit in enumerate(visits):
            visits_of.setdefault(id(visit.child), []).append(number)
        homes: dict[int, list[int]] = {}
        for index in rows:
            if index in self.drawn or index not in child_of:
                continue
            of_child = visits_of.get(id(child_of[index]))
            read = {visit_of.get(t.producer) for t in self.rows[index].op.inputs if t.producer is not None}
            if of_child:
                homes.setdefault(next((n for n in of_child if n in read), of_child[0]), []).append(index)
        return homes

    # What lies inside a box.

    def inside(
        self, node: Node, visits: Sequence[_Visit], homes: dict[int, list[int]]
    ) -> tuple[tuple[Box, ...], tuple[tuple[int, int], ...]]:
        """Boxes of the visits and the edges between them."""
        boxes = [
            self.visited(node, visit, sorted((*visit.rows, *homes.get(number, ()))))
            for number, visit in enumerate(visits)
        ]
        groups = [[number] for number in range(len(visits))]
        if len(visits) > _MOST_BOXES:
            size = round(len(visits) ** 0.5)
            groups = [list(range(at, min(at + size, len(visits)))) for at in range(0, len(visits), size)]
            boxes = [self.frame(visits, boxes, group, f"part {n + 1}", node.path) for n, group in enumerate(groups)]
        return tuple(boxes), self.edges([[i for v in group for i in visits[v].rows] for group in groups])

    def visited(self, node: Node, visit: _Visit, rows: Sequence[int]) -> Box:
        if visit.child is not None:
            _, inner = unwrapped(visit.child)
            return self.box(inner, label_in(node, visit.child), rows)
        load = self.load(rows)
        ops = [self.rows[index].op for index in rows]
        if len(ops) == 1:
            name, shape = short_name(ops[0]), shape_text(ops[0])
            return Box(label=name, path=node.path, detail=shape, forward=load, total=load)
        each = [self.visited(node, _Visit(None, (index,)), (index,)) for index in rows]
        edges = self.edges([[index] for index in rows])
        plain = Box(label=_names(ops) or _SMALL, path=node.path, detail=_detail(ops), forward=load, total=load)
        return replace(plain, boxes=tuple(each), edges=edges)

    def frame(self, visits: Sequence[_Visit], boxes: Sequence[Box], group: Sequence[int], label: str, path: str) -> Box:
        inner = tuple(boxes[number] for number in group)
        ops = [self.rows[index].op for number in group for index in visits[number].rows]
        return Box(
            label=label,
            path=path,
            detail=_detail(ops),
            forward=sum((box.forward for box in inner), Load()),
            total=sum((box.total for box in inner), Load()),
            boxes=inner,
            edges=self.edges([visits[number].rows for number in group]),
        )

    def edges(self, groups: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
        """Who reads from whom among groups of operators, from outside and to outside."""
        group_of = {index: number for number, group in enumerate(groups) for index in group}
        found: dict[tuple[int, int], None] = {}
        for index, number in group_of.items():
            for source in self.sources[index]:
                if source not in group_of:
                    found[INTO, number] = None
                elif group_of[source] != number:
                    repeated = source >= index  # leaves one repetition and comes into the next
                    found |= dict.fromkeys([(INTO, number), (group_of[source], OUT_OF)] if repeated else [])
                    found |= {} if repeated else {(group_of[source], number): None}
            inputs = (t for t in self.rows[index].op.inputs if t.producer is None)
            if any(t.role in (Role.INPUT, Role.CACHE) for t in inputs):
                found[INTO, number] = None
            if index == self.last or any(reader not in group_of for reader in self.readers.get(index, ())):
                found[number, OUT_OF] = None
        return tuple(sorted((edge for edge in found if edge[0] != edge[1]), key=lambda e: (e[0], e[1])))


class _Runs:
    """Operators gathered by key, as long as no run would have to wait for itself."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.of_key: dict[tuple[str, int], list[int]] = {}
        self.of_row: dict[int, int] = {}
        self.before: list[int] = []  # bit n: run n comes before

    def add(self, key: tuple[str, int], index: int, sources: Sequence[int]) -> None:
        """Put an operator into a run of its key, or start one."""
        reads = {self.of_row[source] for source in sources if source in self.of_row}
        recent = reversed(self.of_key.get(key, [])[-_RECENT:])
        fits = (n for n in recent if not any(self.before[u] >> n & 1 for u in reads))
        run = next(fits, None)
        if run is None:
            run = len(self.rows)
            self.rows.append([])
            self.before.append(0)
            self.of_key.setdefault(key, []).append(run)
        self.rows[run].append(index)
        self.of_row[index] = run
        known = self.before[run]
        for source in reads - {run}:
            self.before[run] |= self.before[source] | 1 << source
        if self.before[run] != known and len(self.rows[run]) > 1:
            for other, before in enumerate(self.before):
                if before >> run & 1:
                    self.before[other] |= self.before[run]

    def ordered(self) -> list[list[int]]:
        """The runs, each after those it waits for."""
        order = sorted(range(len(self.rows)), key=lambda n: (self.before[n].bit_count(), self.rows[n][0]))
        return [self.rows[n] for n in order]


def label_in(parent: Node, child: Node) -> str:
    """Its path from its parent on, or from where a number in it has a name: ``layers.* x32``."""
    names = parent.path.split(".") if parent.path else []
    label, _ = unwrapped(child)
    while names and label.partition(".")[0].partition(" ")[0].replace("*", "0").isdigit():
        label = f"{names.pop()}.{label}"
    return label


def _names(ops: Sequence[Op]) -> str:
    return ", ".join(short_name(op) for op in ops) if len(ops) <= _FEW else ""


def _detail(ops: Sequence[Op]) -> str:
    return f"{_names(ops) or f'{len(ops)} operators'} {shape_text(ops[-1])}".rstrip() if ops else ""


# What is open at first sight.


def weight(box: Box, whole: Load) -> float:
    """Part of the time, or without a device of the FLOPs, or of the bytes where there are none."""
    if whole.time_s:
        return box.total.time_s / whole.time_s
    if whole.cost.flops:
        return box.total.cost.flops / whole.cost.flops
    return box.total.cost.bytes / whole.cost.bytes if whole.cost.bytes else 0.0


def _opened(root: Box) -> Box:
    """Open the heaviest boxes, one by one, as long as all that is seen can be taken in at once."""
    chosen: set[tuple[int, ...]] = {()}
    seen = len(root.boxes)
    front: dict[tuple[int, ...], Box] = {(number,): box for number, box in enumerate(root.boxes)}
    while True:
        small = {path: box for path, box in front.items() if box.boxes and seen + len(box.boxes) <= _FIRST_SIGHT}
        fitting = {path: box for path, box in small.items() if weight(box, root.total) >= _WORTH_OPENING}
        if not fitting:
            return _with_open(root, (), chosen)
        path = max(fitting, key=lambda p: weight(fitting[p], root.total))
        chosen.add(path)
        seen += len(front[path].boxes)
        front |= {(*path, number): box for number, box in enumerate(front.pop(path).boxes)}


def _with_open(box: Box, path: tuple[int, ...], chosen: set[tuple[int, ...]]) -> Box:
    inner = tuple(_with_open(b, (*path, n), chosen) for n, b in enumerate(box.boxes))
    return replace(box, boxes=inner, opened=path in chosen)


def _opened_to(box: Box, depth: int) -> Box:
    inner = tuple(_opened_to(b, depth - 1) for b in box.boxes)
    return replace(box, boxes=inner, opened=depth > 0 and bool(inner))
