"""The ``.rwg`` format: what is written comes back, and no bad file does worse than one line."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.dim import Atom, polynomial
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.rwg import FILE_LIMIT_BYTES, TEXT_LIMIT_BYTES, from_bytes, read_model, to_bytes, write_model
from rigwise.graph.untrusted import Untrusted

# Round trip

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
SYMBOLS = st.dictionaries(st.sampled_from("bscp"), st.integers(1, 64), min_size=1)
ATTRS = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.lists(st.integers(-8, 8), max_size=3).map(tuple),
)


@st.composite
def tensors(draw: Any, symbols: dict[str, int], producer: int | None) -> Tensor:
    atoms = st.builds(Atom, st.sampled_from(sorted(symbols)), st.integers(-1, 7), st.integers(1, 4))
    monomials = st.lists(atoms, max_size=2).map(lambda a: tuple(sorted(a)))
    symbolic = st.dictionaries(monomials, st.integers(1, 3), max_size=2).map(polynomial)
    return Tensor(
        shape=tuple(draw(st.lists(st.one_of(st.integers(0, 64), symbolic), max_size=3))),
        dtype=draw(st.sampled_from(sorted(BYTES_OF_DTYPE))),
        role=draw(st.sampled_from(Role)),
        producer=producer,
        saved=draw(st.booleans()),
    )


@st.composite
def graphs(draw: Any) -> Graph:
    symbols = draw(SYMBOLS)
    repeats = [r for r in draw(st.lists(st.integers(1, 3), max_size=3)) for _ in range(draw(st.integers(1, 3)))]
    ops = []
    for i, repeat in enumerate(repeats):
        earlier = st.one_of(st.none(), st.integers(0, i if repeat > 1 else i - 1)) if i or repeat > 1 else st.none()
        ops.append(
            Op(
                name=draw(WORDS),
                kind=draw(st.sampled_from(Kind)),
                phase=draw(st.sampled_from(Phase)),
                inputs=tuple(draw(tensors(symbols, draw(earlier))) for _ in range(draw(st.integers(0, 2)))),
                outputs=tuple(draw(tensors(symbols, draw(st.sampled_from([None, i])))) for _ in range(2)),
                attrs=draw(st.dictionaries(WORDS, ATTRS, max_size=3)),
                module=draw(WORDS),
                repeat=repeat,
            )
        )
    return Graph(ops=tuple(ops), symbols=symbols)


PARAMETERS = st.builds(
    Parameter,
    name=WORDS,
    shape=st.lists(st.integers(0, 4096), max_size=3).map(tuple),
    count=st.integers(1, 200),
    trainable=st.booleans(),
)
CARDS = st.builds(
    Card,
    title=WORDS,
    family=WORDS,
    source=WORDS,
    reference_batch=st.integers(1, 4096),
    causal=st.booleans(),
    assumed=st.lists(WORDS, max_size=2).map(tuple),
)
MODELS = st.builds(
    Model,
    name=WORDS,
    card=CARDS,
    parameters=st.lists(PARAMETERS, max_size=3).map(tuple),
    graphs=st.dictionaries(st.sampled_from(["train", "infer", "prefill", "decode"]), graphs(), max_size=2),
    buffer_bytes=st.floats(0, 1e12),
    captured_with=st.dictionaries(WORDS, WORDS, max_size=2),
)


@given(MODELS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_comes_back(model: Model) -> None:
    data = to_bytes(model)
    again = from_bytes(data, "m.rwg")
    assert again == model
    assert to_bytes(again) == data


def test_attributes_that_python_calls_equal_stay_apart() -> None:
    """``1 == True == 1.0``, so a table keyed by value would mix them up."""
    attrs: list[dict[str, Any]] = [{"x": 1}, {"x": True}, {"x": 1.0}]
    ops = tuple(Op(name="n", kind=Kind.COPY, phase=Phase.FORWARD, inputs=(), outputs=(), attrs=a) for a in attrs)
    model = Model(name="m", card=Card(title="M"), parameters=(), graphs={"infer": Graph(ops=ops, symbols={})})
    back = from_bytes(to_bytes(model), "m.rwg").graphs["infer"].ops
    assert [type(op.attrs["x"]) for op in back] == [int, bool, float]


# Faults

FORWARD = {"kind": Kind.GEMM, "phase": Phase.FORWARD}


def small_model() -> Model:
    """Two repeated layers and a head, enough to have every table filled."""
    b, weight = polynomial({(Atom("b"),): 1}), Tensor((8, 8), role=Role.PARAMETER)
    x = Tensor((b, 8), producer=0)
    ops = (
        Op(name="aten.mm", inputs=(x, weight), outputs=(x,), module="layers.*", repeat=2, **FORWARD),
        Op(name="aten.mm", inputs=(x, weight), outputs=(Tensor((b, 8), producer=1),), attrs={"n": 1}, **FORWARD),
    )
    parameters = (Parameter(name="layers.*.weight", shape=(8, 8), count=2),)
    graph = Graph(ops=ops, symbols={"b": 4})
    return Model(name="small", card=Card(title="Small"), parameters=parameters, graphs={"infer": graph})


def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(zlib.decompress(to_bytes(small_model()).partition(b"\n")[2]))
    return parsed


def pack(content: Any) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return b"rigwise.graph/1\n" + zlib.compress(text)


def fault_of(data: bytes) -> str:
    with pytest.raises(InvalidInputError) as caught:
        from_bytes(data, "bad.rwg")
    message = str(caught.value)
    assert message.startswith("bad.rwg")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_the_small_model_is_read() -> None:
    assert from_bytes(pack(document()), "good.rwg") == small_model()


def test_every_truncation_is_noticed() -> None:
    data = to_bytes(small_model())
    for end in range(len(data)):
        fault_of(data[:end])


CONTAINERS = {
    "another format": (b"PK\x03\x04" + bytes(100), "is not a rigwise graph"),
    "text": (b"hello\nworld", "is not a rigwise graph"),
    "no newline": (b"rigwise.graph/1" + bytes(100), "is not a rigwise graph"),
    "a later version": (b"rigwise.graph/99\n" + to_bytes(small_model())[16:], "format '99'"),
    "an odd version": (b"rigwise.graph/\xff\x1b\n...", "this rigwise reads 1"),
    "no compression": (b"rigwise.graph/1\n{}", "damaged"),
    "trailing bytes": (to_bytes(small_model()) + b"x", "something follows its end"),
    "not UTF-8": (pack(b'{"name": "\xff\xfe"}'), "not UTF-8"),
    "not JSON": (pack(b"{"), "not JSON"),
    "NaN": (pack(b'{"name": NaN}'), "NaN is not a number"),
    "a key twice": (pack(b'{"name": 1, "name": 2}'), "stands twice"),
    "too deep": (pack(b"[" * 200_000), "not usable JSON"),
    "a number of 5000 digits": (pack(b'{"name": ' + b"9" * 5000 + b"}"), "not usable JSON"),
    "a list": (pack([]), "the document is []"),
    "a bomb": (pack(bytes(TEXT_LIMIT_BYTES * 4)), "unpacks to over"),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_a_bad_container_is_one_line(case: str) -> None:
    data, expected = CONTAINERS[case]
    assert expected in fault_of(data)


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value of the document."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


OPS = ("graphs", "infer", "ops")
CHANGES = [
    (at("extra", value=1), "unknown key 'extra' in the document"),
    (at("card", "extra", value=1), "unknown key 'extra' in card"),
    (at("graphs", "infer", "code", value="x"), "unknown key 'code' in graphs.infer"),
    (lambda d: d.pop("tensors"), "the document lacks the key 'tensors'"),
    (at("graphs", "serve", value={}), "a key of graphs is 'serve'"),
    (at("graphs", value=[]), "graphs is []"),
    (at("name", value=7), "name is 7"),
    (at("name", value="\x1b[31mred"), "printable text"),
    (at("name", value="\ud800"), "printable text"),
    (at("name", value="x" * 10_000), "printable text of at most 300"),
    (at("buffer_bytes", value=-1), "buffer_bytes is -1"),
    (at("buffer_bytes", value=True), "buffer_bytes is True"),
    (at("captured_with", "torch", value=2.13), "captured_with.torch"),
    (at("card", "reference_batch", value=0), "card.reference_batch is 0"),
    (at("card", "causal", value=1), "card.causal is 1"),
    (at("card", "assumed", value="nothing"), "card.assumed"),
    (at("parameters", 0, value=["w", [8]]), "parameters[0]"),
    (at("parameters", 0, 1, value=[10**15, 10**15]), "at most 1e+15 elements"),
    (at("parameters", 0, 1, value=[2.5]), "parameters[0] shape[0] is 2.5"),
    (at("parameters", 0, 2, value=0), "parameters[0] count is 0"),
    (at("operators", 0, 1, value="magic"), "operators[0] kind is 'magic'"),
    (at("operators", 0, 2, value=["forward"]), "operators[0] phase"),
    (at("modules", 0, value=None), "modules[0] is None"),
    (at("attrs", 0, value={"a": None}), "attrs[0].a is None"),
    (at("attrs", 0, value={"a": {"b": 1}}), "attrs[0].a is {'b': 1}"),
    (at("attrs", 0, value={"a": [1, "2"]}), "attrs[0].a[1]"),
    (at("attrs", 0, value={f"a{i}": 1 for i in range(1000)}), "attrs[0] has 1,000 keys"),
    (at("shapes", 0, value=[1] * 17), "shapes[0] has 17 entries"),
    (at("shapes", 0, value=[-1]), "shapes[0][0] is -1"),
    (at("shapes", 0, value=[True]), "shapes[0][0] is True"),
    (at("shapes", 0, value=["__import__('os')"]), "shapes[0][0]"),
    (at("shapes", 0, value=["b**9"]), "shapes[0][0]"),
    (at("shapes", 0, value=["b//0"]), "shapes[0][0]"),
    (at("shapes", 0, value=[f"(b+{10**300})"]), "shapes[0][0]"),
    (at("shapes", 0, value=["(b-9)"]), "a shape of graphs.infer"),
    (at("shapes", 0, value=["p"]), "only the symbols b"),
    (at("shapes", 0, value=[10**9, 10**9]), "a shape of graphs.infer"),
    (at("tensors", 0, 0, value=99), "tensors[0] shape is 99"),
    (at("tensors", 0, 0, value=-1), "tensors[0] shape is -1"),
    (at("tensors", 0, 1, value="float31"), "tensors[0] dtype is 'float31'"),
    (at("tensors", 0, 1, value=[]), "tensors[0] dtype is []"),
    (at("tensors", 0, 2, value="king"), "tensors[0] role is 'king'"),
    (at("tensors", 0, 3, value="yes"), "tensors[0] saved is 'yes'"),
    (at("graphs", "infer", "symbols", value={"z": 4}), "graphs.infer.symbols is 'z'"),
    (at("graphs", "infer", "symbols", "b", value=0), "graphs.infer.symbols.b is 0"),
    (at("graphs", "infer", "symbols", "b", value=10**30), "graphs.infer.symbols.b"),
    (at("graphs", "infer", "symbols", value={}), "a size of graphs.infer is 'b'"),
    (at(*OPS, value={}), "graphs.infer.ops is {}"),
    (at(*OPS, value=[0] * 200_001), "has 200,001 entries, at most 200,000"),
    (at(*OPS, 0, value=[1, 2]), "graphs.infer.ops[0]"),
    (at(*OPS, 0, 0, value=1.0), "ops[0] operator is 1.0"),
    (at(*OPS, 0, 1, value=50), "ops[0] module is 50"),
    (at(*OPS, 0, 2, value="0"), "ops[0] attrs is '0'"),
    (at(*OPS, 0, 3, value=-2), "ops[0] repeat is -2"),
    (at(*OPS, 0, 3, value=10**7), "ops[0] repeat is 10000000"),
    (at(*OPS, 0, 3, value=True), "ops[0] repeat is True"),
    (at(*OPS, 0, 4, value=[0]), "ops[0] inputs"),
    (at(*OPS, 0, 4, value=[99, None]), "ops[0] inputs is 99"),
    (at(*OPS, 0, 4, value=[0, 1]), "a producer distance in graphs.infer.ops[0] inputs is 1"),
    (at(*OPS, 0, 4, value=[0, 0.5]), "a producer distance"),
    (at(*OPS, 0, 4, value=[0, -1]), "the producer of an input of graphs.infer.ops[0] is 1"),
    (at(*OPS, 1, 4, value=[0, 0]), "the producer of an input of graphs.infer.ops[1] is 1"),
    (at(*OPS, 0, 5, value=[0, -1]), "the producer of an output of graphs.infer.ops[0] is 1"),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[e for _, e in CHANGES])
def test_a_bad_value_is_one_line_with_its_key(change: Callable[[Any], Any], expected: str) -> None:
    content = document()
    change(content)
    assert expected in fault_of(pack(content))


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [p for key, value in entries for p in ((*path, key), *places(value, (*path, key)))]


@given(st.sampled_from(places(document())), JUNK)
@settings(max_examples=300, deadline=None)
def test_junk_anywhere_is_a_model_or_one_line(place: tuple[Any, ...], junk: Any) -> None:
    content = copy.deepcopy(document())
    at(*place, value=junk)(content)
    try:
        assert isinstance(from_bytes(pack(content), "junk.rwg"), Model)
    except InvalidInputError as error:
        assert str(error).startswith("junk.rwg")  # noqa: PT017


@given(st.integers(0, len(to_bytes(small_model())) - 1), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_a_flipped_byte_never_passes_for_another_model(position: int, mask: int) -> None:
    """The checksum of the zlib stream sees what the structure does not."""
    data = bytearray(to_bytes(small_model()))
    data[position] ^= mask
    try:
        assert from_bytes(bytes(data), "flipped.rwg") == small_model()
    except InvalidInputError as error:
        assert str(error).startswith("flipped.rwg")  # noqa: PT017


# Files


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "small.rwg"
    write_model(file, small_model())
    assert read_model(file) == small_model()
    for fault, change in (
        ("cannot be written", {"attrs": {"x": float("nan")}}),
        ("repeat is 0", {"repeat": 0}),
    ):
        op = Op(**{"name": "n", "kind": Kind.COPY, "phase": Phase.FORWARD, "inputs": (), "outputs": (), **change})
        bad = replace(small_model(), graphs={"infer": Graph(ops=(op,), symbols={})})
        with pytest.raises(InvalidInputError, match=fault):
            write_model(file, bad)
    assert [f.name for f in tmp_path.iterdir()] == ["small.rwg"]
    assert read_model(file) == small_model()


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.rwg").touch()
    (tmp_path / "folder.rwg").mkdir()
    with (tmp_path / "sparse.rwg").open("wb") as stream:
        stream.truncate(3 * 2**30)
    for name, expected in (
        ("empty", "is empty"),
        ("folder", "is a folder"),
        ("sparse", f"at most {FILE_LIMIT_BYTES:,}"),
        ("absent", "there is no file"),
    ):
        with pytest.raises(InvalidInputError, match=expected) as caught:
            read_model(tmp_path / f"{name}.rwg")
        assert f"{name}.rwg" in str(caught.value)


def test_a_fault_shows_a_short_piece_of_what_was_found() -> None:
    assert len(str(Untrusted("f").fault("k", "x" * 10**6, "less"))) < 100


def test_the_documented_example_is_the_model_it_describes() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "rwg.md"
    example = page.read_text(encoding="utf-8").rpartition("before compression:\n")[2]
    model = from_bytes(pack(json.loads(example)), "example.rwg")
    (op,) = model.graphs["infer"].ops
    assert (op.name, op.module, [t.role for t in op.inputs]) == ("aten.mm", "proj", [Role.INPUT, Role.PARAMETER])
    assert [t.elements({"b": 3}) for t in (*op.inputs, *op.outputs)] == [3 * 4, 4 * 2, 3 * 2]


def test_the_documented_words_are_the_ones_that_are_read() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "rwg.md").read_text(encoding="utf-8")
    documented = set(page.replace("`", " ").replace(".", " ").split())
    assert documented >= {*map(str, Kind), *map(str, Phase), *map(str, Role), *BYTES_OF_DTYPE}
