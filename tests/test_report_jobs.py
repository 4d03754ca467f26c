"""Reports of several jobs, of stages and of a prediction; words of a limit in the plan's figure."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.cli.main import root as command_line
from rigwise.errors import InvalidInputError
from rigwise.report.figures.label import Plane, along, at_an_end, word_box
from rigwise.report.figures.plan import limit_places
from rigwise.report.jobs_page import jobs_page
from rigwise.report.shared_page import shared_page
from rigwise.report.staged_page import staged_page

pytest.importorskip("altair", reason="extra plot")
pytest.importorskip("vl_convert", reason="extra plot")

check_page = runpy.run_path(str(Path(__file__).with_name("page_parser.py")))["check_page"]
HOSTILE = "<script>alert(1)</script>&\"'"
OWN = '[[market.owned]]\nname = "desk"\ndevice = "rtx-3090"\nusd_per_h = 0.01\n'
JOB = '[workload]\nmodel = "{}"\nsamples = "10M"\nbatch = 64\n[market]\ndevices = ["t4", "rtx-3090"]\n' + OWN
STAGES = """
market.devices = ["t4"]
[[stage]]
name = "first"
model = "alexnet"
samples = "1M"
[[stage]]
name = "second"
model = "resnet18"
samples = "2M"
"""


def run(*arguments: str):
    return CliRunner().invoke(command_line, list(arguments), standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Job files."""
    place = tmp_path_factory.mktemp("jobs")
    for name in ("alexnet", "resnet18"):
        (place / f"{name}.toml").write_text(JOB.format(name))
    (place / "stages.toml").write_text(STAGES)
    (place / "wrong.toml").write_text("nonsense = 3")
    return place


def planned(folder: Path, names: list[str], *flags: str) -> tuple[str, dict]:
    """The page and the document of some of the jobs."""
    files = [str(folder / f"{name}.toml") for name in names]
    result = run("plan", *files, *flags, "--json", "--quiet", "--report", str(folder / "page.html"))
    assert result.exit_code in (0, 1), result.exception
    return (folder / "page.html").read_text("utf-8"), json.loads(result.stdout)


@pytest.fixture(scope="module")
def shared(folder) -> tuple[str, dict]:
    return planned(folder, ["alexnet", "resnet18"], "--share", "--deadline", "30d")


@pytest.fixture(scope="module")
def several(folder) -> tuple[str, dict]:
    return planned(folder, ["alexnet", "wrong", "stages"])


def test_jobs_that_share_say_where_and_when_each_runs(shared) -> None:
    page, document = shared
    read = check_page(page)
    assert "2 jobs: " in page[page.index("<h1>") : page.index("</h1>")]
    for one in document["plans"]:
        assert one["name"].rpartition("/")[2] in read.words
        assert (one["machine"] or "rented: ") in read.words
        assert f"price of {one['name']}".rpartition("/")[2] in read.words or one["machine"]
    assert "all within 30.0 d" in read.words
    for heading in ("The jobs", "Good to know", "Certificate", "What this rests on"):
        assert heading in read.words
    assert "NVIDIA" in read.words


def test_jobs_side_by_side_have_a_page_and_one_that_is_none_says_why(several) -> None:
    page, document = several
    read = check_page(page)
    assert "2 of 3 jobs have a plan" in page[page.index("<h1>") : page.index("</h1>")]
    assert document["results"][1]["error"]["message"].rpartition("/")[2] in read.words
    assert "price of stages.toml, first" in read.words
    assert "Without a plan" in read.words
    assert "alexnet.toml: " in read.words  # what was assumed


def test_no_job_with_a_plan_is_a_page_as_well() -> None:
    error = {"type": "InvalidInputError", "message": "it is none", "hint": "write one"}
    read = check_page(jobs_page({"schema": "rigwise.plans/1", "results": [{"file": "a.toml", "error": error}]}))
    assert "0 of 1 jobs have a plan" in read.words
    assert "it is none" in read.words


def hostile(document: dict, *keys: str) -> dict:
    """The document with some of its words replaced wherever they stand."""
    if isinstance(document, dict):
        return {k: HOSTILE if k in keys and v else hostile(v, *keys) for k, v in document.items()}
    return [hostile(one, *keys) for one in document] if isinstance(document, list) else document


def test_no_name_becomes_markup(shared, several) -> None:
    keys = ("name", "machine", "instance", "provider", "file", "message", "hint")
    page = shared_page(hostile({**shared[1], "machines": [HOSTILE]}, *keys), command=HOSTILE)
    assert HOSTILE in check_page(page).words
    assert HOSTILE in check_page(jobs_page(hostile(several[1], *keys), command=HOSTILE)).words


def test_a_plan_of_stages_lists_its_sources(several) -> None:
    document = several[1]["results"][2]
    words = check_page(staged_page(document)).words
    day = document["stages"][0]["plan"]["price_date"]
    assert f"price of first, {day}" in words
    assert "price of second" in words
    assert "t4" in words
    assert "constants" in words


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (["resnet18", "--device", "t4", "--batch", "8"], "t4: "),
        (["llama-3.1-8b", "--device", "rtx-3090", "--batch", "8"], "It does not fit rtx-3090"),
        (["gpt2", "--device", "l4", "--task", "decode"], "l4: "),
    ],
)
def test_a_prediction_has_a_page(tmp_path, case: list[str], said: str) -> None:
    result = run("predict", *case, "--json", "--report", str(tmp_path / "x.html"))
    assert result.exit_code == 0, result.exception
    page, document = (tmp_path / "x.html").read_text("utf-8"), json.loads(result.stdout)
    read = check_page(page)
    assert said in page[page.index("<h1>") : page.index("</h1>")]
    for kind in document["by_kind"]:
        assert kind["kind"] in read.words
    for words in (
        *document["assumed"],
        "Roofline",
        "Memory over the step",
        "Memory of the fullest device",
        "To repeat it",
        "constants",
    ):
        assert words in read.words
    assert ("For rent" in read.words) == document["fits"]


@pytest.mark.parametrize("explain", ["memory", "serving", "scaling"])
def test_a_longer_answer_has_no_page(tmp_path, explain: str) -> None:
    result = run("predict", "gpt2", "--device", "t4", "--explain", explain, "--report", str(tmp_path / "x.html"))
    assert isinstance(result.exception, InvalidInputError)
    assert f"--report cannot show --explain {explain}" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


PLANE = Plane(x_range=(1, 1000), y_range=(1, 1000), width_px=400, height_px=300)


def overlap(one, other) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@settings(max_examples=100, deadline=None)
@given(limits=st.tuples(st.floats(5, 200), st.floats(5, 200)))
def test_words_of_limits_cover_neither_each_other_nor_their_lines(limits) -> None:
    near = [
        {"quantity": "time_s", "time_s": limits[0], "text": "deadline 3 h"},
        {"quantity": "cost_usd", "cost_usd": limits[1], "text": "budget $100"},
    ]
    places = limit_places(near, PLANE, [])
    boxes = [word_box(end, place, limit["text"]) for limit, end, place in places]
    assert not overlap(*boxes)
    lines = [[(x, 0.0), (x, 300.0)] if y is None else [(0.0, y), (400.0, y)] for x, y in levels(limits)]
    for line, box in zip(reversed(lines), boxes, strict=True):
        assert not any(overlap(box, other) for other in along(line, 1))


def levels(limits):
    """Where the lines of a deadline and of a budget stand, in pixels."""
    x, y = PLANE.at(*limits)
    return [(x, None), (None, y)]


def test_a_limit_steps_aside_of_a_point_at_its_usual_place() -> None:
    line = [(0.0, 100.0), (400.0, 100.0)]
    usual, place = at_an_end(line, "budget $100", PLANE, [])
    assert (usual, place.align) == ((0.0, 100.0), "left")
    box = word_box(usual, place, "budget $100")
    moved, other = at_an_end(line, "budget $100", PLANE, [box])
    assert moved == (400.0, 100.0)
    assert not overlap(word_box(moved, other, "budget $100"), box)
    everywhere = along([(200.0, 0.0), (200.0, 300.0)], 200)
    assert at_an_end(line, "budget $100", PLANE, everywhere)[0] in line
