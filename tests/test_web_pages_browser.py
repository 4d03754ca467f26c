"""The pages in Chromium: at desktop and phone size, by keyboard alone, with axe, and nothing from anywhere else."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

pytest.importorskip("fastapi")
api = pytest.importorskip("playwright.sync_api")

from rigwise.graph.load import zoo_path  # noqa: E402  what the tests need may be absent
from rigwise.web.planning import SERVING, STAGES  # noqa: E402

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}; CHROMIUM names one")

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = {
    "plan": "/?model=resnet50&amount=1M&unit=samples&device=t4&deadline=7d",
    "serving": f"/?{urlencode({**SERVING, 'device': 'l40s'})}",
    "jobs": f"/?{urlencode({'job': STAGES})}",
    "compare": "/compare",
    "predict": "/predict",
    "catalogue": "/catalogue",
    "offers": "/catalogue?table=offers",
    "device": "/catalogue/h100-sxm5-80gb",
    "machine": "/machine",
    "measured": "/measured",
}
MEASURES = runpy.run_path(str(Path(__file__).parents[1] / "tools/page_measures.py"))
FIGURES, SHIFT = MEASURES["FIGURES"], MEASURES["SHIFT"]
#: A slow line and a slow processor, on which a page can be watched while it comes.
SLOW_LINE = {"offline": False, "latency": 50, "downloadThroughput": 40_000, "uploadThroughput": 40_000}
SLOW_PROCESSOR = {"rate": 4}
#: Bytes that a page and all that it loads may take.
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server as people start it."""
    environment = {**os.environ, "RIGWISE_STORE": str(tmp_path_factory.mktemp("store") / "none.sqlite")}
    command = [sys.executable, "-m", "rigwise", "serve", "--port", "0", "--workers", "1", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield process.stdout.readline().strip().rstrip("/")
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


class Visit:
    """A page, what it printed, and where it sent requests."""

    def __init__(self, browser: Any, address: str, size: str = "desktop", **more: Any) -> None:
        self.context = browser.new_context(viewport=SIZES[size], **more)
        self.page = self.context.new_page()
        self.printed: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: self.printed.append(message.text))
        self.page.on("pageerror", lambda error: self.printed.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))
        self.address = address

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def open(self, path: str) -> Any:
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("networkidle")
        return self.page


@pytest.fixture
def visit(browser, address):
    opened = []

    def go(size: str = "desktop", **more: Any) -> Visit:
        opened.append(Visit(browser, address, size, **more))
        return opened[-1]

    yield go
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_light_still_and_as_wide_as_the_screen(visit, name, size):
    seen = visit(size)
    page = seen.open(PAGES[name])
    figures = page.evaluate(FIGURES)
    assert seen.printed == []
    assert seen.hosts == {"127.0.0.1"}
    assert figures["wider"] == 0
    assert figures["bytes"] < MOST_BYTES
    assert page.evaluate(SHIFT) < 0.01


@pytest.mark.parametrize("name", ["catalogue", "offers"])
def test_nothing_moves_while_a_long_table_comes_slowly(visit, name):
    seen = visit()
    line = seen.context.new_cdp_session(seen.page)
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", SLOW_LINE)
    line.send("Emulation.setCPUThrottlingRate", SLOW_PROCESSOR)
    assert seen.open(PAGES[name]).evaluate(SHIFT) == 0


def axe_file() -> Path | None:
    """The checks of axe-core: the file that AXE names, or that of the package that carries them."""
    found = find_spec("axe_playwright_python")
    usual = Path(found.origin).with_name("axe.min.js") if found and found.origin else Path("axe.min.js")
    file = Path(os.environ.get("AXE", usual))
    return file if file.exists() else None


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing_serious(visit, size, scheme):
    axe = axe_file()
    if axe is None:
        pytest.skip("there is no axe: pip install axe-playwright-python, or AXE names axe.min.js")
    seen = visit(size, color_scheme=scheme)
    found = []
    wrong = "/?model=resnet50&amount=1M&unit=samples&deadline=soon"
    for name, path in {**PAGES, "wrong": wrong}.items():
        page = seen.open(path)
        page.evaluate(axe.read_text(encoding="utf-8"))
        violations = page.evaluate("axe.run()")["violations"]
        found += [
            (name, one["id"], one["nodes"][0]["html"]) for one in violations if one["impact"] in ("serious", "critical")
        ]
    assert found == []


def tab_to(page: Any, identifier: str, most: int = 60) -> None:
    """Go on with the Tab key until an element has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == identifier:
            return
    raise AssertionError(f"the Tab key does not reach {identifier}")


def test_the_plan_can_be_asked_for_by_keyboard_alone(visit):
    seen = visit()
    page = seen.open(PAGES["plan"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(page, "f-deadline")
    page.keyboard.press("Control+A")
    page.keyboard.type("14d")
    before = page.locator("#answer .says").inner_text()
    with page.expect_response(lambda reply: "deadline=14d" in reply.url) as reply:
        page.keyboard.press("Enter")
    assert reply.value.status == 200
    page.wait_for_url("**deadline=14d**")
    assert page.evaluate("document.activeElement.id") == "f-deadline"
    assert page.locator("#answer .says").inner_text().startswith("Rent")
    assert before.startswith("Rent")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    assert seen.printed == []


def test_a_slider_moves_the_picture_and_keeps_the_focus(visit):
    seen = visit()
    page = seen.open("/?model=resnet50&amount=128M&unit=samples&deadline=12h")
    slider = page.get_by_label("Deadline, slider")
    before = page.locator("#answer figure .for-wide").inner_html()
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1d"
    assert page.locator("#f-deadline").input_value() == "1d"
    page.wait_for_url("**deadline=1d**")
    page.wait_for_function("document.querySelector('#status').textContent.startsWith('Rent')")
    assert page.locator("#answer figure .for-wide").inner_html() != before
    assert page.evaluate("document.activeElement.type") == "range"
    page.keyboard.press("End")
    page.wait_for_url(lambda url: "deadline" not in url)
    assert slider.get_attribute("aria-valuetext") == "no limit"
    assert seen.printed == []


def test_the_same_address_shows_the_same_page_to_somebody_else(visit):
    seen = visit()
    page = seen.open(PAGES["plan"])
    page.locator("#f-budget").fill("$200")
    page.keyboard.press("Tab")
    page.wait_for_url("**budget=%24200**")
    page.wait_for_function("document.querySelector('#answer').getAttribute('aria-busy') === null")
    shared = urlsplit(page.url)
    other = visit("desktop", java_script_enabled=False).open(f"{shared.path}?{shared.query}")
    assert other.locator("#answer").inner_html() == page.locator("#answer").inner_html()


def test_a_page_works_without_a_script(visit):
    page = visit("phone", java_script_enabled=False).open(PAGES["predict"])
    page.locator("#f-batch").fill("8")
    page.get_by_role("button", name="Predict").click()
    page.wait_for_url("**batch=8**")
    assert page.locator("#answer .says").inner_text().startswith("A step takes")


def test_a_fault_is_shown_at_its_field_and_told(visit):
    seen = visit()
    page = seen.open(PAGES["plan"])
    page.locator("#f-batch").fill("1.5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-batch[aria-invalid]")
    assert "1.5" in page.locator("#wrong-batch").inner_text()
    assert "1.5" in page.locator("#status").inner_text()
    page.locator("#f-batch").fill("32")
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-batch:not([aria-invalid])")
    assert page.locator("#wrong-batch").inner_text() == ""
    assert page.locator("#answer .says").count() == 1


def test_a_slow_answer_says_that_it_is_worked_on_and_the_last_question_counts(visit):
    seen = visit()
    page = seen.open(PAGES["plan"])
    held: list[Any] = []  # a question that is never answered
    page.route("**/?**deadline=2d**", lambda route: held.append(route))  # noqa: PLW0108  a builtin is no handler
    page.locator("#f-deadline").fill("2d")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.shown")
    assert page.locator("#status").inner_text() == "Working\N{HORIZONTAL ELLIPSIS}"
    assert page.locator("#answer").get_attribute("aria-busy") == "true"
    page.locator("#f-deadline").fill("3d")
    page.keyboard.press("Enter")
    page.wait_for_url("**deadline=3d**")
    page.wait_for_selector("#answer:not([aria-busy])")
    assert len(held) == 1
    assert "--deadline 3d" in page.locator("#answer code").inner_text()
    page.unroute_all(behavior="ignoreErrors")


def test_going_back_shows_the_answer_before(visit):
    page = visit().open(PAGES["plan"])
    page.locator("#f-deadline").fill("3d")
    page.keyboard.press("Enter")
    page.wait_for_url("**deadline=3d**")
    page.go_back()
    page.wait_for_url("**deadline=7d**")
    page.wait_for_function("document.querySelector('#answer code').textContent.includes('--deadline 7d')")
    assert page.locator("#f-deadline").input_value() == "7d"


def test_a_model_of_ones_own(visit):
    seen = visit()
    page = seen.open("/compare?model=resnet50&device=t4,l4&batch=2")
    page.get_by_text("A model of your own").click()
    name, content = "mine.rwg", zoo_path("alexnet").read_bytes()
    page.locator("#f-file").set_input_files({"name": name, "mimeType": "application/json", "buffer": content})
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**model=upload-**")
    assert "is the quickest" in page.locator("#answer .says").inner_text()
    assert page.locator("#f-model option:checked").inner_text() == "your file"
    assert page.locator("#f-device").input_value() == "t4,l4"


def test_a_slider_moves_what_serves(visit):
    seen = visit()
    page = seen.open(PAGES["serving"])
    before = page.locator("#answer figure .for-wide").inner_html()
    slider = page.get_by_label("Requests, slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#f-rate").input_value() == "50/s"
    page.wait_for_url("**rate=50**")
    page.wait_for_function("document.querySelector('#answer code').textContent.includes('--rate 50/s')")
    assert page.locator("#answer figure .for-wide").inner_html() != before
    assert seen.printed == []


def test_jobs_are_written_changed_and_uploaded(visit):
    seen = visit("phone")
    page = seen.open(PAGES["jobs"])
    first = page.get_by_label("Job 1")
    first.fill(STAGES.replace("epochs = 90", "epochs = 9"))
    page.keyboard.press("Tab")
    page.wait_for_url(lambda url: "epochs+%3D+9%0A" in url)
    page.wait_for_function("document.querySelector('#status').textContent.startsWith('2 stages')")
    page.get_by_text("Files of your own").click()
    files = [
        {"name": f"{name}.toml", "mimeType": "application/toml", "buffer": f"[workload]\n{job}".encode()}
        for name, job in (("one", 'model = "alexnet"\nsamples = "1M"'), ("two", "nonsense = 3"))
    ]
    page.locator("#f-file").set_input_files(files)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_selector("text=1 of 2 jobs have a plan")
    assert page.get_by_label("Job 2").input_value().startswith("# two.toml\n[workload]")
    assert seen.printed == []


def test_devices_are_ticked_and_compared(visit):
    page = visit().open("/catalogue?vendor=nvidia&memory=%3E%3D141GB")
    page.get_by_label("Compare h200-nvl").check()
    page.get_by_label("Compare b200", exact=True).check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?**")
    assert page.locator("#answer tbody tr").count() == 2
