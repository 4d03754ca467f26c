"""What a stranger can send is refused in one line, and the server goes on answering."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from rigwise.errors import InvalidInputError
from rigwise.graph.load import zoo_path
from rigwise.web.app import create_app
from rigwise.web.guard import LONGEST_QUERY, Guard
from rigwise.web.questions import KINDS, fields
from rigwise.web.settings import Settings, check, is_loopback
from rigwise.web.uploads import plain_name

API = "/api/v1"
TOKEN = "correct-horse-battery-staple"
HOST = {"host": "127.0.0.1:8765"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    limits = Settings(workers=1, upload_bytes=300_000, uploads=3)
    with TestClient(create_app(limits), base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as found:
        yield found


def guarded(method: str, path: str, settings: Settings, headers: dict[str, str]) -> Any:
    """What comes back through the guard of an application that answers everything."""

    async def answers_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    client = TestClient(Guard(answers_all, settings), base_url="http://127.0.0.1:8765")  # which never starts or ends
    return client.request(method, path, headers=headers, follow_redirects=False)


# Who asks


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9999", "localhost:8765", "[::1]:8765", "192.0.2.7", "LOCALHOST"]
)
def test_an_address_is_no_stranger(host: str) -> None:
    assert guarded("GET", "/", Settings(), {"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b", "[::1", "127.0.0.1@evil.example"],
)
def test_a_name_that_points_here_is_refused(host: str) -> None:
    assert guarded("GET", "/", Settings(), {"host": host}).status_code == 421


def test_a_name_can_be_allowed() -> None:
    assert guarded("GET", "/", Settings(names=("box.lan",)), {"host": "Box.LAN:8765"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8765", "", "["]
)
def test_another_origin_changes_nothing(origin: str) -> None:
    assert guarded("POST", "/upload", Settings(), {**HOST, "origin": origin}).status_code == 403


def test_its_own_origin_may_upload() -> None:
    assert guarded("POST", "/upload", Settings(), {**HOST, "origin": "http://127.0.0.1:8765"}).status_code == 200
    assert guarded("POST", "/upload", Settings(), HOST).status_code == 200  # no browser


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_link_here_and_no_more(site: str) -> None:
    link = {**HOST, "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert guarded("GET", "/plan?model=gpt2", Settings(), link).status_code == 200
    assert guarded("GET", "/api/v1/state", Settings(), link).status_code == 403
    assert guarded("POST", "/upload", Settings(), link).status_code == 403
    assert guarded("GET", "/plan", Settings(), {**link, "sec-fetch-dest": "iframe"}).status_code == 403
    image = {**HOST, "sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert guarded("GET", "/static/logo.svg", Settings(), image).status_code == 403


def test_nothing_allows_another_origin_to_read(client) -> None:
    answer = client.get(f"{API}/state", headers={"origin": "http://evil.example"})
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(client, method: str) -> None:
    for path, allowed in ((f"{API}/state", "GET"), (f"{API}/uploads", "POST")):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
    assert guarded(method, "/", Settings(), {**HOST, "origin": "http://evil.org"}).status_code == 403


# The token


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer"},
        {"cookie": f"rigwise-8765={TOKEN}"},
        {"cookie": "rigwise-8765="},
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/api/v1/state", "/static/page.css", "/upload", "/?token=wrong", f"/?tokens={TOKEN}"]
)
def test_without_the_token_there_is_nothing(path: str, headers: dict[str, str]) -> None:
    answer = guarded("GET", path, Settings(token=TOKEN), {**HOST, **headers})
    assert answer.status_code == 401
    assert TOKEN not in answer.text + str(answer.headers)


def test_the_token_opens_and_becomes_a_cookie() -> None:
    limits = Settings(token=TOKEN)
    assert guarded("GET", "/api/v1/state", limits, {**HOST, "authorization": f"Bearer {TOKEN}"}).status_code == 200
    first = guarded("GET", f"/plan?model=gpt2&token={TOKEN}", limits, HOST)
    assert (first.status_code, first.headers["location"]) == (303, "/plan?model=gpt2")
    cookie = first.headers["set-cookie"]
    assert TOKEN not in cookie
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert guarded("GET", "/", limits, {**HOST, "cookie": cookie.partition(";")[0]}).status_code == 200
    assert guarded("POST", f"/upload?token={TOKEN}", limits, HOST).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/%0d%0aset-cookie:a=b"])
def test_the_way_back_stays_here(path: str) -> None:
    answer = guarded("GET", f"{path}?token={TOKEN}", Settings(token=TOKEN), HOST)
    assert re.match(r"/([^/\\]|$)", answer.headers["location"])
    assert "a" not in answer.cookies


def test_a_token_is_demanded_beyond_loopback() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(InvalidInputError, match="token"):
            check(Settings(host=host))
        check(Settings(host=host, token=TOKEN))
    for host in ("127.0.0.1", "::1", "localhost"):
        check(Settings(host=host))
    with pytest.raises(InvalidInputError, match="16"):
        check(Settings(token="short"))


# What every response says


@pytest.mark.parametrize(
    "path", ["/", f"{API}/state", f"{API}/nothing", "/nothing", "/static/nothing", f"{API}/openapi.json"]
)
def test_every_response_is_fenced(client, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_only_a_file_named_by_its_content_is_kept_by_browsers(client) -> None:
    assert "immutable" in client.get("/static/style.css?0123456789").headers["cache-control"]
    assert client.get("/static/style.css").headers["cache-control"] == "no-store"
    assert client.get("/static/nothing.css?0123456789").headers["cache-control"] == "no-store"


def test_a_bug_is_one_line_for_the_server_and_nothing_for_others(capsys) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("the secret of the bug")

    answer = TestClient(Guard(fails, Settings()), base_url="http://127.0.0.1:8765").get(f"{API}/state")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "Traceback" not in said


# Nothing of the disk, nothing of the user's code

PATHS = [
    "/etc/passwd", "../../etc/passwd", "/tmp/model.rwg", "./net.onnx", "config.json", "file:///etc/passwd", "C:\\x.rwg",
    "http://127.0.0.1/x.onnx", "timm:resnet50", "os:getcwd", "rigwise.web.app:create_app", "~/model.rwg",
    "\\\\host\\x.onnx",
    "upload-../../../../../etc/x", "upload-AAAAAAAAAAAAAAAAAAAAAA", "-", "--help", "resnet50\x00.rwg", "x" * 400,
]  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_a_model_is_never_a_path(client, name: str) -> None:
    for kind, more in (("predict", {"device": "t4"}), ("compare", {"device": "t4,l4"}), ("plan", {"samples": "1e6"})):
        answer = client.get(f"{API}/{kind}", params={"model": name, **more})
        assert answer.status_code == 422
        assert answer.json()["error"]["field"] == "model"


@pytest.mark.parametrize("name", ["server.json", "/etc/x.json", "../x.json:gpu0", "this.json", "x.json:cpu"])
def test_a_device_is_never_a_path(client, name: str) -> None:
    for kind, more in (("predict", {}), ("compare", {}), ("plan", {"samples": "1e6"})):
        answer = client.get(f"{API}/{kind}", params={"model": "gpt2", "device": name, **more})
        assert answer.status_code == 422
        assert "file" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "key", ["own", "quota", "loss-curve", "output", "report", "calibration", "measured", "store", "plot"]
)
def test_a_flag_that_names_a_file_is_no_key(client, key: str) -> None:
    for kind in ("predict", "plan", "history", "devices"):
        answer = client.get(f"{API}/{kind}", params={"model": "gpt2", "device": "t4", key: "/etc/passwd"})
        assert answer.status_code == 422
        assert "key" in answer.json()["error"]["message"]


# Uploads


def uploaded(client: TestClient, name: str, content: bytes) -> Any:
    return client.post(f"{API}/uploads", files={"file": (name, content)})


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.py", "model", "model.zip", ".onnx", "x.rwg.exe", ""])
def test_only_model_files_are_read(client, name: str) -> None:
    assert uploaded(client, name, b"content").status_code in (415, 422)


@pytest.mark.parametrize("suffix", ["onnx", "rwg", "json"])
@pytest.mark.parametrize(
    "content",
    [
        b"", b"garbage", b"\x08\x07garbage", b"\x80\x04\x95pickle", b"\x1f\x8b\x08\x00broken", b"[" * 100_000, b"{}",
        b"null",
        b'{"model_type": "llama", "hidden_size": -1}', b'{"model_type": "../../etc/passwd"}', b"\xff\xfe" * 1000,
        b'{"model_type": "llama", "auto_map": {"AutoModel": "evil--evil.Model"}}', b'{"a": NaN}', b"RIGWISE",
    ],
    ids=range(14),
)  # fmt: skip
def test_a_malformed_upload_is_refused_in_one_line(client, suffix: str, content: bytes) -> None:
    answer = uploaded(client, f"net.{suffix}", content)
    assert answer.status_code in (415, 422), answer.text
    message = answer.json()["error"]["message"]
    assert "net" in message
    assert not re.search(r"/tmp|rigwise-serve|\n|Traceback|[0-9a-f]{40}", answer.text)


def test_a_large_upload_is_refused(client) -> None:
    assert uploaded(client, "net.onnx", b"\x08\x07" + bytes(400_000)).status_code == 413

    def pieces() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="net.onnx"\r\n\r\n'
        for _ in range(50):
            yield bytes(10_000)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post(f"{API}/uploads", content=pieces(), headers=headers).status_code == 413
    assert client.post(f"{API}/state", content=bytes(100_000)).status_code == 413


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "multipart/form-data"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"x"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n\r\nx\r\n--b--\r\n"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b--\r\n"),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n--b--',
        ),
    ],
)
def test_an_upload_is_a_form(client, headers: dict[str, str], content: bytes) -> None:
    answer = client.post(f"{API}/uploads", content=content, headers=headers)
    assert answer.status_code in (400, 415, 422), answer.text


def test_an_upload_is_known_by_its_id_alone_and_the_oldest_goes(client) -> None:
    content = zoo_path("resnet18").read_bytes()
    ids = [uploaded(client, f"net{i}.rwg", content).json()["upload"] for i in range(4)]
    assert len(set(ids)) == 4
    assert all(len(one) == len("upload-") + 22 for one in ids)
    answers = [client.get(f"{API}/predict", params={"model": one, "device": "t4"}).status_code for one in ids]
    assert answers == [422, 200, 200, 200]
    assert client.get(f"{API}/uploads").status_code == 405
    everything = client.get(f"{API}/models").text + client.get(f"{API}/state").text
    assert not any(one in everything for one in ids)


def test_uploads_are_private_and_gone_in_the_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TestClient(create_app(Settings(workers=1)), base_url="http://127.0.0.1") as client:
        uploaded(client, "net.rwg", zoo_path("resnet18").read_bytes())
        (folder,) = tmp_path.glob("rigwise-serve-*")
        assert folder.stat().st_mode & 0o077 == 0
        assert any(folder.rglob("*.rwg"))
    assert not folder.exists()


def test_a_name_keeps_no_folder() -> None:
    assert plain_name("..\\..\\etc/passwd") == "passwd"
    assert plain_name("a\x00b\n.rwg") == "ab.rwg"
    assert plain_name("...") == "model"
    assert len(plain_name("x" * 1000 + ".onnx")) < 100


# Whatever is asked

KEYS = sorted({field.name for kind in KINDS for field in fields(kind)})
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["0", "-1", "nan", "inf", "1e400", "1e9", "10**9", "9" * 50, "true", "t4", "gpt2", "resnet50", "$1", "1h"]
    ),
    st.sampled_from([choice for kind in KINDS for field in fields(kind) for choice in field.choices]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([kind for kind in KINDS if kind != "plan"]),
    pairs=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=5),
    is_whole=st.booleans(),
)
def test_no_query_fails_the_server(client, kind: str, pairs: list[tuple[str, str]], is_whole: bool) -> None:
    known = {field.name for field in fields(kind)}
    asked = [("model", "gpt2"), ("device", "t4")] if is_whole and "model" in known else []
    answer = client.get(f"{API}/{kind}", params=[*asked, *((key, value) for key, value in pairs if key in known)])
    assert answer.status_code in (200, 422, 504), answer.text
    document = json.loads(answer.content)
    assert document["schema"] == ("rigwise.error/1" if answer.status_code != 200 else f"rigwise.{kind}/1")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(st.sampled_from([field.name for field in fields("plan")]), VALUES), max_size=3))
def test_no_job_fails_the_server(client, pairs: list[tuple[str, str]]) -> None:
    job = [("model", "resnet18"), ("samples", "1e6"), ("device", "t4")]
    answer = client.get(f"{API}/plan", params=[*job, *((k, v) for k, v in pairs if k not in ("model", "samples"))])
    assert answer.status_code in (200, 422, 504), answer.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=60), query=st.text(max_size=60))
def test_no_path_fails_the_server(client, path: str, query: str) -> None:
    sent = client.get(f"{API}/{quote(path)}?{quote(query, safe='=&;+%')}")
    assert sent.status_code in (200, 404, 405, 422)
    for kind in ("devices", "models"):
        assert client.get(f"{API}/{kind}/-{quote(path)}").status_code in (200, 404, 422)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.rwg", "a.json", "a.txt"]),
    content=st.binary(max_size=200) | st.text(max_size=80).map(str.encode),
)
def test_no_upload_fails_the_server(client, name: str, content: bytes) -> None:
    assert uploaded(client, name, content).status_code in (415, 422)


def test_long_and_wide_queries_are_refused(client) -> None:
    assert client.get(f"{API}/predict?model=" + "x" * LONGEST_QUERY).status_code == 414
    assert client.get(f"{API}/predict?" + "a=1&" * 600).status_code == 422
    assert client.get(f"{API}/compare?model=gpt2&device=" + ",".join(["t4"] * 70)).status_code == 422
    assert client.get(f"{API}/predict?model=%ff%fe&device=t4").status_code == 422
