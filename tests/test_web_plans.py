"""Plans that serve, of stages and of several jobs: their pages, the answers as JSON, and what a job may not name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from rigwise.cli.main import root as command_line
from rigwise.graph.load import zoo_path
from rigwise.web.app import create_app
from rigwise.web.guard import LONGEST_QUERY
from rigwise.web.jobs import names_of
from rigwise.web.planning import SERVING, STAGES
from rigwise.web.questions import LONGEST_JOB, MOST_JOBS, asked_by
from rigwise.web.settings import Settings

API = "/api/v1/plan"
JOB = '[workload]\nmodel = "alexnet"\nsamples = "10M"\nbatch = 64\n[market]\ndevices = ["t4", "rtx-3090"]\n'
OWNED = JOB + '[[market.owned]]\nname = "desk"\ndevice = "rtx-3090"\nusd_per_h = 0.01\n'
TIMES = "\N{MULTIPLICATION SIGN}"
SERVE = urlencode({**SERVING, "device": "l40s"})


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIGWISE_STORE", str(tmp_path_factory.mktemp("store") / "none.sqlite"))
        with TestClient(create_app(Settings(workers=1)), base_url="http://127.0.0.1:8765") as found:
            yield found


def of(*jobs: str, **more: str) -> str:
    """The query of job files."""
    return urlencode([*(("job", job) for job in jobs), *more.items()])


def words(page: str) -> str:
    """The visible text of an answer."""
    answer = page[page.index('id="answer"') :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer).replace("&#39;", "'")).replace("\N{NO-BREAK SPACE}", " ")


def without_clock(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: without_clock(value) for key, value in document.items() if key != "wall_s"}
    return [without_clock(value) for value in document] if isinstance(document, list) else document


def typed(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(command_line, ["plan", *arguments, "--json"]).stdout)


def test_a_fleet_that_serves_has_a_page(client) -> None:
    document = client.get(f"{API}?{SERVE}").json()
    best = document["plans"][0]
    page = client.get(f"/?{SERVE}")
    assert page.status_code == 200
    told = words(page.text)
    for said in (f"{best['serving']['replicas']} {TIMES} l40s", "a million tokens", best["provider"], *best["why"]):
        assert said in told
    assert f"of {document['certificate']['candidates']:,} candidates" in told
    assert page.text.count('class="range') == 2 * 3 * len(document["plans"])  # three panels, wide and narrow
    assert "limit 500 ms" in page.text
    assert 'name="task" value="serve"' in page.text
    assert f'href="{API}?{asked_by("plan", SERVE).query.replace("&", "&amp;")}"' in page.text


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [("rate", "fast", "rate"), ("ttft", "500", "ttft"), ("output-tokens", "1.5", "output-tokens"), ("prompt", "", "")],
)
def test_what_is_wrong_with_a_load_is_said_at_its_field(client, key: str, value: str, field: str) -> None:
    reply = client.get("/", params={**SERVING, key: value})
    assert reply.status_code == 422
    assert 'class="problem"' in reply.text
    if field:
        assert re.search(rf'id="wrong-{field}" data-swap>[^<]+<', reply.text)


def test_no_fleet_is_an_answer(client) -> None:
    reply = client.get("/", params={**SERVING, "device": "t4", "ttft": "1ms"})
    assert reply.status_code == 200
    assert 'class="problem"' in reply.text


def test_a_job_file_is_answered_as_in_a_terminal(client, tmp_path) -> None:
    for name, text in (("plain", JOB), ("stages", STAGES)):
        (tmp_path / f"{name}.toml").write_text(text)
        found = client.get(f"{API}?{of(text)}")
        assert found.status_code == 200, found.text
        assert without_clock(found.json()) == without_clock(typed(str(tmp_path / f"{name}.toml")))


def test_the_pages_of_jobs_say_what_their_documents_say(client) -> None:
    staged = client.get(f"{API}?{of(STAGES)}").json()
    told = words(client.get(f"/?{of(STAGES)}").text)
    for stage in staged["stages"]:
        assert f"{stage['plan']['count']} {TIMES} {stage['plan']['device']}" in told
        assert stage["plan"]["provider"] in told
    assert "prototype" in told
    assert "rigwise plan JOB.toml" in told
    assert "Rent" in words(client.get(f"/?{of(JOB)}").text)


def test_jobs_share_the_machines_that_they_own(client) -> None:
    query = of(f"# first.toml\n{OWNED}", OWNED, share="true", deadline="7d")
    document = client.get(f"{API}?{query}").json()
    assert document["schema"] == "rigwise.plan.shared/1"
    assert [one["name"] for one in document["question"]["jobs"]] == ["first.toml", "job 2"]
    assert document["question"]["deadline_s"] == 7 * 86400
    page = client.get(f"/?{query}").text
    told = words(page)
    assert "2 jobs" in told
    for one in document["plans"]:
        assert one["name"] in told
        assert (one["machine"] or "rented") in told
    assert "--share" in told
    assert page.count("c-blue") >= 2


def test_jobs_side_by_side_and_one_that_is_none(client) -> None:
    query = of(JOB, "nonsense = ", f"# tune.toml\n{STAGES}")
    told = words(client.get(f"/?{query}").text)
    assert "2 of 3 jobs have a plan" in told
    assert "job 2 is not TOML" in told
    results = client.get(f"{API}?{query}").json()["results"]
    assert [one["file"] for one in results] == ["job 1", "job 2", "tune.toml"]
    assert results[1]["error"]["type"] == "InvalidInputError"


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (JOB.replace("alexnet", "os:system"), "there is no model 'os:system'"),
        (JOB.replace("alexnet", "/etc/passwd"), "there is no model '/etc/passwd'"),
        (JOB.replace("alexnet", "timm:resnet18"), "there is no model"),
        (JOB.replace("alexnet", "upload-AAAAAAAAAAAAAAAAAAAAAA"), "this upload is gone"),
        (JOB.replace('"t4"', '"/etc/machine.json"'), "is a file, which is not read from here"),
        (OWNED.replace('device = "rtx-3090"', 'device = "secret.json:gpu0"'), "is a file, which is not read from here"),
        (JOB.replace('samples = "10M"', 'until = { curve = "/etc/passwd", loss = 2 }'), "cannot be read from here"),
        (JOB + '[constraints]\nquota = "/etc/passwd"\n', "cannot be read from here"),
        (JOB.replace("batch = 64", "batch = nan"), "workload.batch"),
        (JOB.replace("batch", "bach"), "bach"),
        ("x" * (LONGEST_JOB + 1), "at most 16,000 characters"),
        ("a = 1\x00", "no printable text"),
        ("[" * 5000, "TOML"),
        (f"a = {'9' * 6000}", "TOML"),
        ("a" + ".a" * 5000 + " = 1", ""),
    ],
)
def test_what_a_job_may_not_say_is_refused(client, job: str, said: str) -> None:
    for address in (API, "/"):
        reply = client.get(f"{address}?{of(job)}")
        assert reply.status_code == 422, reply.text[:300]
        assert said in words(f'id="answer"{reply.text}' if address == API else reply.text)
    error = client.get(f"{API}?{of(job)}").json()["error"]
    assert error["field"] == "job"
    assert "\n" not in error["message"] + error["hint"]
    assert 'id="wrong-job" data-swap>' in client.get(f"/?{of(job)}").text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (of(JOB, batch="3"), "batch"),
        (of(JOB, model="alexnet"), "model"),
        (of(JOB, deadline="3d"), "deadline"),
        (of(JOB, share="maybe"), "share"),
        ("share=true&model=alexnet&samples=1e6", "share"),
        (of(OWNED, OWNED, share="true", deadline="soon"), "deadline"),
        (of(OWNED, STAGES, share="true"), "job"),
        (of(*[JOB] * (MOST_JOBS + 1)), "job"),
        ("job=", "model"),
    ],
)
def test_what_jobs_cannot_be_combined_with(client, query: str, field: str) -> None:
    reply = client.get(f"{API}?{query}")
    assert reply.status_code == 422, reply.text[:300]
    assert reply.json()["error"]["field"] == field


def test_a_job_may_be_of_an_uploaded_model(client) -> None:
    sent = client.post("/api/v1/uploads", files={"file": ("mine.rwg", zoo_path("alexnet").read_bytes())})
    name = sent.json()["upload"]
    mine, known = (client.get(f"{API}?{of(text)}").json() for text in (JOB.replace("alexnet", name), JOB))
    assert mine["plans"][0]["time_s"] == known["plans"][0]["time_s"]


def test_uploaded_files_go_into_the_address(client) -> None:
    files = [("file", ("a.toml", JOB)), ("file", ("b.TOML", f"\ufeff{STAGES}")), ("file", ("c d.toml", JOB))]
    sent = client.post("/upload-jobs", files=files, data={"query": "job=old&deadline=3d"}, follow_redirects=False)
    assert sent.status_code == 303
    pairs = parse_qsl(urlsplit(sent.headers["location"]).query)
    assert pairs == [
        ("job", f"# a.toml\n{JOB.strip()}"),
        ("job", STAGES.strip()),
        ("job", JOB.strip()),
        ("deadline", "3d"),
    ]


def test_long_files_lose_their_comments_and_longer_ones_are_refused(client) -> None:
    comments = "".join(f"# line {n} of many that explain the job in the middle\n" for n in range(600))
    sent = client.post("/upload-jobs", files=[("file", ("a.toml", comments + JOB))], follow_redirects=False)
    assert parse_qsl(urlsplit(sent.headers["location"]).query) == [("job", f"# a.toml\n{JOB.strip()}")]
    for files in (
        [("file", ("a.toml", "x = 1\n" * LONGEST_QUERY))],
        [("file", ("a.txt", JOB))],
        [("file", ("a.toml", b"\xff\xfe"))],
        [("file", ("a.toml", ""))],
        [("file", (f"{n}.toml", JOB)) for n in range(MOST_JOBS + 1)],
    ):
        reply = client.post("/upload-jobs", files=files, follow_redirects=False)
        assert reply.status_code in (413, 422), files[0][1][0]
        assert "cannot be used" in reply.text or reply.status_code == 413
    assert client.post("/upload-jobs", data={"query": ""}).status_code == 422


def test_a_page_keeps_what_was_written_as_text(client) -> None:
    text = client.get("/", params={"job": "</textarea><script>x</script>"}).text
    assert "<script>x" not in text
    assert "&lt;/textarea&gt;" in text


@given(
    st.lists(st.sampled_from(["# a.toml\n", "# b.toml\nx", "#a.toml", "x", "# ../a.toml\n", "# a b.toml"]), max_size=8)
)
def test_no_two_jobs_have_one_name(texts: list[str]) -> None:
    names = names_of(texts)
    assert len(set(names)) == len(names) == len(texts)
    assert all("/" not in name for name in names)


def test_a_question_of_jobs_says_its_command() -> None:
    assert asked_by("plan", of(JOB)).command == "rigwise plan JOB.toml"
    several = asked_by("plan", of(JOB, STAGES, share="true", deadline="3d"))
    assert several.command == "rigwise plan JOB-1.toml JOB-2.toml --deadline 3d --share"
    assert asked_by("plan", several.query) == several
