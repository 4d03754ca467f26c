"""Application files: what is read, and every fault in one line that names the file, the key and near matches."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.application.costs import cost
from rigwise.application.plan import plan_application
from rigwise.application.quantity import quantity
from rigwise.application.reader import application_from_tables, is_application, read_application
from rigwise.edge import parse_toml
from rigwise.errors import InvalidInputError, RigwiseError

GOOD = """
[application]
flow = ["camera -> detect -> store", "camera -> log"]
[place.cpu]
cores = 4
[place.gpu]
device = "t4"
[component.camera]
rate = "30/s"
outputs = { frame = { bytes = "1MB" } }
cost.cpu = { time = "1ms" }
[component.detect]
inputs = { frame = "frame" }
outputs = { box = { bytes = 100, ratio = "5/2" } }
batch = 4
max_wait = "10ms"
cost.cpu = { time = "20ms", time_per_batch = "1ms", memory = "200MB" }
cost.gpu = { time = "1ms", source = "measured" }
[component.store]
inputs = { box = "box" }
cost.cpu = { time = 0 }
[component.log]
inputs = { frame = "frame" }
cost.cpu = { time = "10us" }
"""


def read(text: str, where: str = "app.toml"):
    return application_from_tables(parse_toml(text, where), where)


def test_a_file_is_read_into_its_parts() -> None:
    application = read(GOOD)
    assert list(application.components) == ["camera", "detect", "store", "log"]
    assert [str(edge) for edge in application.edges] == ["camera -> detect", "detect -> store", "camera -> log"]
    detect = application.components["detect"]
    assert (detect.batch, detect.max_wait_s, detect.outputs["box"].ratio_frac) == (4, 0.01, 2.5)
    assert detect.costs["cpu"].time_per_batch_s == 0.001
    assert detect.costs["cpu"].memory_bytes == 200e6
    assert application.components["camera"].rate_per_s == 30
    assert (application.places["cpu"].cores, application.places["gpu"].device) == (4, "t4")
    (link,) = application.links
    assert link.between == ("cpu", "gpu")
    assert "pcie3x16" in " ".join(application.assumed)


def test_components_come_behind_all_that_feed_them() -> None:
    tables = parse_toml(GOOD, "")
    tables["component"] = dict(reversed(tables["component"].items()))
    order = list(application_from_tables(tables, "app.toml").components)
    assert order.index("camera") < order.index("detect") < order.index("store")


def test_the_example_of_the_reference_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "application.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    plan = plan_application(read(example))
    assert plan.answers[0].bottleneck == "workers decode"


def test_a_jobs_file_is_none() -> None:
    assert is_application(parse_toml(GOOD, ""))
    assert not is_application(parse_toml("[workload]\nmodel = 'resnet50'", ""))


def detector(line: str, words: str) -> tuple[str, str, str]:
    """The detector with one more line, and the words that the message must hold."""
    return "[component.detect]\n", f"[component.detect]\n{line}\n", words


#: What is changed into what, and the words that the message must hold.
FAULTS = {
    "unconnected": ('"camera -> log"]', "]", r"component.log: input 'frame' is not connected"),
    "types differ": ('inputs = { box = "box" }', 'inputs = { box = "mask" }', "gives 'box' and store.box takes 'mask'"),
    "unknown component": ("detect -> store", "detct -> store", "no component 'detct'; did you mean detect"),
    "unknown port": ("detect -> store", "detect -> store.boxes", "store has no input 'boxes'; write store.box"),
    "unknown place": ("cost.gpu", "cost.gpo", "component.detect.cost.gpo .*unknown place 'gpo'; did you mean gpu"),
    "pinned to nowhere": detector('on = "gpuu"', "component.detect.on .*'gpuu'; did you mean gpu"),
    "unknown device": ('"t4"', '"t44"', "place.gpu.device: there is no device 't44'"),
    "unknown key": ("batch = 4", "bath = 4", "component.detect: unknown key 'bath', did you mean batch"),
    "unknown cost key": ("time_per_batch", "time_per_bach", "cost.cpu: unknown key 'time_per_bach'"),
    "unknown place key": ("cores = 4", "core = 4", "place.cpu: unknown key 'core'"),
    "unknown table": ("[place.gpu]", "[palce.gpu]", r"unknown table \[palce\]; did you mean place"),
    "negative time": ('"20ms"', '"-20ms"', "cost.cpu.time is -20ms; give a value 0 or more"),
    "zero rate": ('"30/s"', '"0/s"', "camera.rate is 0/s; give a value above 0"),
    "zero ratio": ('"5/2"', "0", "box.ratio is 0; give a value above 0"),
    "ratio over zero": ('"5/2"', '"5/0"', "ratio '5/0' is not a number"),
    "zero cores": ("cores = 4", "cores = 0", "place.cpu.cores is 0"),
    "zero batch": ("batch = 4", "batch = 0", "component.detect.batch is 0"),
    "zero workers": detector("workers = 0", "component.detect.workers is 0"),
    "wrong unit": ('"20ms"', '"20MB"', "cost.cpu.time: .*unknown unit 'MB'"),
    "no number": ('"1MB"', '"big"', "frame.bytes: size 'big' is not a number"),
    "too large": ('"20ms"', '"1e300s"', "cost.cpu.time is 1e300s"),
    "not finite": ('"20ms"', "inf", "cost.cpu.*finite"),
    "duplicate edge": ('"camera -> log"]', '"camera -> log", "camera -> log"]', "camera -> log stands twice"),
    "fed twice": ('"camera -> log"]', '"camera -> log", "detect.box -> log.frame"]', "gives 'box'"),
    "no arrow": ('"camera -> log"]', '"camera, log"]', "'camera, log' is no chain"),
    "waits for nothing": ("batch = 4\n", "", "max_wait is given and batch is 1"),
    "rate of an inner one": detector('rate = "3/s"', "component.detect has a rate and inputs"),
    "cost without time": ("{ time = 0 }", '{ source = "x" }', "component.store.cost.cpu has no time"),
    "bytes of no disk": ("{ time = 0 }", '{ bytes = "1kB" }', "place.cpu has no bytes_per_s"),
    "more cores than there are": ("{ time = 0 }", "{ time = 0, cores = 8 }", "cores is 8: place.cpu has 4"),
    "cpu without cores": ("cores = 4", "", "place.cpu is a CPU without cores"),
    "gpu with cores": ('device = "t4"', 'device = "t4"\ncores = 3', "place.gpu.cores: a gpu has none"),
    "wrong kind": ("cores = 4", 'cores = 4\nkind = "tpu"', "place.cpu.kind is 'tpu'"),
    "wrong runner": detector('run = "fibre"', "component.detect.run is 'fibre'"),
    "wrong objective": (
        "[application]",
        "[objective]\noptimize = 'speed'\n[application]",
        "objective.optimize is 'speed'",
    ),
    "no component": ("[component.camera]", '[component."a b"]', "'a b' is not a name"),
    "link to nowhere": (
        "[application]",
        "[[link]]\nbetween=['cpu','gpp']\nbytes_per_s=1\n[application]",
        "'gpp'; did you mean gpu",
    ),
    "link to itself": (
        "[application]",
        "[[link]]\nbetween=['cpu','cpu']\nbytes_per_s=1\n[application]",
        "'cpu' to itself",
    ),
    "link of no width": (
        "[application]",
        "[[link]]\nbetween=['cpu','gpu']\nbytes_per_s=0\n[application]",
        "link 1.bytes_per_s is 0",
    ),
    "link as a table": ("[application]", "[link]\nbytes_per_s=0\n[application]", r"write \[\[link\]\]"),
    "not TOML": ("cores = 4", "cores = = 4", "app.toml is not TOML"),
    "text for a table": ("cost.cpu = { time = 0 }", "cost.cpu = 3", "store.cost.cpu is not a table"),
    "model task": detector('model = { name = "resnet50", task = "train" }', "model.task is 'train'"),
    "model dtype": detector('model = { name = "resnet50", dtype = "fp12" }', "detect.model: dtype is 'fp12'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_with_its_place(name: str) -> None:
    old, new, words = FAULTS[name]
    assert GOOD.count(old) >= 1
    with pytest.raises(RigwiseError, match=words) as caught:
        cost(read(GOOD.replace(old, new, 1)))
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("app.toml")
    assert "\n" not in str(caught.value)


CHAIN = """
[application]
flow = ["a -> b -> c"]
[place.cpu]
cores = 4
[component.a]
outputs = { x = { bytes = 1 } }
cost.cpu = { time = 1 }
[component.b]
inputs = { x = "x" }
outputs = { x = { bytes = 1 } }
cost.cpu = { time = 1 }
[component.c]
inputs = { x = "x" }
cost.cpu = { time = 1 }
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a -> b -> c", "a -> b", "component.b: output 'x' is not connected"),
        ('flow = ["a -> b -> c"]', 'flow = ["a -> b -> c", "c -> b"]', "c has no outputs"),
        (
            "[component.c]\n",
            "[component.c]\noutputs = { x = { bytes = 1 } }\n",
            "component.c: output 'x' is not connected",
        ),
        ("flow = [", 'flow = ["c -> b", ', "c has no outputs"),
        ("[component.c]\ninputs", "[component.c]\n#", "component.c has neither inputs nor outputs"),
        ("[component.c]", "[component.d]", "no component 'c'"),
        ('flow = ["a -> b -> c"]', "", "application: flow is missing"),
        ('[application]\nflow = ["a -> b -> c"]', "", r"\[application\] is missing"),
        ("[place.cpu]\ncores = 4", "", r"\[place.NAME\] is missing"),
    ],
)
def test_a_fault_of_a_chain(old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read(CHAIN.replace(old, new, 1))


def test_a_cycle_is_named() -> None:
    text = CHAIN.replace("outputs = { x = { bytes = 1 } }\ncost", "outputs = { x = { bytes = 1 } }\nmerge = true\ncost")
    text = text.replace("[component.c]\n", "[component.c]\noutputs = { x = { bytes = 1 } }\n")
    with pytest.raises(InvalidInputError, match=r"has a cycle: (b -> c -> b|c -> b -> c)"):
        read(text.replace('"a -> b -> c"', '"a -> b -> c -> b", "c -> sink"') + SINK)


SINK = """
[component.sink]
inputs = { x = "x" }
cost.cpu = { time = 1 }
"""


def test_all_in_a_ring_leave_no_source() -> None:
    ring = CHAIN.replace("[component.a]\n", '[component.a]\ninputs = { x = "x" }\n')
    ring = ring.replace("[component.c]\n", "[component.c]\noutputs = { x = { bytes = 1 } }\n")
    with pytest.raises(InvalidInputError, match="there is no source"):
        read(ring.replace("b -> c", "b -> c -> a"))


def test_a_ring_behind_a_source_leaves_no_sink() -> None:
    ring = CHAIN.replace("[component.c]\n", "[component.c]\noutputs = { x = { bytes = 1 } }\n")
    ring = ring.replace("[component.b]\n", "[component.b]\nmerge = true\n")
    with pytest.raises(InvalidInputError, match="there is no sink"):
        read(ring.replace("b -> c", "b -> c -> b"))


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n"])
def test_an_empty_file(content: str, tmp_path) -> None:
    file = tmp_path / "app.toml"
    file.write_text(content)
    with pytest.raises(InvalidInputError, match=r"app\.toml"):
        read_application(str(file))


def test_no_such_file() -> None:
    with pytest.raises(InvalidInputError, match=r"there is no file nowhere\.toml"):
        read_application("nowhere.toml")


def test_an_input_fed_twice_needs_merge() -> None:
    twice = CHAIN.replace('flow = ["a -> b -> c"]', 'flow = ["a -> b -> c", "a -> c"]')
    with pytest.raises(InvalidInputError, match=r"component\.c: 2 edges end at input 'x'; say merge = true"):
        read(twice)
    assert len(read(twice.replace("[component.c]\n", "[component.c]\nmerge = true\n")).edges) == 3


def test_rates_that_contradict_each_other_at_a_join() -> None:
    text = CHAIN.replace('flow = ["a -> b -> c"]', 'flow = ["a -> b -> c.x", "a -> c.y"]')
    text = text.replace('[component.c]\ninputs = { x = "x" }', '[component.c]\ninputs = { x = "x", y = "x" }')
    assert cost(read(text)).rates["c"] == 1
    text = text.replace(
        "outputs = { x = { bytes = 1 } }\ncost.cpu = { time = 1 }\n[component.c]",
        "outputs = { x = { bytes = 1, ratio = 2 } }\ncost.cpu = { time = 1 }\n[component.c]",
    )
    with pytest.raises(InvalidInputError, match=r"component\.c joins 2 items of b with 1 of a"):
        cost(read(text))


def test_sources_with_and_without_a_rate() -> None:
    text = CHAIN.replace('flow = ["a -> b -> c"]', 'flow = ["a -> b.x -> c", "d -> b.y"]')
    text = text.replace('inputs = { x = "x" }\noutputs', 'inputs = { x = "x", y = "x" }\noutputs')
    text = text.replace("[component.a]\n", "[component.a]\nrate = 5\n")
    text += "[component.d]\noutputs = { x = { bytes = 1 } }\ncost.cpu = { time = 1 }\n"
    with pytest.raises(InvalidInputError, match="sources with and without a rate; give d one too"):
        cost(read(text))
    with pytest.raises(InvalidInputError, match=r"component\.b joins"):
        cost(read(text.replace("[component.d]\n", "[component.d]\nrate = 6\n")))
    assert cost(read(text.replace("[component.d]\n", "[component.d]\nrate = 5\n"))).offered_per_s == 5


def test_a_component_that_can_run_nowhere_says_why() -> None:
    text = GOOD.replace("cost.cpu = { time = 0 }", 'places = ["gpu"]')
    with pytest.raises(InvalidInputError, match=r"component\.store can run nowhere \(gpu: no cost is stated\)"):
        cost(read(text))


def test_an_unknown_model_names_its_component() -> None:
    text = GOOD.replace("cost.cpu = { time = 0 }", 'model = { name = "resnet-5O" }')
    with pytest.raises(RigwiseError, match=r"component\.store\.model: .*resnet-5O") as caught:
        cost(read(text))
    assert caught.value.exit_code == 2


def test_a_format_that_the_device_lacks_rules_the_place_out() -> None:
    text = GOOD.replace("[component.store]\n", '[component.store]\nmodel = { name = "alexnet", dtype = "fp8" }\n')
    costed = cost(read(text))
    assert "fp8" in costed.refused["store"]["gpu"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("12GB/s", "bytes/s", 12e9),
        ("30/s", "items/s", 30.0),
        ("1/3", "ratio", 1 / 3),
        ("$2", "usd", 2.0),
        (5, "bytes", 5.0),
    ],
)
def test_quantities(text, kind: str, value: float) -> None:
    assert quantity(text, kind, "x") == pytest.approx(value)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**20), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.lists(st.text(max_size=3), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["cpu", "gpu", "1e999", "-1s", "5GB/s", "0", "a -> b", "\x1b[2J", "t4", "camera"]),
)  # fmt: skip


def spots(table, path=()):
    """Every key of nested tables, and every number of nested lists."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from spots(value, (*path, key))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_one_line(data) -> None:
    tables = parse_toml(GOOD, "")
    path = data.draw(st.sampled_from(sorted(spots(tables), key=str)))
    inside = tables
    for key in path[:-1]:
        inside = inside[key]
    inside[data.draw(st.sampled_from([path[-1], "x"])) if isinstance(inside, dict) else path[-1]] = data.draw(ODD)
    refused = ""
    try:
        plan_application(application_from_tables(tables, "app.toml"), limit=50)
    except RigwiseError as error:
        refused = str(error)
    assert len(refused) < 500
    assert "\n" not in refused
    assert not refused or refused.startswith("app.toml")
