"""The drawings of a graph: Graphviz text, boxes, and the page, for real models and for hostile names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import UnsupportedError
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.load import read_zoo
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.tree import module_tree
from rigwise.report.graph_dot import graph_dot
from rigwise.report.graph_page import graph_page
from rigwise.report.graph_scene import INTO, MOST_DRAWN, OUT_OF, Box, scene
from rigwise.report.step_rows import Step, counted_step
from rigwise.report.step_times import timed_step
from rigwise.workload.case import Case

MODELS = ["resnet50", "llama-3.1-405b", "mixtral-8x7b", "sd-1.5-unet", "t5-small"]
HOSTILE = ["</script><script>alert(1)</script>", '"];evil [label="', "a\\", "<!--", "&lt;b&gt;", "\u202eabc", "--> {}"]


def step_of(model: Model, task: str = "train") -> Step:
    return counted_step(Case(model=model.name, device="", task=task), model)


def flat(count: int, module: str = "", kind: Kind = Kind.GEMM, names: list[str] | None = None) -> Model:
    """A chain of operators, in modules of the given names."""
    ops = [
        Op(
            name="aten.mm",
            kind=kind,
            phase=Phase.FORWARD,
            inputs=(Tensor((4, 4), producer=i - 1) if i else Tensor((4, 4), role=Role.INPUT),) * 2,
            outputs=(Tensor((4, 4), producer=i),),
            module=names[i % len(names)] if names else module,
        )
        for i in range(count)
    ]
    return Model(
        name="flat", card=Card(title="flat"), parameters=(), graphs={"infer": Graph(ops=tuple(ops), symbols={})}
    )


def every(box: Box) -> Iterator[Box]:
    yield box
    for inner in box.boxes:
        yield from every(inner)


# Graphviz

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|->|[\w.]+|[{}\[\];=,])')


class Dot:
    """As much of the language as is written: clusters, nodes, edges, attributes."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            assert match, text[at : at + 60]
            self.tokens.append(match.group(1))
            at = match.end()
        self.nodes: dict[str, dict[str, str]] = {}
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        self.clusters: list[str] = []
        assert self.take() == "digraph"
        self.name = self.take()
        self.body()
        assert self.tokens == []

    def take(self) -> str:
        return self.tokens.pop(0)

    def body(self) -> None:
        assert self.take() == "{"
        while (word := self.take()) != "}":
            if word == "subgraph":
                self.clusters.append(self.take())
                self.body()
                continue
            assert re.fullmatch(r"\w+", word), word
            if self.tokens[0] == "=":
                self.take()
                self.clusters.extend([self.take()] if word == "label" else self.tokens[:1] and [])
                if word != "label":
                    self.take()
            elif self.tokens[0] == "->":
                self.take()
                self.edges.append((word, self.take(), self.attributes()))
            else:
                self.nodes[word] = self.attributes()
            assert self.take() == ";"

    def attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.tokens[0] == "[":
            self.take()
            while self.tokens[0] != "]":
                key, equals, value = self.take(), self.take(), self.take()
                assert equals == "="
                found[key] = value
                if self.tokens[0] == ",":
                    self.take()
            self.take()
        return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("depth", [None, 1, 3])
def test_every_edge_of_the_drawing_joins_two_nodes(name: str, depth: int | None) -> None:
    model = read_zoo(name)
    dot = Dot(graph_dot(model, step_of(model, "infer"), depth))
    drawn = set(dot.nodes) - {"node", "edge"}
    assert {end for edge in dot.edges for end in edge[:2]} <= drawn
    assert len(drawn) > (3 if depth == 1 else 10) or depth == 1
    if depth is None:
        assert sum(1 for name in drawn) >= 0.9 * len(model.graphs["infer"].ops)


def test_repeated_layers_stand_once_with_their_number_and_a_way_back() -> None:
    model = read_zoo("gpt2")
    dot = Dot(graph_dot(model, step_of(model)))
    assert any(label.startswith('"h.* x12:') for label in dot.clusters)
    assert any(attributes.get("style") == "dashed" for *_, attributes in dot.edges)
    labels = [attributes.get("label", "") for attributes in dot.nodes.values()]
    assert any(("[b, s, 768]" in label and "FLOP" in label) or "[b*s, 768]" in label for label in labels)


def test_hostile_names_stay_labels_in_graphviz() -> None:
    model = flat(14, names=HOSTILE)
    dot = Dot(graph_dot(model, step_of(model, "infer")))
    assert len(set(dot.nodes) - {"node", "edge"}) == 14
    assert len([edge for edge in dot.edges if edge[2] == {}]) == 13


# Boxes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("task", ["train", "infer"])
def test_boxes_hold_every_operator_once_and_data_flows_down(name: str, task: str) -> None:
    model = read_zoo(name)
    step = step_of(model, task)
    root = scene(model, step)
    assert root.total.operators == len(step.rows)
    assert root.total.parameters == model.parameter_count
    leaves = [box for box in every(root) if not box.boxes]
    assert sum(box.forward.operators for box in leaves) == sum(row.op.phase is Phase.FORWARD for row in step.rows)
    for box in every(root):
        assert all(start < end or end == OUT_OF for start, end in box.edges if start != INTO)
        assert sum(inner.forward.cost.flops for inner in box.boxes) == pytest.approx(
            box.forward.cost.flops if box.boxes else 0.0
        )
        assert sum(inner.total.parameters for inner in box.boxes) <= box.total.parameters


@pytest.mark.parametrize("name", MODELS)
def test_what_is_seen_at_first_sight_can_be_taken_in(name: str) -> None:
    root = scene(read_zoo(name), step_of(read_zoo(name)))
    seen = [inner for box in every(root) if box.opened for inner in box.boxes]
    assert 5 <= len(seen) <= 30


def test_the_residual_of_a_layer_passes_its_attention_by() -> None:
    model = read_zoo("llama-3.1-405b")
    layer = next(box for box in every(scene(model, step_of(model))) if box.label == "layers.* x126")
    names = [box.label for box in layer.boxes]
    assert names == ["input_layernorm", "self_attn", "add", "post_attention_layernorm", "mlp", "add"]
    assert {(INTO, 0), (INTO, 2), (1, 2), (2, 5), (4, 5), (5, OUT_OF)} <= set(layer.edges)


def test_a_block_follows_what_its_first_layer_reads() -> None:
    model = read_zoo("resnet50")
    stage = next(box for box in every(scene(model, step_of(model))) if box.label == "stages.1")
    assert [box.label for box in stage.boxes] == ["stages.1.0", "stages.1.* x3"]
    assert (0, 1) in stage.edges


def test_a_module_that_runs_twice_stands_twice() -> None:
    model = flat(3, names=["a", "b"])
    root = scene(model, step_of(model, "infer"))
    assert [box.label for box in root.boxes] == ["a", "b", "a"]
    assert root.edges == ((INTO, 0), (0, 1), (1, 2), (2, OUT_OF))


def test_a_graph_without_modules_is_cut_into_parts() -> None:
    model = flat(400)
    root = scene(model, step_of(model, "infer"))
    assert max(len(box.boxes) for box in every(root)) <= 48
    assert sum(not box.boxes for box in every(root)) == 400
    small = flat(400, kind=Kind.ELEMENTWISE)
    assert sum(not box.boxes for box in every(scene(small, step_of(small, "infer")))) == 400


def test_a_graph_beyond_any_picture_is_refused() -> None:
    model = flat(MOST_DRAWN + 1)
    step = step_of(model, "infer")
    with pytest.raises(UnsupportedError, match="flat has 20,001 operators in its forward pass"):
        graph_dot(model, step)
    with pytest.raises(UnsupportedError, match="show it as a table"):
        scene(model, step)


_PATHS = ["", "a", "a.b", "a.*", "layers.*.mlp", "layers.0.mlp", "layers.3", "x.*.y.*", '"', "b.a.b"]


@st.composite
def graphs(draw: st.DrawFn) -> Model:
    """Any operators that a captured file may hold, wired forwards and from one repetition to the next."""
    count = draw(st.integers(1, 24))
    ops = []
    for _ in range(count):
        reads = draw(st.lists(st.none() | st.integers(0, count - 1), max_size=3))
        shapes = st.sampled_from([(), (4,), (4, 4)])
        role = draw(st.sampled_from([Role.INPUT, Role.PARAMETER, Role.CACHE]))
        inputs = (Tensor(draw(shapes), producer=p, role=role if p is None else Role.ACTIVATION) for p in reads)
        ops.append(
            Op(
                name=draw(st.sampled_from(["aten.add", "aten.relu", "vendor.x"])),
                kind=draw(st.sampled_from([Kind.ELEMENTWISE, Kind.UNKNOWN, Kind.SORT])),
                phase=draw(st.sampled_from([Phase.FORWARD, Phase.FORWARD, Phase.BACKWARD])),
                inputs=tuple(inputs),
                outputs=tuple(Tensor(draw(shapes)) for _ in range(draw(st.integers(0, 2)))),
                module=draw(st.sampled_from(_PATHS)),
                repeat=draw(st.sampled_from([1, 1, 3, 5])),
            )
        )
    names = st.sampled_from(["w", "a.b.w", "a.*.w", "layers.*.mlp.w", "x.*.y.*.w", "none.w"])
    parameters = [
        Parameter(name=draw(names), shape=(draw(st.integers(1, 9)),), count=draw(st.integers(1, 9)))
        for _ in range(draw(st.integers(0, 4)))
    ]
    ops.append(replace(ops[0], phase=Phase.FORWARD))
    graph = Graph(ops=tuple(ops), symbols={})
    return Model(name="any", card=Card(title="any"), parameters=tuple(parameters), graphs={"train": graph})


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_any_graph_is_drawn_whole_and_without_a_circle(model: Model) -> None:
    step = step_of(model)
    root = scene(model, step)
    assert root.total.operators == len(step.rows)
    assert root.total.parameters == module_tree(step.rows, model.parameters).total.parameters == model.parameter_count
    drawn = sum(row.op.phase is Phase.FORWARD for row in step.rows)
    assert sum(box.forward.operators for box in every(root) if not box.boxes) == drawn
    for box in every(root):
        assert all(start < end or end == OUT_OF for start, end in box.edges if start != INTO)
    for depth in (None, 1, 2):
        Dot(graph_dot(model, step, depth))
    assert Page(graph_page(model, step)).data["root"]["n"][5] == len(step.rows)


# The page


class Page(HTMLParser):
    """Elements, and what stands in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    @property
    def data(self) -> Any:
        return next(json.loads(text) for tag, text in self.texts if tag == "script" and text.startswith("{"))


def test_the_page_needs_nothing_from_outside() -> None:
    model = read_zoo("llama-3.1-405b")
    text = graph_page(model, timed_step(Case(model=model.name, device="h100-sxm5-80gb"), model))
    page = Page(text)
    assert len(text) < 300_000
    assert not [tag for tag, attributes in page.elements if {"src", "href"} & set(attributes) or tag in ("link", "img")]
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in text
    assert "@import" not in text
    assert ("select", {"id": "metric"}) in page.elements
    assert page.data["root"]["open"] is True


def test_hostile_names_reach_the_page_as_text_only() -> None:
    model = flat(14, names=HOSTILE)
    text = graph_page(model, step_of(model, "infer"))
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    names = {box["name"] for box in page.data["root"]["boxes"]}
    assert set(HOSTILE) <= names
    script = next(text for tag, text in page.texts if tag == "script" and not text.startswith("{"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


_NO_BROWSER = """
const made = () => new Proxy(function () {}, {
  get: (t, key) => key in t ? t[key] : key === "textContent" ? DATA : key === "clientWidth" ? 900
    : key === "value" ? "flops" : key === Symbol.toPrimitive ? () => "" : key === "group" ? undefined : made(),
  set: (t, key, value) => { t[key] = value; return true; }, apply: () => made(),
});
globalThis.document = { getElementById: made, createElementNS: made, createElement: made, addEventListener() {},
  querySelectorAll: () => [], activeElement: null };
globalThis.ResizeObserver = class { observe() {} };
"""
_BOXES = """
const all = [];
(function walk(box, x, y) {
  all.push({ name: box.name, x, y, w: box.w, h: box.h, inner: box.open ? (box.boxes || []).length : 0 });
  if (box.open) (box.boxes || []).forEach((inner) => walk(inner, x + inner.x, y + inner.y));
})(data.root, 0, 0);
console.log(JSON.stringify(all));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node to run the page's script")
@pytest.mark.parametrize("opened", ["false", "true"])
@pytest.mark.parametrize("name", ["llama-3.1-405b", "sd-1.5-unet"])
def test_boxes_lie_inside_their_frames_and_beside_each_other(name: str, opened: str, tmp_path: Path) -> None:
    model = read_zoo(name)
    page = Page(graph_page(model, step_of(model)))
    script = next(text for tag, text in page.texts if tag == "script" and not text.startswith("{"))
    data = json.dumps(json.dumps(page.data))
    run = tmp_path / "page.js"
    opening = f"reset(); if ({opened}) setOpen((box) => true); layout(data.root);"
    run.write_text(f"const DATA = {data};{_NO_BROWSER}{script}{opening}{_BOXES}", encoding="utf-8")
    done = subprocess.run(["node", str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    boxes = iter(json.loads(done.stdout))
    count = 0

    def check() -> dict[str, Any]:
        nonlocal count
        count += 1
        outer = next(boxes)
        inner = [check() for _ in range(outer["inner"])]
        for index, box in enumerate(inner):
            assert outer["x"] <= box["x"]
            assert box["x"] + box["w"] <= outer["x"] + outer["w"] + 1e-6
            assert outer["y"] < box["y"]
            assert box["y"] + box["h"] <= outer["y"] + outer["h"]
            for other in inner[index + 1 :]:
                beside = box["x"] + box["w"] <= other["x"] or other["x"] + other["w"] <= box["x"]
                above = box["y"] + box["h"] <= other["y"] or other["y"] + other["h"] <= box["y"]
                assert beside or above, (box["name"], other["name"])
        return outer

    check()
    assert count > 10
