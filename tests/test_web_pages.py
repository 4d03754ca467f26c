"""The pages without a browser: each answers a plain GET, says what is wrong at its field, writes nothing unescaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from starlette.applications import Starlette
from starlette.testclient import TestClient

from rigwise.graph.load import zoo_path
from rigwise.report.figures import theme
from rigwise.web.answers import RefusedError
from rigwise.web.app import create_app
from rigwise.web.form import EXAMPLES, field_of, read
from rigwise.web.pages import PLACES, add_pages
from rigwise.web.picture.frontier import frontier
from rigwise.web.picture.plane import NARROW_PX, WIDE_PX, Scale, fitting, plain_ticks, time_ticks
from rigwise.web.planning import SERVING, STEPS
from rigwise.web.settings import Settings
from rigwise.web.view.catalogue import COLUMNS, FILTERS, SORTS, TABLES
from rigwise.web.view.words import tied

WEB = Path(__file__).parents[1] / "src/rigwise/web"
PAGES = [path for path, _ in PLACES]
#: A plan that takes little to find.
PLAN = "/?model=resnet50&amount=1M&unit=samples&device=t4"


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIGWISE_STORE", str(tmp_path_factory.mktemp("store") / "none.sqlite"))
        with TestClient(create_app(Settings(workers=1)), base_url="http://127.0.0.1:8765") as found:
            yield found


class Checked(HTMLParser):
    """What stands in a page: ids, labels, fields, links; and what the policy of the page would refuse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[tuple[str, str]] = []
        self.places: list[str] = []
        self.refused: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "label":
            self.labelled.add(found["for"])
        if tag in ("input", "select") and found.get("type") != "hidden":
            self.fields.append((found.get("id", ""), found.get("aria-label", "")))
        self.places += [found[name] for name in ("href", "src", "action") if name in found]
        self.refused += [f"{tag} {name}" for name in found if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.refused.append(tag)


@pytest.mark.parametrize(
    "path", [*PAGES, "/catalogue/t4", "/catalogue/epyc-7742", *(f"/catalogue?table={t}" for t in TABLES)]
)
def test_every_page_answers_and_keeps_to_its_own_policy(client, path):
    reply = client.get(path)
    assert reply.status_code == 200
    page = Checked(reply.text)
    assert page.refused == []
    assert [name for name in set(page.ids) if page.ids.count(name) > 1] == []
    assert [name for name, label in page.fields if not label and name not in page.labelled] == []
    assert [place for place in page.places if not place.startswith(("/", "#"))] == []
    assert len(reply.content) < 150_000


def test_a_page_opens_with_an_answer(client):
    for path, word in (("/", "Rent"), ("/compare", "is the quickest"), ("/predict", "A step takes")):
        assert word in client.get(path).text


def test_the_answer_is_that_of_the_api(client):
    document = client.get("/api/v1/plan?model=resnet50&samples=1M&device=t4").json()
    best = document["plans"][0]
    text = client.get(PLAN).text
    assert best["instance"] in text
    assert f"{document['certificate']['candidates']:,} candidates" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"${best['cost_usd']['p50']:.2f}" in text


def test_the_address_holds_the_whole_question(client):
    address = (
        "/?model=resnet50&amount=2M&unit=samples&task=infer&batch=8&device=t4&deadline=2d&budget=%2450&minimize=time"
    )
    first, second = client.get(address).text, client.get(address).text
    assert first == second
    for written in (
        'value="2M"',
        'value="8"',
        'value="2d"',
        'value="$50"',
        "<option selected>infer",
        "<option selected>time",
    ):
        assert written in first


def test_the_command_of_a_page_says_the_same(client):
    text = client.get("/predict?model=gpt2&device=t4&batch=2&seq=128").text
    assert "rigwise predict gpt2 --device t4 --batch 2 --seq 128" in text
    assert 'href="/api/v1/predict?model=gpt2&amp;device=t4&amp;batch=2&amp;seq=128"' in text


@pytest.mark.parametrize(
    ("address", "field", "words"),
    [
        ("/?model=resnet50&amount=lots&unit=samples", "amount", "lots"),
        ("/?model=resnet50&amount=1M&unit=samples&deadline=soon", "deadline", "soon"),
        ("/?model=resnet50&amount=1M&unit=samples&budget=-5", "budget", "-5"),
        ("/?model=resnet50&amount=1M&unit=samples&batch=1.5", "batch", "1.5"),
        ("/?model=resnet50&amount=1M&unit=samples&provider=nobody", "provider", "nobody"),
        ("/?model=resnet50&amount=1M&unit=samples&device=h100", "device", "h100"),
        ("/?model=nonesuch&amount=1M&unit=samples", "model", "nonesuch"),
        ("/predict?model=resnet50&device=t4&batch=0", "batch", "batch is 0"),
        ("/predict?model=resnet50&device=t4&seq=12", "seq", "seq"),
        ("/predict?model=resnet50&device=t4&power-limit=xx", "power-limit", "xx"),
        ("/predict?model=resnet50&device=../../etc/passwd", "device", "passwd"),
        ("/compare?model=resnet50", "device", "device"),
        ("/catalogue?memory=soon", "memory", "soon"),
        ("/measured?since=never", "since", "never"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(client, address, field, words):
    reply = client.get(address)
    assert reply.status_code == 422
    told = re.search(rf'id="wrong-{field}" data-swap>([^<]+)<', reply.text)
    assert told, "nothing is said at the field"
    assert words in told[1]
    assert re.search(rf'name="{field}"[^>]*aria-invalid="true"', reply.text)


def test_no_amount_is_asked_for_and_a_limit_that_cannot_be_kept_is_an_answer(client):
    assert "no amount of work" in client.get("/?model=resnet50&amount=&unit=samples").text
    reply = client.get("/?model=resnet50&amount=1G&unit=samples&device=t4&deadline=30min&max-nodes=1")
    assert reply.status_code == 200
    assert "the deadline is too short" in reply.text


def test_what_somebody_writes_stays_text(client):
    for address in (
        "/?model=<script>x</script>",
        '/predict?model=resnet50&device="><img src=x>',
        "/catalogue/<b>t4",
        "/?<i>=1",
    ):
        text = client.get(address).text
        assert "<script>x" not in text
        assert "<img" not in text
        assert "<b>t4" not in text
        assert "<i>" not in text


def test_a_device_that_is_none_is_not_found(client):
    reply = client.get("/catalogue/rtx-490")
    assert reply.status_code == 404
    assert "rtx-4090" in reply.text


def test_the_catalogue_filters_and_every_key_of_its_form_is_one(client):
    text = client.get("/catalogue?vendor=nvidia&memory=%3E%3D141GB&sort=memory").text
    assert "h200-sxm-141gb" in text
    assert "mi300x" not in text.partition("<table")[2]
    for table, columns in COLUMNS.items():
        keys = {name for name, _, _ in FILTERS[table]} | {"sort"}
        assert all(f'name="{key}"' in client.get(f"/catalogue?table={table}").text for key in keys)
        for sort in SORTS[table]:
            assert client.get(f"/catalogue?table={table}&sort={sort}").status_code == 200
        assert len(columns) >= 5


def test_a_comparison_sorts_by_any_of_its_columns(client):
    def order(sort: str) -> list[str]:
        text = client.get(f"/compare?model=resnet50&device=t4,l4,rtx-4090&batch=8&sort={sort}").text
        return re.findall(r'<th scope="row"><a href="/catalogue/([^"]+)"', text)

    assert order("time") == order("throughput") == ["rtx-4090", "l4", "t4"]
    assert sorted(order("mfu")) == ["l4", "rtx-4090", "t4"]
    assert order("nonsense") == order("time")


def test_a_device_that_cannot_is_named_with_the_reason(client):
    text = client.get("/compare?model=resnet50&device=t4,rtx-4090&dtype=fp8").text
    assert "Cannot do it" in text
    assert "t4 cannot compute fp8" in text


def test_an_upload_becomes_the_model_of_the_page_it_was_sent_from(client):
    file = {"file": ("mine.rwg", zoo_path("alexnet").read_bytes())}
    sent = client.post(
        "/upload", files=file, data={"back": "/predict", "query": "device=t4&batch=4"}, follow_redirects=False
    )
    assert sent.status_code == 303
    place = sent.headers["location"]
    assert place.startswith("/predict?model=upload-")
    text = client.get(place).text
    assert "A step takes" in text
    assert "your file" in text
    elsewhere = {"back": "//elsewhere.example/", "query": ""}
    place = client.post("/upload", files=file, data=elsewhere, follow_redirects=False).headers["location"]
    assert place.startswith("/?model=upload-")


def test_a_file_that_is_no_model_is_refused_on_a_page(client):
    for name, content in (("x.rwg", b"nonsense"), ("x.exe", b"MZ"), ("config.json", b"[]")):
        reply = client.post("/upload", files={"file": (name, content)}, data={"back": "/"})
        assert reply.status_code in (415, 422), name
        assert "cannot be used" in reply.text
    assert client.post("/upload", data={"back": "/"}).status_code in (415, 422)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=12)
KEYS = st.sampled_from(
    ["model", "device", "amount", "unit", "deadline", "budget", "batch", "sort", "table", "kind", "limit", "x"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from([*PAGES, "/catalogue/t4"]), pairs=st.lists(st.tuples(KEYS, TEXT), max_size=4))
@example(path="/", pairs=[("model", "resnet50"), ("amount", "1M"), ("unit", "years")])
@example(path="/catalogue", pairs=[("table", "nothing"), ("limit", "-1")])
@example(path="/compare", pairs=[("sort", "mfu")])
def test_no_query_breaks_a_page(client, path, pairs):
    reply = client.get(path, params=pairs)
    assert reply.status_code in (200, 422)
    assert Checked(reply.text).refused == []


def test_the_examples_and_the_steps_of_the_sliders_are_questions():
    for kind in EXAMPLES:
        form = read(kind, [])
        assert form.asked is not None, form.problem
    for name, steps in STEPS.items():
        asked = SERVING if name in SERVING else {"model": "resnet50", "samples": "1M"}
        for step in steps:
            form = read("plan", list({**asked, name: step}.items()))
            assert form.asked is not None
            assert form.asked.text(name) == step


@given(model=TEXT, amount=TEXT, unit=st.sampled_from(["samples", "tokens", "steps", "epochs", "years"]))
def test_a_form_keeps_what_was_written(model, amount, unit):
    form = read("plan", [("model", model), ("amount", amount), ("unit", unit)])
    assert form.values["model"] == model
    assert form.values["amount"] == (amount if unit != "years" else "")
    assert (form.asked is None) == (form.problem is not None)


def test_a_message_without_a_name_is_about_no_field():
    assert field_of("something else went wrong", {"model": "resnet50"}) == ""
    assert field_of("parallel.zero is 9; ZeRO stages are 0, 1, 2 and 3", {}) == "zero"


POSITIVE = st.floats(1e-6, 1e9)


@given(values=st.lists(POSITIVE, min_size=1, max_size=6), zero=st.booleans())
def test_a_scale_keeps_order_and_holds_what_it_fits(values, zero):
    kept = [*values, 0.0] if zero else values
    scale = fitting(kept, 50, 700)
    places = [scale.at(value) for value in sorted(kept)]
    assert places == sorted(places)
    assert all(50 <= place <= 700 for place in places)
    for ticks in (time_ticks(scale, 6), plain_ticks(scale, 6)):
        assert len(ticks) <= 8
        assert all(scale.start <= tick <= scale.high * 1.0001 for tick in ticks)


def test_a_scale_that_grows_upwards():
    scale = Scale(low=0, high=10, from_px=300, to_px=20)
    assert (scale.at(0), scale.at(10), scale.at(99)) == (300, 20, 20)


def quantiles(middle: float, width: float) -> dict[str, float]:
    return {"p10": middle / width, "p50": middle, "p90": middle * width}


@st.composite
def plan_documents(draw) -> dict:
    """The parts of a plan document that the picture reads; some plans are free."""
    cost = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))

    def plan(rank: int) -> dict:
        width = draw(st.floats(1.0, 3.0))
        money, time = quantiles(draw(cost), width), quantiles(draw(st.floats(1e-2, 1e8)), width)
        named = {"count": rank + 1, "device": "t4", "provider": "somebody", "instance": "", "region": "", "market": ""}
        return {"rank": rank, "cost_usd": money, "time_s": time, **named}

    plans = [plan(rank) for rank in range(1, draw(st.integers(1, 5)) + 1)]
    front = [plans[0], *(plan(0) for _ in range(draw(st.integers(0, 6))))]
    limits = st.one_of(st.none(), st.floats(1e-2, 1e8))
    job = {"deadline_s": draw(limits), "budget_usd": draw(limits)}
    return {"plans": plans, "frontier": front, "job": job}


@settings(max_examples=80, deadline=None)
@given(document=plan_documents(), width_px=st.sampled_from([NARROW_PX, WIDE_PX]))
def test_the_frontier_stays_inside_its_picture(document, width_px):
    drawn = frontier(document, width_px)
    numbers = [float(n) for n in re.findall(r' (?:cx|x1|x2)="([^"]+)"', drawn)]
    assert all(0 <= number <= width_px for number in numbers)
    assert drawn.count('class="pin') == len(document["plans"])
    assert "nan" not in drawn
    assert "inf" not in re.sub(r"<(title|text)[^>]*>[^<]*|aria-label=\"[^\"]*\"", "", drawn)


def test_the_colours_are_those_of_the_figures():
    style = (WEB / "static/style.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    for name in ("blue", "vermillion", "green", "purple", "grey", "orange", "sky"):
        assert f"--{name}: {theme.PALETTE[name]}" in light
    for name, colour in theme.PALETTE.items():
        assert colour not in theme.DARK or f"--{name}: {theme.DARK[colour]}" in dark


def test_nothing_of_the_pages_is_from_elsewhere():
    for file in (*(WEB / "static").iterdir(), *(WEB / "templates").iterdir()):
        text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|//cdn", text), file.name


def test_a_number_keeps_its_unit_and_json_stays_as_it_is():
    assert tied("1.39 h quicker, 20 % less") == "1.39\N{NO-BREAK SPACE}h quicker, 20\N{NO-BREAK SPACE}% less"
    assert json.loads(json.dumps(STEPS))["budget"][-1] == ""


def test_a_busy_server_says_so_on_the_page_and_when_to_ask_again():
    class Busy:
        async def plan(self, asked):
            raise RefusedError({"type": "BusyError", "message": "too many are asking", "hint": ""}, status=503)

    app = Starlette()
    add_pages(app, Busy())
    reply = TestClient(app).get(PLAN)
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) > 0
    assert "too many are asking" in reply.text
