"""The plan page and its charts: the answer is on it, nothing leaves it, and nothing in the document can break it."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import root as command_line
from rigwise.errors import MissingExtraError
from rigwise.report.evidence import with_evidence
from rigwise.report.figures import plan as plots
from rigwise.report.figures.save import svg
from rigwise.report.figures.theme import BLUE, INK
from rigwise.report.plan_page import plan_page

COMMAND = "rigwise plan job.toml --budget '$100'"
Page = runpy.run_path(str(Path(__file__).with_name("page_parser.py")))["Page"]
HOSTILE = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def recorded() -> dict:
    """What ``rigwise plan --json`` printed for a LoRA fine-tune of Llama 3.1 8B, without the cover."""
    return json.loads((Path(__file__).parent / "data" / "plan.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def document(recorded) -> dict:
    return with_evidence(recorded)


@pytest.fixture(scope="module")
def page(document) -> str:
    return plan_page(document, command=COMMAND)


def test_the_page_is_well_formed_and_starts_with_the_answer(page, document) -> None:
    read = Page(page)
    best = document["plans"][0]
    heading = page[page.index("<h1>") : page.index("</h1>")]
    assert f"{best['count']} x {best['device']}" in heading
    assert best["provider"] in heading
    assert read.words.index(best["device"]) < read.words.index("Certificate")


def test_the_page_refers_to_nothing_outside(page) -> None:
    read = Page(page)
    assert {tag for tag, _ in read.elements} & {"script", "link", "img", "iframe", "object", "form", "base"} == set()
    attributes = {name for _, found in read.elements for name in found}
    assert not {name for name in attributes if name in ("src", "href", "srcset") or name.startswith("on")}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", page)


def test_every_part_is_on_the_page(page, document) -> None:
    words = Page(page).words
    reasons = [group["reason"] for group in document["excluded"]]
    advice = [sentence for sentence in document["advice"] if not sentence.startswith("assumed: ")]
    for sentence in (*document["plans"][0]["why"], *advice, *document["assumed"], *reasons, COMMAND):
        assert sentence in words
    for plan in document["plans"]:
        assert plan["instance"] in words
        assert plan["price_date"] in words
        assert f"price of plan {plan['rank']}, {plan['price_date']}" in words
    for count in (document["certificate"]["candidates"], *document["certificate"]["pruned"].values()):
        assert f"{count:,}" in words


def hostile(value):
    """The document with every free text replaced."""
    fixed = ("schema", "objective", "kind", "unit", "task", "recompute", "dtype", "mode", "schedule")
    if isinstance(value, dict):
        return {key: item if key in fixed else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_text_from_the_document_cannot_become_markup(document) -> None:
    html = plan_page({**hostile(document), "job": document["job"]}, command=HOSTILE)
    read = Page(html)
    assert "script" not in {tag for tag, _ in read.elements}
    assert HOSTILE in read.words


def test_equal_documents_give_equal_pages(page, document) -> None:
    assert plan_page(document, command=COMMAND) == page


def test_each_figure_is_drawn_for_a_wide_and_a_narrow_screen(page) -> None:
    sizes = [
        float(found["viewbox"].split()[2]) for tag, found in Page(page).elements if tag == "svg" and "viewbox" in found
    ]
    assert sizes == [720.0, 350.0] * 4


def test_the_frontier_is_a_staircase_of_all_its_plans(document) -> None:
    spec = plots.cost_against_time(document).to_dict()
    stairs = next(layer for layer in spec["layer"] if layer["mark"].get("interpolate") == "step-after")
    points = spec["datasets"][stairs["data"]["name"]]
    assert [point["time_s"] for point in points] == [plan["time_s"]["p50"] for plan in document["frontier"]]


def test_binding_fractions_add_up_to_the_time_of_each_plan(document) -> None:
    (rows,) = plots.time_by_what_binds(document).to_dict()["datasets"].values()
    for plan in document["plans"]:
        parts = [row["time_s"] for row in rows if row["plan"].startswith(f"{plan['rank']}.")]
        assert sum(parts) == pytest.approx(plan["time_s"]["p50"], rel=1e-3)


def test_limits_are_drawn_where_they_are_near(document) -> None:
    slowest_s = max(plan["time_s"]["p90"] for plan in document["plans"])
    for deadline_s, near in ((slowest_s, True), (1000 * slowest_s, False), (None, False)):
        job = {**document["job"], "deadline_s": deadline_s, "budget_usd": None}
        spec = json.dumps(plots.cost_against_time({**document, "job": job}).to_dict())
        assert ("deadline" in spec) == near
        assert [limit["near"] for limit in plots.limits({**document, "job": job})] == ([near] if deadline_s else [])


def test_a_free_plan_stands_at_zero_beside_dear_ones(document) -> None:
    free = {**document["plans"][0], "cost_usd": {"p10": 0.0, "p50": 0.0, "p90": 0.0}}
    dear = {**document["plans"][1], "cost_usd": {"p10": 900.0, "p50": 1000.0, "p90": 1100.0}}
    spec = plots.cost_against_time({**document, "plans": [free, dear], "frontier": [free]}).to_dict()
    scales = {
        json.dumps(layer["encoding"]["y"]["scale"]) for layer in spec["layer"] if "scale" in layer["encoding"]["y"]
    }
    (scale,) = map(json.loads, scales)
    assert scale["domain"][0] == 0
    assert svg(plots.cost_against_time({**document, "plans": [free, dear], "frontier": [free]}))


@pytest.mark.parametrize("quantity", ["cost_usd", "time_s"])
def test_axes_have_units(document, quantity: str) -> None:
    drawn = svg(plots.intervals(document, quantity))
    assert "US $" in drawn if quantity == "cost_usd" else re.search(r">\d+ (s|min|h|d)<", drawn)


def test_colours_follow_the_page(document) -> None:
    drawn = svg(plots.cost_against_time(document))
    assert INK not in drawn
    assert "currentColor" in drawn
    assert f"var(--blue,{BLUE})" in drawn


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_extra_is_named(document, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"rigwise\[plot\]"):
        plan_page(document)


def test_a_plan_without_limits_energy_or_price_date_has_a_page(document) -> None:
    bare = {"energy_j": None, "price_date": "", "kind": "own"}
    plans = [{**plan, **bare} for plan in document["plans"][:1]]
    job = {**document["job"], "deadline_s": None, "budget_usd": None}
    sparse = {**document, "job": job, "plans": plans, "frontier": plans, "excluded": [], "advice": [], "assumed": []}
    assert "unknown" in Page(plan_page(sparse)).words


def test_the_command_writes_the_page_and_the_document(tmp_path) -> None:
    job = Path(__file__).parents[1] / "examples" / "finetune-llama.toml"
    files = ["--output", str(tmp_path / "plan.json"), "--report", str(tmp_path / "plan.html")]
    result = CliRunner().invoke(command_line, ["plan", str(job), *files, "--quiet"])
    assert result.exit_code == 0, result.output
    answer = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    Page((tmp_path / "plan.html").read_text(encoding="utf-8"))
    assert answer["plans"][0]["device"] in result.stdout


def test_a_missing_extra_leaves_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    arguments = ["plan", "resnet18", "--samples", "1e6", "--device", "t4"]
    files = ["--output", str(tmp_path / "plan.json"), "--report", str(tmp_path / "plan.html")]
    result = CliRunner().invoke(command_line, [*arguments, *files])
    assert isinstance(result.exception, MissingExtraError)
    assert list(tmp_path.iterdir()) == []
