"""The operators of a step as text: totals, and a table of modules or of groups of operators.

Modules stand as an indented tree whose rows add up: a row is the sum of the rows below it, and
``(itself)`` is what a module runs outside its children.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rigwise.graph.graph import Model
from rigwise.graph.op import Kind
from rigwise.graph.summary import WORD_OF_SYMBOL
from rigwise.graph.tree import Load, Node, Row, sums
from rigwise.report.step_rows import Step
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

#: Rows that a screen holds beside the totals.
ROWS_ON_SCREEN = 24
_LEAST_NAME = 26
_WORTH_A_WORD = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of a table: how deep it stands, what it is called, what it sums."""

    level: int
    label: str
    load: Load


# Totals


def totals_text(model: Model, step: Step, total: Load) -> str:
    """What the whole step costs, in a handful of lines."""
    cost = total.cost
    lines = [
        _title(model.name, step),
        f"  parameters  {_parameters(model)}",
        f"  arithmetic  {format_count(cost.flops, 'FLOP')}, {format_count(cost.macs, 'MAC')}",
        f"  traffic     {format_bytes(cost.read_bytes)} read, {format_bytes(cost.write_bytes)} written,"
        f" {cost.flops_per_byte:.1f} FLOP per byte",
    ]
    phases = sums(step.counted, lambda row: row.op.phase)
    if len(phases) > 1:
        parts = ", ".join(f"{name} {format_count(load.cost.flops, 'FLOP')}" for name, load in phases.items())
        lines.append(f"  phases      {parts}")
        lines.append(f"  activations {format_bytes(cost.saved_bytes)} saved for the backward pass")
    if step.device:
        shares = sorted(((s / (total.time_s or 1.0), name) for name, s in total.binds_s.items()), reverse=True)
        words = ", ".join(f"{name} {format_fraction(share)}" for share, name in shares if share >= _WORTH_A_WORD)
        lines.append(f"  time        {format_seconds(total.time_s)}: {words}")
    unknown = unknown_of(step)
    lines += [f"  unknown     {', '.join(unknown)} (counted as memory traffic)"] if unknown else []
    return "\n".join([*lines, *(f"  assumed     {sentence}" for sentence in step.assumed)])


def _parameters(model: Model) -> str:
    count, trainable = model.parameter_count, sum(p.elements for p in model.parameters if p.trainable)
    if not count:
        return "none"
    return f"{format_count(count)} ({format_bytes(4.0 * count)} in float32), {format_count(trainable)} trainable"


def unknown_of(step: Step) -> list[str]:
    """Operators that no cost law covers."""
    return sorted({row.op.name for row in step.rows if row.op.kind is Kind.UNKNOWN})


def _title(name: str, step: Step) -> str:
    sizes = [f"{WORD_OF_SYMBOL[s].replace('_', ' ')} {size}" for s, size in step.sizes.items()]
    if step.case.batch != step.sizes.get("b", step.case.batch):
        sizes[0] = f"batch {step.case.batch} in micro-batches of {step.sizes['b']}"
    count = f"{step.case.count} x " if step.case.count > 1 else ""
    where = f" on {count}{step.device}" if step.device else ""
    mode = [step.case.mode] if step.device or step.case.mode != "eager" else []
    return f"{name}{where}: " + ", ".join([step.case.task, *(sizes or ["no symbols"]), step.dtype, *mode])


# The tree


def outline(tree: Node, depth: int) -> list[Line]:
    """The rows of the tree down to a depth; a module that only wraps another shares its row."""
    return list(_below(tree, 0, depth))


def _below(node: Node, level: int, depth: int) -> Iterator[Line]:
    for child in node.children:
        label, inner = unwrapped(child)
        yield Line(level=level, label=label, load=inner.total)
        if level + 1 < depth and inner.children:
            yield from _below(inner, level + 1, depth)
    if node.children and (node.own.operators or node.own.parameters):
        yield Line(level=level, label="(itself)", load=node.own)


def unwrapped(node: Node) -> tuple[str, Node]:
    """The node itself, or the only thing it wraps; its path from here and how many there are: ``layers.* x32``."""
    name, count = node.name, node.count
    while len(node.children) == 1 and not (node.own.operators or node.own.parameters):
        node = node.children[0]
        name, count = f"{name}.{node.name}", count * node.count
    return f"{name} x{count}" if count > 1 else name, node


def depth_of(tree: Node) -> int:
    """Levels of the outline of the whole tree."""
    return 1 + max((depth_of(unwrapped(child)[1]) for child in tree.children), default=-1)


def fitting_depth(tree: Node, rows: int) -> int:
    """The deepest outline of at most so many rows, at least 1."""
    depth = 1
    while depth < depth_of(tree) and len(outline(tree, depth + 1)) <= rows:
        depth += 1
    return depth


# Which rows


def module_rows(tree: Node, depth: int | None, limit: int | None) -> tuple[list[Line], str]:
    """Rows of the tree, by default what fits a screen, and a sentence on what is left out.

    Where even the first level does not fit, its lightest rows are added up in one.
    """
    deepest = depth_of(tree)
    shown = min(depth or fitting_depth(tree, limit or ROWS_ON_SCREEN), deepest)
    lines = outline(tree, shown)
    most = limit or (len(lines) if depth else ROWS_ON_SCREEN)
    if len(lines) > most:
        return _gathered(lines, most) if shown == 1 else lines[:most], _rows_left_out(most, len(lines))
    return lines, f"{shown} of {deepest} levels; --depth {deepest} shows all" if shown < deepest else ""


def group_rows(step: Step, by: str, limit: int | None) -> tuple[list[Line], str]:
    """Rows by kind, layer or operator, the heaviest first, and a sentence on what is left out."""
    found, most = groups(step, by), limit or ROWS_ON_SCREEN
    lines = [Line(level=0, label=name, load=load) for name, load in found[:most]]
    return lines, _rows_left_out(most, len(found)) if len(found) > most else ""


def groups(step: Step, by: str) -> list[tuple[str, Load]]:
    """Sums by kind, operator, or the module that runs them, the heaviest first."""
    keys: dict[str, Callable[[Row], str]] = {"kind": lambda row: str(row.op.kind), "op": lambda row: row.op.name}
    found = sums(step.counted, keys.get(by, lambda row: row.op.module))
    return sorted(found.items(), key=lambda group: _heaviest_first(group[1]))


def _heaviest_first(load: Load) -> tuple[float, float, float]:
    return -load.time_s, -load.cost.flops, -load.cost.bytes


def _gathered(lines: Sequence[Line], most: int) -> list[Line]:
    """The heaviest rows where they stand, then the sum of the others."""
    kept = {id(line) for line in sorted(lines, key=lambda line: _heaviest_first(line.load))[: most - 1]}
    rest = [line.load for line in lines if id(line) not in kept]
    more = Line(level=0, label=f"({len(rest)} more)", load=sum(rest, Load()))
    return [*(line for line in lines if id(line) in kept), more]


def _rows_left_out(shown: int, count: int) -> str:
    return f"{shown} of {count} rows; --limit {count} shows all"


# Tables


def table_text(heading: str, lines: Sequence[Line], total: Load, *, width: int = 80, timed: bool = False) -> str:
    """Rows under headings, then their total; the columns that matter least go where the terminal is narrow."""
    rows = [*lines, Line(level=0, label="total", load=total)]
    columns = _columns(rows, total, timed=timed)
    if not any(line.load.parameters for line in lines):
        columns.pop("params", None)
    widths = {name: max(len(name), *(len(cell) for cell in cells)) for name, cells in columns.items()}
    for name in _DROPPED_FIRST:
        if width - 1 - sum(2 + widths[n] for n in widths) >= _LEAST_NAME:
            break
        widths.pop(name, None)
    labels = ["  " * line.level + _printable(line.label) for line in rows]
    room = max(_LEAST_NAME - 6, width - 1 - sum(2 + w for w in widths.values()))
    room = min(room, max(len(heading), *(len(label) for label in labels)))
    written = [_row(heading, {name: name for name in widths}, room, widths)]
    written.append(" " + "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (len(written[0]) - 1))
    for index, label in enumerate(labels):
        written.append(_row(label, {name: columns[name][index] for name in widths}, room, widths))
    return "\n".join(written)


_DROPPED_FIRST = ("FLOP/B", "calls", "saved", "params", "bytes")


def _row(label: str, cells: Mapping[str, str], room: int, widths: Mapping[str, int]) -> str:
    cut = label if len(label) <= room else _shortened(label, room)
    aligned = (cell.ljust(widths[n]) if n == "bound by" else cell.rjust(widths[n]) for n, cell in cells.items())
    return (" " + "  ".join([cut.ljust(room), *aligned])).rstrip()


def _printable(name: str) -> str:
    """A name that sends no control codes to a terminal, wherever it came from."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _shortened(label: str, room: int) -> str:
    """Indentation and the end of a path, which tells layers apart better than its beginning."""
    name = label.lstrip()
    indent = min(len(label) - len(name), room // 2)
    return " " * indent + "\N{HORIZONTAL ELLIPSIS}" + name[1 + indent - room :]


def _columns(rows: Sequence[Line], total: Load, *, timed: bool) -> dict[str, list[str]]:
    """Columns of numbers, in the order they stand; those without any entry are left out."""
    whole, share_of = total.cost, format_fraction
    cells: dict[str, Callable[[Load], str]] = {
        "calls": lambda load: f"{load.cost.calls:,}" if load.cost.calls else "",
        "params": lambda load: format_count(load.parameters) if load.parameters else "",
        "FLOPs": lambda load: format_count(load.cost.flops) if load.cost.flops else "",
        "share": lambda load: share_of(load.cost.flops / whole.flops) if load.cost.flops else "",
        "bytes": lambda load: format_bytes(load.cost.bytes) if load.cost.bytes else "",
        "FLOP/B": lambda load: f"{load.cost.flops_per_byte:.1f}" if load.cost.flops else "",
        "saved": lambda load: format_bytes(load.cost.saved_bytes) if load.cost.saved_bytes else "",
    }
    if timed:
        cells.pop("share")
        cells |= {
            "time": lambda load: format_seconds(load.time_s) if load.time_s else "",
            "share": lambda load: share_of(load.time_s / total.time_s) if load.time_s else "",
            "bound by": lambda load: load.binds,
        }
    filled = {name: [cell(row.load) for row in rows] for name, cell in cells.items()}
    return {name: [text or "-" for text in column] for name, column in filled.items() if any(column)}
