"""Every figure: what it draws of its document, and the files it becomes."""

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError, MissingExtraError, UnsupportedError
from rigwise.measurement.records import Record
from rigwise.report.figures import FIGURES, figure_of
from rigwise.report.figures.graph import compute_graph
from rigwise.report.figures.history import over_time
from rigwise.report.figures.judged import predicted_against_measured
from rigwise.report.figures.label import Plane, spread, word_box
from rigwise.report.figures.roofline import roofline
from rigwise.report.figures.save import KINDS, check_place, content_of, svg
from rigwise.report.figures.theme import BLUE, DARK, PAPER, STRONG, WIDE_PX, bare, in_theme

pytest.importorskip("altair", reason="extra plot")
pytest.importorskip("vl_convert", reason="extra plot")

#: What commands printed that take long, or need a store, a run or several jobs; without what no figure reads.
DOCUMENTS = Path(__file__).parent / "data" / "documents"
JOB = ["plan", "resnet18", "--samples", "1e6", "--device", "t4"]
COMMANDS = {
    "rigwise.predict/1": ["predict", "resnet18", "--device", "t4", "--batch", "8"],
    "rigwise.compare/1": ["compare", "resnet18", "--device", "t4,rtx-4090", "--dtype", "amp-bf16"],
    "rigwise.memory/1": ["predict", "resnet18", "--device", "t4", "--batch", "8", "--explain", "memory"],
    "rigwise.scaling/1": [
        "predict",
        "resnet18",
        "--device",
        "t4",
        "--batch",
        "8",
        "--count",
        "1,2,4",
        "--explain",
        "scaling",
    ],
    "rigwise.serving/1": ["predict", "gpt2", "--device", "l4", "--explain", "serving", "--batch", "1,4"],
    "rigwise.plan/1": [*JOB, "--deadline", "12h", "--budget", "$100"],
    "rigwise.plan.spot/1": [*JOB, "--spot", "--explain", "spot"],
    "rigwise.plan.buying/1": ["plan", "gpt2", "--tokens", "20M", "--explain", "buying", "--max-price-age", "3000d"],
}
BENCH = {
    "schema": "rigwise.bench/1",
    "name": "a box",
    "device": None,
    "figures": [
        {
            "name": "matmul.fp32",
            "unit": "FLOP/s",
            "value": 5e11,
            "limit": {"value": 1e12},
            "predicted": {"value": 8e11},
        },
        {"name": "disk.read", "unit": "s", "value": 2e-3, "limit": {"value": 1e-3}, "predicted": None},
        {"name": "launch", "unit": "s", "value": 2e-6, "limit": None, "predicted": None},
    ],
}


@pytest.fixture(scope="module")
def documents():
    def answer(arguments):
        result = CliRunner().invoke(command_line, [*arguments, "--json"], standalone_mode=False)
        assert not result.exception, result.exception
        return json.loads(result.stdout)

    recorded = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DOCUMENTS.glob("*.json"))]
    asked = {schema: answer(arguments) for schema, arguments in COMMANDS.items()}
    return asked | {document["schema"]: document for document in recorded} | {"rigwise.bench/1": BENCH}


@pytest.fixture(scope="module")
def drawn(documents) -> dict[str, str]:
    """Every figure as SVG."""
    return {schema: content_of(figure_of(document), ".svg") for schema, document in documents.items()}


@pytest.fixture(scope="module")
def step_and_model():
    from rigwise.graph.load import load_model
    from rigwise.report.step_times import timed_step
    from rigwise.workload.case import Case

    model = load_model("gpt2")
    return timed_step(Case(model="gpt2", device="t4", task="prefill"), model), model


def texts(figure) -> str:
    """Every word of the figure, or of its SVG, as it is drawn."""
    svg = ElementTree.fromstring(figure if isinstance(figure, str) else content_of(figure, ".svg"))
    return "\n".join(element.text or "" for element in svg.iter() if element.tag.endswith(("text", "tspan")))


def rows(figure, width_px: int = WIDE_PX) -> list[dict]:
    spec = bare(figure, width_px)
    found = [row for values in spec.get("datasets", {}).values() for row in values]

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("values"), list) and all(isinstance(v, dict) for v in node["values"]):
                found.extend(node["values"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk({key: value for key, value in spec.items() if key != "datasets"})
    return found


class References(HTMLParser):
    """What a page loads or points at."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found, self.policy = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes) -> None:
        given = dict(attributes)
        self.found += [given[name] for name in ("src", "href", "data", "action") if name in given]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]


@pytest.mark.parametrize("schema", FIGURES)
def test_every_figure_becomes_every_kind_of_file(documents, drawn, schema: str) -> None:
    figure = figure_of(documents[schema])
    assert figure.title
    assert figure.note.endswith(".")
    assert content_of(figure, ".png").startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.fromstring(drawn[schema]).tag.endswith("svg")
    page = content_of(figure, ".html")
    references = References(page)
    assert references.found == []
    assert "default-src 'none'" in references.policy
    assert figure.title in page.replace("&#x27;", "'")


@pytest.mark.parametrize("schema", FIGURES)
def test_no_word_of_a_figure_is_a_name_from_the_code(drawn, schema: str) -> None:
    words = re.sub(
        r"\S*(conv_|nll_|log_softmax|max_pool|_backward|addmm|1thread|_foreach)\S*", "", texts(drawn[schema])
    )
    assert not re.findall(r"\b\w+_(?:s|usd|bytes|frac|p10|p50|p90)\b|undefined|NaN|null", words)


@pytest.mark.parametrize(
    ("schema", "unit"),
    [
        ("rigwise.predict/1", "FLOP/s"),
        ("rigwise.compare/1", "ms"),
        ("rigwise.memory/1", "GB"),
        ("rigwise.scaling/1", "samples a second"),
        ("rigwise.serving/1", "tokens a second"),
        ("rigwise.plan/1", "cost (US $)"),
        ("rigwise.plan.spot/1", "cost (US $)"),
        ("rigwise.plan.buying/1", "spent so far (US $)"),
        ("rigwise.bench/1", "GFLOP/s"),
        ("rigwise.plan.staged/1", "time from the start"),
        ("rigwise.plan.shared/1", "2 h"),
        ("rigwise.plan.serving/1", "US $ an hour"),
        ("rigwise.plans/1", "cost (US $)"),
        ("rigwise.application/1", "20 %"),
        ("rigwise.run.command/1", "ms"),
        ("rigwise.run/1", "measured time"),
        ("rigwise.trace/1", "us"),
        ("rigwise.history.compare/1", "second over first"),
        ("rigwise.inspect/1", "GFLOP/s"),
    ],
)
def test_a_figure_says_its_units(drawn, schema: str, unit: str) -> None:
    assert unit in texts(drawn[schema])


def test_a_bandwidth_that_was_assumed_says_of_what(documents) -> None:
    assert "(a whole socket of Zen 5, shared with others)" in figure_of(documents["rigwise.inspect/1"]).note


def test_the_parts_of_a_bar_add_up_to_the_step(documents) -> None:
    document = documents["rigwise.compare/1"]
    figure = figure_of(document)
    for answer in (one for one in document["results"] if "step_time_s" in one):
        own = [row for row in rows(figure) if row["name"] == answer["device"] and "limit" in row]
        parts = {row["limit"]: row["to"] - row["from"] for row in own}
        assert parts == pytest.approx(
            {name: frac * answer["step_time_s"]["p50"] for name, frac in answer["binds"].items() if frac > 0}
        )


def test_a_device_that_cannot_do_it_is_named(documents) -> None:
    errors = [one["device"] for one in documents["rigwise.compare/1"]["results"] if "error" in one]
    assert errors
    assert all(name in figure_of(documents["rigwise.compare/1"]).note for name in errors)
    none = {"schema": "rigwise.compare/1", "results": [{"device": "t4", "error": {}}]}
    with pytest.raises(UnsupportedError, match="no device"):
        figure_of(none)


def test_the_roofline_has_the_operators_and_the_roofs(documents) -> None:
    document = documents["rigwise.predict/1"]
    operators = [{"name": "gemm in fc", "flops": 1e9, "bytes": 1e8, "time_s": 1e-3, "binds": "memory"}]
    point = next(row for row in rows(roofline(document, operators)) if row.get("name") == "gemm in fc")
    assert (point["rate"], point["intensity"]) == (1e12, 10.0)
    words = texts(roofline(document, operators))
    assert "gemm in fc" in words
    assert "320 GB/s" in words  # of the T4's data sheet
    without = {**document, "by_kind": [{**kind, "flops": 0.0} for kind in document["by_kind"]]}
    with pytest.raises(UnsupportedError, match="multiply-adds"):
        figure_of(without)


def test_the_peak_of_the_memory_is_that_of_the_answer(documents) -> None:
    document = documents["rigwise.memory/1"]
    found = [row for row in rows(figure_of(document)) if "part" in row]
    sums = [sum(row["bytes"] for row in found if row["index"] == index) for index in range(len(document["course"]))]
    assert max(sums) == pytest.approx(document["peak_memory_bytes"]["p50"])
    limit = next(row for row in rows(figure_of(document)) if "text" in row and "part" not in row and "bytes" in row)
    assert limit["bytes"] == document["capacity_bytes"]


def test_buying_ends_where_the_answer_does(documents) -> None:
    document = documents["rigwise.plan.buying/1"]
    at_the_end = min(document["course"], key=lambda point: abs(point["months"] - document["horizon"]["months"]))
    if at_the_end["months"] == document["horizon"]["months"]:
        assert at_the_end["own_usd"] == pytest.approx(document["own"]["total_usd"])
        assert at_the_end["rent_usd"] == pytest.approx(document["rent_usd"])
    assert document["course"][0]["months"] == 0
    with pytest.raises(UnsupportedError):
        figure_of({"schema": "rigwise.plan.buying/1", "infeasible": {}})


def test_spot_shows_every_policy_in_every_market(documents) -> None:
    document = documents["rigwise.plan.spot/1"]
    shown = {(row["market"], row["cost_p50"]) for row in rows(figure_of(document)) if "market" in row}
    assert shown == {
        (one["name"], policy["cost_usd"]["p50"]) for one in document["scenarios"] for policy in one["policies"]
    }


def test_a_share_of_a_limit_is_above_one_never_for_being_slow() -> None:
    shares = {row["name"]: row["share"] for row in rows(figure_of(BENCH)) if "text" in row}
    assert shares == {"matmul.fp32": 0.5, "disk.read": 0.5}
    assert "1 more have no limit" in figure_of(BENCH).note
    with pytest.raises(UnsupportedError):
        figure_of({**BENCH, "figures": BENCH["figures"][2:]})


def test_scaling_shows_every_count_and_term(documents) -> None:
    document = documents["rigwise.scaling/1"]
    found = rows(figure_of(document))
    assert {row["devices"] for row in found if "rate" in row} == {1, 2, 4}
    last = document["points"][-1]
    parts = {row["part"] for row in found if row.get("devices") == 4 and "part" in row}
    assert parts == {name for name, seconds in last["terms_s"].items() if seconds > 0}


def test_predicted_against_measured_says_how_far_off() -> None:
    points = [{"measured_s": 1e-3, "predicted_s": 1.1e-3, "source": "here"}] * 3
    figure = predicted_against_measured([*points, {"measured_s": 0.0, "predicted_s": 1.0, "source": "nowhere"}])
    assert "3 steps" in figure.title
    assert "10 %" in figure.note
    assert "measured time" in texts(figure)
    with pytest.raises(UnsupportedError):
        predicted_against_measured([])


@pytest.mark.parametrize("count", [1, 2])
def test_every_series_has_its_panel(count: int) -> None:
    record = Record(
        when="2026-11-01T10:00:00Z", kind="bench", name="matmul", value=1e9, unit="FLOP/s", machine_id="box"
    )
    figure = over_time({f"series {number}": [record] for number in range(count)})
    words = texts(figure)
    assert all(f"series {number}" in words + figure.title for number in range(count))
    assert "FLOP/s" in words


def test_the_graph_shows_modules_with_their_time(step_and_model) -> None:
    step, model = step_and_model
    figure = compute_graph(model, step, depth=3)
    words = texts(figure)
    assert "lm_head" in words
    assert re.search(r"h\.\* x12", words)
    assert re.search(r"\d (ms|us)", words)
    narrow = [row for row in rows(figure, 340) if "label" in row]
    assert all(row["to_x"] <= 340 for row in narrow)


def test_dark_swaps_colours_and_nothing_else(documents, drawn) -> None:
    spec = {"a": [BLUE, "blue", 3], "b": {"c": STRONG}}
    assert in_theme(spec, "dark") == {"a": [DARK[BLUE], "blue", 3], "b": {"c": DARK[STRONG]}}
    assert in_theme(spec, "light") is spec
    figure = figure_of(documents["rigwise.plan/1"])
    assert DARK[BLUE] in content_of(figure, ".svg", "dark")
    assert DARK[BLUE] not in drawn["rigwise.plan/1"]


def test_hostile_names_stay_data(documents) -> None:
    first, *others = documents["rigwise.compare/1"]["results"]
    evil = "</script><script>alert(1)</script>"
    document = {"schema": "rigwise.compare/1", "results": [{**first, "device": evil}, *others]}
    page = content_of(figure_of(document), ".html")
    assert evil not in page
    assert page.lower().count("<script") == 3


@given(
    st.lists(
        st.tuples(st.floats(1, 1e6), st.floats(1, 1e6), st.text("abc", min_size=1, max_size=20)),
        min_size=1,
        max_size=12,
    )
)
def test_no_word_stands_on_another(points) -> None:
    plane = Plane(x_range=(0.5, 2e6), y_range=(0.5, 2e6), width_px=600, height_px=300)
    places = spread(points, plane)
    boxes = [word_box(plane.at(x, y), place, text) for (x, y, text), place in zip(points, places, strict=True) if place]
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


@pytest.mark.parametrize("name", ["x.gif", "x", ".", "x.svg.txt", "", "nowhere/x.png"])
def test_a_wrong_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        check_place(name)
    assert "--plot" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_of_a_right_name_is_refused(tmp_path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(InvalidInputError, match="folder"):
        check_place(str(tmp_path / "x.png"))


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_extra_is_named_before_anything_is_computed(tmp_path, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"rigwise\[plot\]"):
        check_place(str(tmp_path / "x.png"))


def run(*arguments):
    return CliRunner().invoke(command_line, list(arguments), standalone_mode=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_the_file_and_prints_the_same(tmp_path, kind: str) -> None:
    plain = run(*COMMANDS["rigwise.predict/1"], "--json")
    drawn = run(*COMMANDS["rigwise.predict/1"], "--json", "--plot", str(tmp_path / f"x{kind}"), "--plot-theme", "dark")
    assert drawn.stdout == plain.stdout
    assert "wrote" in drawn.stderr
    assert (tmp_path / f"x{kind}").stat().st_size > 1000


def test_show_draws_the_graph(tmp_path) -> None:
    assert run("show", "resnet18", "--plot", str(tmp_path / "g.svg")).exit_code == 0
    assert "layer4" in (tmp_path / "g.svg").read_text("utf-8") or "stages" in (tmp_path / "g.svg").read_text("utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "verify", "x.json"],
        [*JOB, "--explain", "change"],
        ["bench", "--list"],
        ["plan", "--init"],
        ["predict", "--cases", "x.jsonl"],
    ],
)
def test_what_has_no_figure_says_so(tmp_path, arguments) -> None:
    result = run(*arguments, "--plot", str(tmp_path / "x.png"))
    assert isinstance(result.exception, InvalidInputError)
    assert "--plot cannot draw" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_document_without_a_figure_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"rigwise\.setup/1"):
        figure_of({"schema": "rigwise.setup/1"})


def test_answers_show_themselves_in_a_notebook(monkeypatch) -> None:
    import rigwise
    from rigwise.workload.case import Case

    cases = [Case(model="resnet18", device=device, batch=8) for device in ("t4", "l4")]
    for answer, words in (
        (rigwise.predict(cases[0]), "t4"),
        (rigwise.compare(cases), "t4"),
        (rigwise.capture("resnet18"), "ResNet-18"),
    ):
        shown = answer._repr_mimebundle_()
        assert "<svg" in shown["text/html"]
        assert "<table" in shown["text/html"]
        assert words in shown["text/plain"]
    monkeypatch.setitem(sys.modules, "altair", None)
    bare_words = rigwise.predict(cases[0])._repr_mimebundle_()
    assert "<svg" not in bare_words["text/html"]
    assert "<table" in bare_words["text/html"]
    assert "t4" in bare_words["text/plain"]


def test_a_machine_shows_its_roofs_and_what_is_wrong_in_a_notebook(tmp_path) -> None:
    from rigwise.machine.doctor.checkup import check_snapshot
    from rigwise.machine.snapshot import Field, Snapshot

    def field(value):
        return Field(value=value, source="a test")

    rate, way = {"flops_per_s": field(1e12)}, {"bytes_per_s": field(1e11)}
    peaks = (
        {"of": field("cpu"), "what": field("fp32"), **rate},
        {"of": field("memory"), "what": field("bandwidth"), **way},
    )
    machine = Snapshot(cpu={"name": field("A <b>CPU</b>")}, peaks=peaks)
    shown = machine._repr_mimebundle_()["text/html"]
    assert "1.00 TFLOP/s" in shown
    assert "A &lt;b&gt;CPU" in shown
    assert "<b>" not in shown
    assert "a box" in check_snapshot(machine, "a box")._repr_mimebundle_()["text/plain"]
    assert "<svg" not in Snapshot()._repr_mimebundle_()["text/html"]


def test_stages_follow_each_other_and_the_last_ends_with_the_plan(documents) -> None:
    document = documents["rigwise.plan.staged/1"]
    bars = [row for row in rows(figure_of(document)) if "from_s" in row]
    ends = [bar["to_s"] for bar in bars]
    assert [bar["from_s"] for bar in bars] == pytest.approx([0.0, *ends[:-1]])
    assert sum(bar["to_s"] - bar["from_s"] for bar in bars if bar["kind"] != "work") == pytest.approx(600.0)
    work_s = sum(stage["plan"]["time_s"]["p50"] for stage in document["stages"])
    assert ends[-1] == pytest.approx(600.0 + work_s)


def test_jobs_stand_by_machine_and_an_idle_one_is_named(documents) -> None:
    document = documents["rigwise.plan.shared/1"]
    figure = figure_of(document)
    bars = {row["name"]: (row["from_s"], row["to_s"]) for row in rows(figure) if "from_s" in row}
    assert bars == {one["name"]: (one["start_s"]["p50"], one["end_s"]["p50"]) for one in document["plans"]}
    assert "old" in figure.note


def test_a_fleet_is_drawn_with_the_limits_that_were_asked_for(documents) -> None:
    document = documents["rigwise.plan.serving/1"]
    words = texts(figure_of(document))
    assert "limit 500 ms" in words
    assert "limit 40.0 ms" in words
    load = {**document["job"]["load"], "ttft_s": None, "tpot_s": None}
    assert "limit" not in texts(figure_of({**document, "job": {**document["job"], "load": load}}))


def test_a_job_without_a_plan_is_counted(documents) -> None:
    document = documents["rigwise.plans/1"]
    assert "1 without a plan" in figure_of(document).note
    with pytest.raises(UnsupportedError, match="no job"):
        figure_of({**document, "results": document["results"][-1:]})


def test_the_busiest_part_of_an_application_stands_at_the_top(documents) -> None:
    document = documents["rigwise.application/1"]
    bars = [row for row in rows(figure_of(document)) if "busy" in row and "text" in row]
    assert f"{bars[0]['kind']}s {bars[0]['name']}".endswith(document["placements"][0]["bottleneck"])
    assert bars[0]["busy"] == max(document["placements"][0]["busy_frac"].values())


def test_a_run_without_steps_has_nothing_to_draw(documents) -> None:
    document = documents["rigwise.run.command/1"]
    measured = [row["middle"] for row in rows(figure_of(document)) if row.get("name") == "measured"]
    assert measured[0] == document["measured"]["step_time_s"]["p50"]
    alone = figure_of({**document, "predicted": None})
    assert [row["name"] for row in rows(alone) if "middle" in row] == ["measured"]
    with pytest.raises(UnsupportedError, match="no step"):
        figure_of({**document, "measured": {**document["measured"], "steps": 0}})


def test_a_recorded_step_is_drawn_beside_its_prediction_where_there_is_one(documents) -> None:
    document = documents["rigwise.trace/1"]
    assert document["operators"][0]["name"] in texts(figure_of(document))
    operators = [{"kind": "gemm", "measured_s": 1e-3, "predicted_s": 2e-3}]
    comparison = {"model": "gpt2", "device": "t4", "operators": operators}
    assert "gpt2 on t4" in figure_of({**document, "comparison": comparison}).note
    with pytest.raises(UnsupportedError, match="counters"):
        figure_of({"schema": "rigwise.trace/1", "counters": {}})


def test_ratios_are_drawn_the_largest_change_first(documents) -> None:
    document = documents["rigwise.history.compare/1"]
    marks = [row for row in rows(figure_of(document)) if "verdict" in row]
    sizes = [abs(math.log(row["ratio"])) for row in marks]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in marks)
    with pytest.raises(UnsupportedError, match="no figure"):
        figure_of({**document, "comparisons": []})


@pytest.mark.parametrize("factor", [2.0, 100.0])
def test_a_device_that_is_far_slower_does_not_hide_the_others(documents, factor: float) -> None:
    answers = [one for one in documents["rigwise.compare/1"]["results"] if "step_time_s" in one][:1]
    slow = {name: factor * value for name, value in answers[0]["step_time_s"].items()}
    answers.append({**answers[0], "device": "slow", "step_time_s": slow})
    bars = [row for row in rows(figure_of({"schema": "rigwise.compare/1", "results": answers})) if "limit" in row]
    ends = [max(row["to"] for row in bars if row["name"] == name) for name in (answers[0]["device"], "slow")]
    assert ends[1] / ends[0] == pytest.approx(factor if factor < 20 else 1.0)


def test_words_in_a_page_have_the_colour_of_its_paper(documents) -> None:
    drawn = svg(bare(figure_of(documents["rigwise.compare/1"])))
    assert f"var(--paper,{PAPER})" in drawn
    assert STRONG not in drawn


@pytest.mark.parametrize("arguments", [["examples/camera-detectors/app.toml"]])
def test_plans_of_other_kinds_are_drawn(tmp_path, arguments) -> None:
    paths = [str(Path(__file__).parents[1] / word) for word in arguments]
    result = run("plan", *paths, "--quiet", "--plot", str(tmp_path / "x.svg"))
    assert result.exit_code == 0, result.exception
    assert "busy" in (tmp_path / "x.svg").read_text("utf-8")
