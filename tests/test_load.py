"""A MODEL word becomes a model, or one line that says why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from rigwise.errors import InvalidInputError, RigwiseError, UnknownNameError, UnsupportedError
from rigwise.graph import load
from rigwise.graph.cache import cache_folder, cached_capture, cached_with_sources, capture_key, factory_key
from rigwise.graph.graph import Card, Graph, Model
from rigwise.graph.load import load_model, read_zoo, zoo_names, zoo_path
from rigwise.graph.op import Kind, Op, Phase, Tensor
from rigwise.graph.rwg import read_model, to_bytes, write_model


def model_named(title: str, **change: object) -> Model:
    square = Tensor((4, 4))
    op = {
        "name": "aten.mm",
        "kind": Kind.GEMM,
        "phase": Phase.FORWARD,
        "inputs": (square, square),
        "outputs": (square,),
    }
    graph = Graph(ops=(Op(**{**op, **change}),), symbols={})
    return Model(name=title, card=Card(title=title), parameters=(), graphs={"infer": graph})


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of two models, and an empty folder to stand in."""
    folder, here = tmp_path / "zoo", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    for name in ("resnet50", "gpt2"):
        write_model(folder / f"{name}.rwg", model_named(name))
    monkeypatch.setattr(load, "zoo_folder", lambda: folder)
    monkeypatch.chdir(here)
    zoo_names.cache_clear()
    yield folder
    zoo_names.cache_clear()


@pytest.mark.usefixtures("zoo")
def test_zoo_names_in_any_case() -> None:
    assert zoo_names() == ("gpt2", "resnet50")
    assert load_model("ResNet50") == read_zoo("resnet50") == model_named("resnet50")


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("spec", "close"),
    [("resnet5", "did you mean resnet50"), ("acme/GPT2", "did you mean gpt2"), ("zzz", "models lists"), ("", "models")],
)
def test_an_unknown_name_lists_near_ones(spec: str, close: str) -> None:
    with pytest.raises(RigwiseError, match=close):
        load_model(spec)


@pytest.mark.usefixtures("zoo")
def test_an_unknown_zoo_path_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="resnet51"):
        zoo_path("resnet51")


@pytest.mark.usefixtures("zoo")
def test_a_bare_zoo_name_means_the_zoo_and_a_path_the_folder() -> None:
    Path("gpt2").mkdir()
    assert load_model("gpt2").name == "gpt2"
    with pytest.raises(InvalidInputError, match=r"the folder gpt2 holds no config\.json"):
        load_model("./gpt2")


@pytest.mark.usefixtures("zoo")
def test_a_graph_file_is_read_wherever_it_lies() -> None:
    mine = model_named("mine")
    write_model("resnet50.rwg", mine)
    Path("deep").mkdir()
    write_model("deep/mine.RWG", mine)
    assert load_model("resnet50.rwg") == load_model("deep/mine.RWG") == mine


ONNX_HEAD = b"\x08\x0a\x12\x07pytorch"
FILES = [
    ("missing.rwg", None, "there is no file missing.rwg"),
    ("missing.json", None, "there is no file missing.json"),
    ("missing.onnx", None, "there is no file missing.onnx"),
    ("missing/net.pt", None, "there is no file"),
    ("empty.rwg", b"", "empty.rwg is empty"),
    ("empty.onnx", b"", "empty.onnx ends in .onnx, but is no ONNX file"),
    ("empty.json", b"", "empty.json is empty"),
    ("onnx.rwg", ONNX_HEAD, "onnx.rwg is not a rigwise graph"),
    ("graph.onnx", to_bytes(model_named("x")), "graph.onnx ends in .onnx, but is no ONNX file"),
    ("text.onnx", b"hello", "text.onnx ends in .onnx, but is no ONNX file"),
    ("graph.json", to_bytes(model_named("x"))[:16] + b"...", "graph.json ends in .json, but holds a rigwise graph"),
    ("binary.json", b"\x80\x81", "binary.json is not text in UTF-8"),
    ("list.json", b"[]", "list.json is no model configuration"),
    ("broken.json", b'{"model_type": ', "broken.json is not JSON"),
    ("twice.json", b'{"a": 1, "a": 2}', "'a' stands twice"),
    ("weights.pt", b"PK", "weights.pt is cut short or damaged"),
    ("word", b"x", "word is no model file"),
]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(("name", "content", "expected"), FILES, ids=[name for name, *_ in FILES])
def test_a_bad_file_is_one_line_with_its_name(name: str, content: bytes | None, expected: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        load_model(name)
    assert expected in str(caught.value).replace("\\", "/")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("zoo")
def test_huge_files_are_not_read() -> None:
    for name, expected in (
        ("huge.rwg", "has 3,221,225,472 bytes"),
        ("config.json", "has 3,221,225,472 bytes"),
        ("huge.onnx", "is no ONNX file"),
    ):
        with Path(name).open("wb") as stream:
            stream.truncate(3 * 2**30)
        with pytest.raises(InvalidInputError, match=expected):
            load_model(name)


@pytest.mark.usefixtures("zoo")
def test_an_onnx_file_without_a_graph_says_so() -> None:
    pytest.importorskip("onnx")
    Path("net.onnx").write_bytes(ONNX_HEAD)
    with pytest.raises(InvalidInputError, match="it holds no graph"):
        load_model("net.onnx")


NOT_COUNTABLE = [
    {"inputs": (Tensor((4, 4)),)},
    {"inputs": (Tensor((4, 4)), Tensor(()))},
    {"name": "aten.convolution", "kind": Kind.CONV, "attrs": {"groups": 0}},
    {"name": "aten.convolution", "kind": Kind.CONV, "attrs": {"groups": "many"}},
    {"name": "rigwise.attention", "kind": Kind.ATTENTION},
    {"name": "pairs", "kind": Kind.PAIRWISE},
]


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("change", NOT_COUNTABLE)
def test_an_operator_that_cannot_be_counted_is_one_line(change: dict[str, object]) -> None:
    write_model("odd.rwg", model_named("odd", **change))
    with pytest.raises(InvalidInputError, match=r"odd\.rwg: graphs\.infer\.ops\[0\] cannot be counted"):
        load_model("odd.rwg")


# The cache of captures


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIGWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_capture_is_made_once(cache: Path) -> None:
    made: list[int] = []

    def capture() -> Model:
        made.append(1)
        return model_named("once")

    key = capture_key({"model_type": "llama"})
    assert cached_capture(key, capture) == cached_capture(key, capture) == model_named("once")
    assert len(made) == 1
    assert [f.name for f in (cache / "captures").iterdir()] == [f"{key}.rwg"]


@pytest.mark.parametrize("damage", [b"", b"rigwise.graph/1\n", b"rigwise.graph/0\nold", b"\x00" * 99])
def test_a_damaged_entry_is_captured_again_and_mended(cache: Path, damage: bytes) -> None:
    entry = cache / "captures" / "k.rwg"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(damage)
    assert cached_capture("k", lambda: model_named("again")) == model_named("again")
    assert read_model(entry) == model_named("again")


def test_a_place_that_cannot_be_written_to_costs_only_time(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert cached_capture("k", lambda: model_named("still")) == model_named("still")


def test_a_failed_capture_leaves_nothing(cache: Path) -> None:
    def capture() -> Model:
        raise UnsupportedError("no such architecture")

    with pytest.raises(UnsupportedError):
        cached_capture("k", capture)
    assert list(cache.rglob("*.rwg")) == []


def test_a_factory_is_captured_again_when_a_file_it_came_from_changes(cache: Path, tmp_path: Path) -> None:
    source, made = tmp_path / "nets.py", []
    source.write_text("WIDTH = 8")

    def capture() -> tuple[Model, list[str]]:
        made.append(source.read_text())
        return model_named(made[-1]), [str(source)]

    def asked() -> str:
        return cached_with_sources("k", capture).name

    assert [asked(), asked()] == ["WIDTH = 8"] * 2
    source.write_text("WIDTH = 9")
    assert [asked(), asked()] == ["WIDTH = 9"] * 2
    assert made == ["WIDTH = 8", "WIDTH = 9"]
    (cache / "captures" / "k.json").write_text("[1]")
    assert asked() == "WIDTH = 9"
    assert len(made) == 3
    source.unlink()
    with pytest.raises(FileNotFoundError):
        asked()


def test_a_factory_is_another_one_elsewhere_or_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = factory_key("nets:net")
    monkeypatch.setenv("TERM", "dumb")
    assert factory_key("nets:net") == here
    monkeypatch.setenv("HIDDEN_SIZE", "512")
    told = factory_key("nets:net")
    monkeypatch.chdir(tmp_path)
    assert len({here, told, factory_key("nets:net"), factory_key("nets:other")}) == 4


def test_the_key_is_the_content_and_not_its_order() -> None:
    one, other = {"a": 1, "b": [2]}, {"b": [2], "a": 1}
    assert capture_key(one) == capture_key(json.loads(json.dumps(other)))
    assert capture_key(one) != capture_key({"a": 1, "b": [3]})


def test_the_cache_lies_where_the_platform_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIGWISE_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for platform, folder in (
        ("win32", tmp_path / "local" / "rigwise" / "Cache"),
        ("darwin", tmp_path / "Library" / "Caches" / "rigwise"),
        ("linux", tmp_path / "xdg" / "rigwise"),
    ):
        monkeypatch.setattr("rigwise.graph.cache.sys.platform", platform)
        assert cache_folder() == folder


# Capture


WITHOUT_TORCH = not all(find_spec(package) for package in ("torch", "transformers"))
TINY_LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
TINY_LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}
TINY_LLAMA |= {"hidden_act": "relu"}  # which no template has


@pytest.mark.skipif(WITHOUT_TORCH, reason="needs PyTorch and transformers")
@pytest.mark.usefixtures("zoo")
def test_a_configuration_is_captured_once_whatever_its_folder(cache: Path) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "config.json").write_text(json.dumps(TINY_LLAMA))
    one, two = load_model("./one"), load_model("two/config.json")
    assert (one.name, one.card.title, one.card.source) == ("one", "one", str(Path("one/config.json")))
    assert (two.name, two.card.source) == ("two", str(Path("two/config.json")))
    assert one.graphs == two.graphs
    assert set(one.graphs) == {"train", "infer", "prefill", "decode"}
    hidden, wide, layers, words = 64, 128, 4, 1000
    attention, mlp, norms = 2 * hidden**2 + 2 * hidden * hidden // 2, 3 * hidden * wide, 2 * hidden
    assert one.parameter_count == layers * (attention + mlp + norms) + 2 * words * hidden + hidden
    assert len(list(cache.rglob("*.rwg"))) == 1


@pytest.mark.skipif(WITHOUT_TORCH, reason="needs PyTorch and transformers")
@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("change", "expected"),
    [({"model_type": "flurb"}, "model_type is 'flurb'"), ({"hidden_size": -64}, "hidden_size is -64")],
)
def test_a_configuration_that_cannot_be_is_one_line(cache: Path, change: dict[str, object], expected: str) -> None:
    Path("bad.json").write_text(json.dumps(TINY_LLAMA | change))
    with pytest.raises(RigwiseError) as caught:
        load_model("bad.json")
    assert "bad.json" in str(caught.value)
    assert expected in str(caught.value)
    assert not list(cache.rglob("*.rwg"))
