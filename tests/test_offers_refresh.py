"""``offers refresh`` against a server on this machine that breaks off, refuses, changes files and lies."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rigwise.cli.main import main
from rigwise.errors import RunError
from rigwise.facts import offer_store
from rigwise.facts.offer_store import imported_offers, imports
from rigwise.facts.registries import registries
from rigwise.market.download import Checks, Limits, check_address, download
from rigwise.market.refresh import Wish, refresh

DATA = Path(__file__).parent / "data" / "offers"
TODAY = datetime.now(UTC).date()
QUICK = Limits(silence_s=5.0, attempts=1, pause_s=0.0)
AWS = (DATA / "skypilot" / "v8" / "aws" / "vms.csv").read_bytes()
SKYPILOT = registries().catalogues["skypilot"]
GPUHUNT = registries().catalogues["gpuhunt"]


class Server(ThreadingHTTPServer):
    """Files by path, and how to misbehave.

    Attributes:
        files: Path -> content.
        break_after: Bytes of a body after which the connection is closed, once for each number.
        status: Path -> an error to answer with.
        etag: ETag of every file, else the SHA-1 of its content.
        day: What it says is the date.
        asked: Path and Range header of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.status, self.break_after, self.asked = {}, {}, [], []
        self.etag, self.day, self.redirect = "", datetime.now(UTC), {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return format_datetime(self.server.day, usegmt=True)

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path in server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect[self.path])
            self.end_headers()
            return
        content = server.files.get(self.path)
        if self.path in server.status or content is None:
            self.send_error(server.status.get(self.path, 404))
            return
        etag = server.etag or f'"{hashlib.sha1(content).hexdigest()}"'
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.headers.get("If-Range") == etag else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        until = start + server.break_after.pop(0) if server.break_after else len(content)
        self.wfile.write(content[start:until])


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    monkeypatch.setenv(offer_store.VARIABLE, str(folder))
    return folder


def path_of(catalogue, name, version=""):
    return "/" + catalogue.url.format(name=name, version=version).split("/", 3)[3]


def get(server, target, **options):
    settings = {"checks": Checks(), "limits": QUICK, **options}
    return download(f"{server.url}/file", target, settings["checks"], settings["limits"], lambda _: None)


def ask(server, *, today=TODAY, limits=QUICK, **wish):
    wish = {"kind": "skypilot", "catalogue": SKYPILOT, "names": ["aws"], "mirror": server.url, **wish}
    return refresh(Wish(**wish), today, lambda *_: None, limits)


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    server.files["/file"] = AWS
    seen = []
    download(f"{server.url}/file", tmp_path / "x.csv", Checks(), QUICK, seen.append)
    assert (tmp_path / "x.csv").read_bytes() == AWS
    assert seen[-1] == len(AWS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_what_broke_off_is_kept_and_the_next_run_asks_for_the_rest(server, tmp_path):
    server.files["/file"] = AWS
    server.break_after = [700]
    with pytest.raises(RunError, match=f"broke off after 700 of {len(AWS):,} bytes"):
        get(server, tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()
    get(server, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == AWS
    assert server.asked == [("/file", None), ("/file", "bytes=700-")]


def test_one_run_goes_on_by_itself(server, tmp_path):
    server.files["/file"] = AWS
    server.break_after = [300, 300]
    get(server, tmp_path / "x.csv", limits=replace(QUICK, attempts=3))
    assert (tmp_path / "x.csv").read_bytes() == AWS
    assert [asked for _, asked in server.asked] == [None, "bytes=300-", "bytes=600-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    server.files["/file"] = AWS
    server.break_after = [700]
    with pytest.raises(RunError):
        get(server, tmp_path / "x.csv")
    server.files["/file"] = AWS.replace(b"55.04", b"66.04")
    get(server, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == AWS.replace(b"55.04", b"66.04")


@pytest.mark.parametrize("etag", ['W/"weak"', "none"])
def test_without_a_strong_mark_nothing_is_resumed(server, tmp_path, etag):
    server.files["/file"], server.etag, server.break_after = AWS, etag, [700]
    with pytest.raises(RunError):
        get(server, tmp_path / "x.csv")
    get(server, tmp_path / "x.csv")
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_part_that_is_whole_already_does_not_stop_the_next_run(server, tmp_path):
    server.files["/file"] = AWS
    (tmp_path / "x.csv.part").write_bytes(AWS)
    note = {"url": f"{server.url}/file", "validator": f'"{hashlib.sha1(AWS).hexdigest()}"'}
    (tmp_path / "x.csv.part.json").write_text(json.dumps(note))
    get(server, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == AWS


@pytest.mark.parametrize(
    ("checks", "etag"),
    [(Checks(sha256="0" * 64), ""), (Checks(etag_is_md5=True), f'"{"0" * 32}"')],
    ids=["sha256", "md5"],
)
def test_a_wrong_checksum_is_refused_and_not_kept(server, tmp_path, checks, etag):
    server.files["/file"], server.etag = AWS, etag
    (tmp_path / "x.csv").write_text("old")
    with pytest.raises(RunError, match="damaged"):
        get(server, tmp_path / "x.csv", checks=checks)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "old"


def test_the_right_checksums_pass(server, tmp_path):
    server.files["/file"], server.etag = AWS, f'"{hashlib.md5(AWS).hexdigest()}"'
    checks = Checks(sha256=hashlib.sha256(AWS).hexdigest(), etag_is_md5=True)
    get(server, tmp_path / "x.csv", checks=checks)
    assert (tmp_path / "x.csv").read_bytes() == AWS


def test_a_file_over_the_limit_is_refused(server, tmp_path):
    server.files["/file"] = AWS
    with pytest.raises(RunError, match="at most 100"):
        get(server, tmp_path / "x.csv", limits=replace(QUICK, size_bytes=100))
    assert not (tmp_path / "x.csv").exists()


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(RunError, match="cannot be reached"):
        download("http://127.0.0.1:9/file", tmp_path / "x", Checks(), QUICK, lambda _: None)


def test_without_a_network_the_first_file_ends_it(store, capfdbinary):
    with pytest.raises(SystemExit) as stop:
        main(["offers", "refresh", "--mirror", "http://127.0.0.1:9"])
    out, err = capfdbinary.readouterr()
    assert (stop.value.code, out, err.count(b"\n")) == (1, b"", 1)
    assert b"127.0.0.1:9 cannot be reached" in err
    assert b"what was imported before stays" in err


@pytest.mark.parametrize("url", ["http://example.com/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "x", "http://[/"])
def test_only_https_or_this_machine(url):
    with pytest.raises(RunError):
        check_address(url)
    check_address("https://example.com/x")
    check_address("http://127.0.0.1:1/x")


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(server, tmp_path):
    server.redirect["/file"] = "file:///etc/passwd"
    with pytest.raises(RunError):
        get(server, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_refresh_is_an_import_dated_today(server, store):
    server.files[path_of(SKYPILOT, "aws")] = AWS
    done, failed = ask(server)
    assert (len(done), failed) == (1, {})
    (about,) = imports()
    assert (about.name, about.dated_by, about.as_of) == ("skypilot.aws", "download", TODAY.isoformat())
    assert about.sha256 == hashlib.sha256(AWS).hexdigest()
    assert len(imported_offers()) == 6
    assert sorted(path.name for path in store.rglob("*") if path.is_file()) == ["skypilot.aws.offers"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s, p: s.break_after.append(900), "broke off after 900"),
        (lambda s, p: s.files.update({p: AWS[:900]}), "cut off"),
        (lambda s, p: s.files.update({p: AWS[: AWS.index(b"p5")]}), "holds no offer"),
        (lambda s, p: s.files.update({p: b"<html>Sign in to the network</html>"}), "no column 'InstanceType'"),
        (lambda s, p: s.files.update({p: b"InstanceType\xff\xfe\n"}), "not text"),
        (lambda s, p: s.files.update({p: AWS[:900]}), SKYPILOT.url.format(name="aws").split("/", 3)[3]),
        (lambda s, p: s.status.update({p: 500}), "answered 404"),  # as does the second place
        (lambda s, p: setattr(s, "day", datetime(2019, 1, 1, tzinfo=UTC)), "the server's 2019-01-01"),
    ],
)
def test_a_failure_leaves_the_catalogue_as_it_was(server, store, spoil, words):
    path = path_of(SKYPILOT, "aws")
    server.files[path] = AWS
    ask(server)
    before = imported_offers()
    spoil(server, path)
    done, failed = ask(server)
    assert done == []
    assert words in str(failed["aws"])
    assert imported_offers() == before


def test_one_provider_s_failure_is_not_another_s(server, store):
    server.files[path_of(SKYPILOT, "aws")] = AWS
    done, failed = ask(server, names=["aws", "gcp"])
    assert [about.name for about in done] == ["skypilot.aws"]
    assert list(failed) == ["gcp"]


def test_the_second_place_is_asked_where_the_first_refuses(server, store):
    server.status[path_of(SKYPILOT, "aws")] = 429
    server.files["/" + SKYPILOT.fallback_url.format(name="aws").split("/", 3)[3]] = AWS
    done, failed = ask(server)
    assert (len(done), failed) == (1, {})


def test_a_checksum_beside_the_file_is_used(server, store):
    path = path_of(SKYPILOT, "aws")
    catalogue = replace(SKYPILOT, checksum_suffix=".sha256", fallback_url="")
    server.files |= {path: AWS, f"{path}.sha256": f"{hashlib.sha256(AWS).hexdigest()}  vms.csv\n".encode()}
    assert ask(server, catalogue=catalogue)[1] == {}
    server.files[path] = AWS.replace(b"55.04", b"66.04")
    assert "SHA-256" in str(ask(server, catalogue=catalogue)[1]["aws"])
    server.files[f"{path}.sha256"] = b"<html>"
    assert "checksum" in str(ask(server, catalogue=catalogue)[1]["aws"])


def test_gpuhunt_asks_for_the_newest_version(server, store):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(DATA / "gpuhunt" / "gcp.csv", "gcp.csv")
    version_path = "/" + GPUHUNT.version_url.format(name="gcp").split("/", 3)[3]
    server.files |= {version_path: b"20261120-123\n", path_of(GPUHUNT, "gcp", "20261120-123"): packed.getvalue()}
    done, failed = ask(server, kind="gpuhunt", catalogue=GPUHUNT, names=["gcp"])
    assert failed == {}
    assert (done[0].name, done[0].kept) == ("gpuhunt.gcp", 2)
    server.files[version_path] = b"../../secret"
    assert "which is none" in str(ask(server, kind="gpuhunt", catalogue=GPUHUNT, names=["gcp"])[1]["gcp"])


def test_the_command_reports_and_exits(server, store, capfdbinary):
    server.files[path_of(SKYPILOT, "aws")] = AWS

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["offers", "refresh", "--mirror", server.url, *arguments])
        out, err = capfdbinary.readouterr()
        return stop.value.code, out.decode(), err.decode()

    code, out, err = run("--only", "aws")
    assert (code, "skypilot.aws" in out, "downloaded" in out) == (0, True, True)
    code, out, err = run("--only", "aws", "--only", "gcp", "--json")
    document = json.loads(out)
    assert (code, err) == (1, "")
    assert [one["name"] for one in document["imports"]] == ["skypilot.aws"]
    assert [one["name"] for one in document["failed"]] == ["gcp"]
    code, out, err = run("--only", "gcp")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "answered 404" in err


def test_a_download_of_tomorrow_says_that_a_clock_is_wrong(server, store):
    server.files[path_of(SKYPILOT, "aws")] = AWS
    _, failed = ask(server, today=date(1970, 1, 1))
    assert "clock says 1970-01-01" in str(failed["aws"])
    assert imports() == ()
