"""The graph of a step in the language of Graphviz.

Modules are clusters, operators are nodes, data flows along edges. Equal layers stand once; what
one repetition hands to the next is a dashed edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from rigwise.graph.graph import Model
from rigwise.graph.tree import Load, Node, load_of, module_tree
from rigwise.report.graph_scene import drawn_rows, label_in, shape_text, short_name, sources_of
from rigwise.report.graph_text import unwrapped
from rigwise.report.step_rows import Step
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

_HEAD = """\
  rankdir=TB; fontname="Helvetica"; fontsize=12; labeljust=l; color="#8a939c";
  node [shape=box, style="rounded,filled", fillcolor="#ffffff", color="#8a939c", fontname="Helvetica", fontsize=10];
  edge [color="#57606a", arrowsize=0.6];"""


def graph_dot(model: Model, step: Step, depth: int | None = None) -> str:
    """The graph as text that ``dot`` reads.

    Args:
        model: For its name and parameters.
        step: Its operators; those of the forward pass are drawn unless another phase was chosen.
        depth: Levels of modules that are opened; what is deeper is one node. None: all.

    Raises:
        UnsupportedError: There are too many operators for a picture.
    """
    return "\n".join(_Writer(model, step).lines(depth)) + "\n"


class _Writer:
    """The text while it grows, and which node each operator ended up in."""

    def __init__(self, model: Model, step: Step) -> None:
        self.name, self.step, self.drawn = model.name, step, drawn_rows(model, step)
        self.tree = module_tree(step.rows, model.parameters, step.phase)
        self.node_of: dict[int, str] = {}
        self.modules = 0

    def lines(self, depth: int | None) -> Iterator[str]:
        yield f"digraph {quoted(self.name)} {{"
        yield _HEAD
        yield f"  label={quoted(_title(self.name, self.tree.total))};"
        yield from self.inside(self.tree, 1, depth)
        yield from self.edges()
        yield "}"

    def inside(self, node: Node, level: int, depth: int | None) -> Iterator[str]:
        """A module's own operators and its children."""
        indent = "  " * level
        for index in node.rows:
            if index in self.drawn:
                op = self.step.rows[index].op
                self.node_of[index] = f"op{index}"
                load = load_of([self.step.rows[index]])
                words = [short_name(op), shape_text(op), *self.costs(load)]
                yield f"{indent}op{index} [label={quoted(*words)}{self.heat(load)}];"
        for child in node.children:
            _, inner = unwrapped(child)
            rows = sorted(index for below in inner.walk() for index in below.rows if index in self.drawn)
            if not rows:
                continue
            self.modules += 1
            label = label_in(node, child)
            if len(rows) == 1 or (depth is not None and level >= depth):
                yield self.closed(label, inner, rows, indent)
                continue
            yield f"{indent}subgraph cluster{self.modules} {{"
            yield f"{indent}  label={quoted(_title(label, inner.total))};"
            yield from self.inside(inner, level + 1, depth)
            yield f"{indent}}}"

    def closed(self, label: str, node: Node, rows: list[int], indent: str) -> str:
        """A module as one node."""
        name = f"module{self.modules}"
        self.node_of |= dict.fromkeys(rows, name)
        last = self.step.rows[rows[-1]].op
        what = short_name(last) if len(rows) == 1 else f"{len(rows)} operators"
        words = [label, f"{what} {shape_text(last)}".rstrip(), *self.costs(node.total)]
        return f"{indent}{name} [label={quoted(*words)}{self.heat(node.total)}];"

    def costs(self, load: Load) -> list[str]:
        """FLOPs, or bytes where there are none; and the time, where it is known."""
        cost = load.cost
        words = [format_count(cost.flops, "FLOP") if cost.flops else format_bytes(cost.bytes)]
        return [*words, format_seconds(load.time_s)] if load.time_s else words

    def heat(self, load: Load) -> str:
        """A fill from white to orange by the part of the whole, where it makes up at least a hundredth."""
        whole = self.tree.total
        part = load.time_s / whole.time_s if whole.time_s else load.cost.flops / (whole.cost.flops or 1.0)
        if part < 0.01:
            return ""
        faded = round(255 * (1 - part**0.5))
        return f', fillcolor="#ff{128 + faded // 2:02x}{faded:02x}", tooltip="{format_fraction(part)}"'

    def edges(self) -> Iterator[str]:
        """Each pair of nodes once; towards an earlier operator means into the next repetition."""
        found: dict[tuple[str, str], bool] = {}
        for index, sources in sources_of([row.op for row in self.step.rows], self.drawn).items():
            for source in sources:
                pair = (self.node_of[source], self.node_of[index])
                if pair[0] != pair[1]:
                    found[pair] = found.get(pair, True) and source >= index
        yield from self.lone(found)
        for (source_name, reader), again in found.items():
            yield f"  {source_name} -> {reader}{' [style=dashed, constraint=false]' if again else ''};"

    def lone(self, found: Iterable[tuple[str, str]]) -> Iterator[str]:
        """Invisible edges that keep a node without any, such as a counter of batches, beside the next one."""
        linked = {name for pair in found for name in pair}
        names = list(dict.fromkeys(self.node_of[index] for index in sorted(self.node_of)))
        for name, following in pairwise(names):
            if name not in linked:
                yield f"  {name} -> {following} [style=invis];"


def _title(label: str, load: Load) -> str:
    parts = [f"{format_count(load.parameters)} parameters"] if load.parameters else []
    parts += [format_count(load.cost.flops, "FLOP")] if load.cost.flops else []
    parts += [format_seconds(load.time_s)] if load.time_s else []
    return f"{label}: {', '.join(parts)}" if parts else label


def quoted(*lines: str) -> str:
    r"""Lines of text as one quoted label; nothing in them can end it.

    >>> print(quoted('a "b"', "c\\"))
    "a \"b\"\nc\\"
    """
    clean = ("".join(c if c.isprintable() else " " for c in line) for line in lines if line)
    return '"' + r"\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in clean) + '"'
