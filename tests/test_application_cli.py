"""``rigwise plan app.toml`` and ``show app.toml``: text, documents, drawings, proofs and exit codes."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import main
from rigwise.report.layers import layered

APP = """
[application]
flow = ["camera -> split", "split.left -> find -> join.found", "split.right -> join.rest", "join -> store"]
[place.edge]
cores = 2
usd_per_h = 0.1
[place.cpu]
cores = 8
usd_per_h = 1
[place.gpu]
device = "t4"
host = "cpu"
[[link]]
between = ["edge", "cpu"]
bytes_per_s = "10MB/s"
latency = "1ms"
[component.camera]
rate = "30/s"
outputs = { frame = { bytes = "200kB" } }
on = "edge"
cost.edge = { time = "1ms" }
[component.split]
inputs = { frame = "frame" }
outputs = { left = { type = "half", bytes = "100kB" }, right = { type = "half", bytes = "100kB" } }
cost.edge = { time = "5ms" }
cost.cpu = { time = "2ms" }
[component.find]
inputs = { half = "half" }
outputs = { found = { bytes = 100 } }
model = { name = "resnet18", dtype = "fp16" }
cost.edge = { time = "60ms" }
[component.join]
inputs = { found = "found", rest = "half" }
outputs = { event = { bytes = 10 } }
cost.edge = { time = "10us" }
cost.cpu = { time = "10us" }
[component.store]
inputs = { event = "event" }
cost.cpu = { time = "10us" }
"""


@pytest.fixture
def app(tmp_path) -> Path:
    file = tmp_path / "app.toml"
    file.write_text(APP)
    return file


def run(*arguments: object):
    """Output, error line and exit code of the command line."""
    import io
    import sys
    from contextlib import redirect_stderr

    errors = io.StringIO()
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    kept = sys.stdout
    sys.stdout = out
    try:
        with redirect_stderr(errors), pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
    finally:
        sys.stdout = kept
    out.flush()
    return out.buffer.getvalue().decode(), errors.getvalue(), stop.value.code


def test_the_answer_fits_eighty_columns_and_says_what_matters(app: Path) -> None:
    text, errors, code = run("plan", app)
    assert (errors, code) == ("", 0)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("throughput", "could carry", "latency", "bottleneck", "cost", "moving one component", "certificate"):
        assert word in text
    assert "find to edge" in text
    assert "piles up" in text


def test_the_document_is_documented_and_holds_what_is_printed(app: Path) -> None:
    text, _, code = run("plan", app, "--json")
    document = json.loads(text)
    assert (code, document["schema"]) == (0, "rigwise.application/1")
    reference = (Path(__file__).parents[1] / "docs" / "reference" / "json.md").read_text("utf-8")
    keys = {*document, *document["placements"][0], *document["moves"][0], *document["services"]["find"]["gpu"]}
    keys |= {*document["placements"][0]["path"][0], *document["certificate"]}
    assert [key for key in sorted(keys) if f"`{key}`" not in reference] == []
    first = document["placements"][0]
    assert set(first["placement"]) == {"camera", "split", "find", "join", "store"}
    assert first["throughput_per_s"]["p50"] == 30


@pytest.mark.parametrize("best", ["throughput", "latency", "cost"])
def test_a_plan_is_proven_again(app: Path, best: str, tmp_path) -> None:
    file = tmp_path / "plan.json"
    _, errors, code = run("plan", app, "--minimize", best, "--top", 2, "--output", file, "--quiet")
    assert (errors, code) == ("", 0)
    text, _, code = run("plan", "verify", file)
    assert code == 0
    assert "the certificate holds for all" in text
    document = json.loads(file.read_text())
    assert document["optimize"] == best
    assert len(document["placements"]) == 2


def tamper(document: dict, how: str) -> None:
    first, certificate = document["placements"][0], document["certificate"]
    tampered = {
        "placement": lambda: first["placement"].update(find="edge" if first["placement"]["find"] != "edge" else "gpu"),
        "throughput": lambda: first["throughput_per_s"].update(p50=31.0),
        "no latency": lambda: first.pop("latency_s"),
        "best": lambda: certificate.update(best=certificate["best"] * 0.5, lower_bound=certificate["best"] * 0.5),
        "cover": certificate["cover"].pop,
        "cost": lambda: document["application"]["component"]["split"]["cost"]["edge"].update(time="1us"),
        "order": document["placements"].reverse,
    }
    tampered[how]()


@pytest.mark.parametrize("how", ["placement", "throughput", "no latency", "best", "cover", "cost", "order"])
def test_a_plan_that_was_tampered_with_is_refused(app: Path, how: str, tmp_path) -> None:
    file = tmp_path / "plan.json"
    run("plan", app, "--minimize", "latency", "--output", file, "--quiet")
    document = json.loads(file.read_text())
    tamper(document, how)
    file.write_text(json.dumps(document))
    text, errors, code = run("plan", "verify", file)
    assert code == 1, errors
    assert text.strip()


def test_a_document_does_not_run_code(app: Path, tmp_path) -> None:
    file = tmp_path / "plan.json"
    run("plan", app, "--output", file, "--quiet")
    document = json.loads(file.read_text())
    document["application"]["component"]["find"]["model"]["name"] = "os.path:join"
    file.write_text(json.dumps(document))
    _, errors, code = run("plan", "verify", file)
    assert code == 2
    assert "component.find is code to run" in errors


@pytest.mark.parametrize("cut", ["placements", "certificate", "application", "weights"])
def test_half_a_document_is_refused(app: Path, cut: str, tmp_path) -> None:
    file = tmp_path / "plan.json"
    run("plan", app, "--output", file, "--quiet")
    document = json.loads(file.read_text())
    del document[cut]
    file.write_text(json.dumps(document))
    _, errors, code = run("plan", "verify", file)
    assert code == 2
    assert errors.count("\n") == 1


def test_what_cannot_be_kept_is_said_with_exit_code_1(app: Path) -> None:
    app.write_text(APP.replace('"30/s"', '"3000/s"'))
    text, errors, code = run("plan", app, "--minimize", "cost", "--json")
    assert code == 1
    assert json.loads(text)["infeasible"]["type"] == "InfeasibleError"
    assert errors.count("\n") == 1
    assert "no placement keeps up with 3.00 k items/s; the quickest carries" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--deadline", "3h"], "--deadline means nothing for the application"),
        (["--provider", "aws"], "--provider means nothing for the application"),
        (["--own", "mine.toml"], "--own means nothing for the application"),
        (["--minimize", "energy"], "optimize is 'energy'"),
        (["--top", "0"], "objective.top is 0"),
        (["--output", "/nowhere/plan.json"], "/nowhere/plan.json cannot be written"),
    ],
)
def test_flags_that_mean_nothing(app: Path, arguments: list[str], words: str) -> None:
    _, errors, code = run("plan", app, *arguments)
    assert code == 2
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("flag", [["--device", "t4"], ["--depth", "2"], ["--batch", "8"]])
def test_flags_of_models_mean_nothing_to_show(app: Path, flag: list[str]) -> None:
    _, errors, code = run("show", app, *flag)
    assert code == 2
    assert f"{flag[0]} means nothing for the application" in errors


def test_show_draws_one_row_for_each_component_and_edge(app: Path) -> None:
    text, errors, code = run("show", app)
    assert (errors, code) == ("", 0)
    assert max(map(len, text.splitlines())) <= 80
    for component in ("camera", "split", "find", "join", "store"):
        assert len(re.findall(rf"^ .*[●◆].* {component} ", text, re.MULTILINE)) == 1
    assert sum("▾" in line or ("◆" in line and "/s, " in line) for line in text.splitlines()) >= 5
    assert "├─┐" in text
    assert "├─┘" in text


def test_lanes_part_pass_and_meet(app: Path) -> None:
    """One item to four; the first two meet while the others pass."""
    flow = [f"a -> {x}" for x in "bcde"] + ["b -> f.x", "d -> f.y", "c -> g.x", "e -> g.y"]
    tables = [f"[application]\nflow = {json.dumps(flow)}\n[place.p]\ncores = 1"]
    for name in "abcdefg":
        inputs = {"a": "", "f": '{ x = "x", y = "x" }', "g": '{ x = "x", y = "x" }'}.get(name, '{ x = "x" }')
        tables += [f"[component.{name}]\ncost.p = {{ time = 1 }}", f"inputs = {inputs}" if inputs else ""]
        tables += ["" if name in "fg" else "outputs = { x = { bytes = 1 } }"]
    app.write_text("\n".join(tables))
    text, errors, _ = run("show", app, "--quiet")
    assert errors == ""
    assert [line.strip() for line in text.splitlines() if set(line) <= set(" │├─┬┐┴┘┼") and line.strip()] == [
        "├─┬─┬─┐",
        "├─┼─┘ │",
        "├───┘",
    ]


def test_drawings_are_files_that_other_programs_read(app: Path, tmp_path) -> None:
    dot, page = tmp_path / "app.dot", tmp_path / "app.html"
    _, _, code = run("show", app, "--dot", dot, "--html", page, "--quiet")
    assert code == 0
    text = dot.read_text()
    assert text.count(" -> ") - text.count("n-> ") >= 5
    assert text.count("{") == text.count("}")
    if shutil.which("dot"):
        assert subprocess.run(["dot", "-Tsvg", dot], capture_output=True, check=True).stdout
    assert balanced(page.read_text()) == []


def balanced(text: str) -> list[str]:
    """Elements that are not closed in order."""
    faults: list[str] = []

    class Reader(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            if not self.open or self.open.pop() != tag:
                faults.append(tag)

    reader = Reader()
    reader.open = []
    reader.feed(text)
    return faults + reader.open


def test_the_page_loads_nothing_and_escapes_everything(app: Path, tmp_path) -> None:
    app.write_text(APP.replace("[application]", '[application]\nname = "<script>alert(1)</script>"'))
    page = tmp_path / "app.html"
    _, errors, code = run("plan", app, "--report", page, "--quiet")
    assert (errors, code) == ("", 0)
    text = page.read_text()
    assert "<script" not in text
    assert re.findall(r'(?:src|href|url\()\s*=?\s*["\']?http', text.replace("http://www.w3.org/2000/svg", "")) == []
    assert "prefers-color-scheme: dark" in text
    assert text.count("<rect") >= 5 * 4


def test_quotes_in_names_do_not_leave_a_label(app: Path, tmp_path) -> None:
    app.write_text(APP.replace("[application]", "[application]\nname = 'a\"b\\'"))
    dot = tmp_path / "app.dot"
    run("show", app, "--dot", dot, "--quiet")
    assert r'label="a\"b\\"' in dot.read_text()


def test_a_bad_file_is_one_line_and_exit_code_2(app: Path) -> None:
    for command in ("plan", "show"):
        app.write_text(APP.replace('on = "edge"', 'on = "egde"'))
        _, errors, code = run(command, app)
        assert code == 2
        assert errors == f"rigwise: {app}: component.camera.on is the unknown place 'egde'; did you mean edge?\n"


def test_an_application_without_components_is_not_taken_for_a_job(app: Path) -> None:
    app.write_text("[application]\n")
    for command in ("plan", "show"):
        _, errors, code = run(command, app)
        assert (code, errors) == (2, f"rigwise: {app}: application: flow is missing\n")


def test_other_toml_files_are_still_jobs(tmp_path) -> None:
    job = tmp_path / "job.toml"
    job.write_text("[workload]\nmodel = 'resnet50'\n")
    result = CliRunner().invoke(__import__("rigwise.cli.plan", fromlist=["command"]).command, [str(job)])
    assert "no amount of work" in str(result.exception)


def test_layers_hold_every_box_once_and_edges_lead_to_the_right() -> None:
    names, edges = ["a", "b", "c", "d", "e"], [("a", "b"), ("b", "c"), ("a", "d"), ("d", "e"), ("c", "e"), ("a", "e")]
    at = layered(names, edges)
    assert all(at[a][0] < at[b][0] for a, b in edges)
    assert len(set(at.values())) == len(at)
    assert {("a", "e", 1), ("a", "e", 2), ("d", "e", 2)} <= set(at)
