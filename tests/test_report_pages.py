"""Reports of comparisons and machines, and ``--report``: the place is checked first, the page gives nothing away."""

import json
import os
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rigwise.cli.main import root as command_line
from rigwise.cli.report_option import command_line as written
from rigwise.cli.report_option import without_folders
from rigwise.edge import check_writable
from rigwise.errors import InvalidInputError, MissingExtraError
from rigwise.machine.doctor.checkup import check_snapshot, document
from rigwise.machine.snapshot import Field, Snapshot
from rigwise.report.machine_page import Seen, machine_page

pytest.importorskip("altair", reason="extra plot")
pytest.importorskip("vl_convert", reason="extra plot")

COMPARE = ["compare", "resnet18", "--device", "t4,l4,rtx-4090", "--batch", "8", "--dtype", "amp-bf16"]
check_page = runpy.run_path(str(Path(__file__).with_name("page_parser.py")))["check_page"]
HOSTILE = "<script>alert(1)</script>&\"'"


def run(*arguments: str):
    return CliRunner().invoke(command_line, list(arguments), standalone_mode=False)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[str, dict]:
    place = tmp_path_factory.mktemp("compare") / "compare.html"
    result = run(*COMPARE, "--json", "--report", str(place))
    assert result.exit_code == 0, result.exception
    return place.read_text("utf-8"), json.loads(result.stdout)


def test_a_comparison_says_first_which_is_quickest(compared) -> None:
    page, answer = compared
    read = check_page(page)
    heading = page[page.index("<h1>") : page.index("</h1>")]
    assert f"{answer['results'][0]['device']} is quickest" in heading
    assert "t4 cannot compute amp-bf16" in read.words  # and is not left out silently
    for device in ("l4", "rtx-4090"):
        assert read.words.count(device) > 2
    for word in ("What this rests on", "To repeat it", "NVIDIA", "constants", "image size 224"):
        assert word in read.words


def test_the_cheapest_of_a_comparison_is_the_cheapest(compared) -> None:
    _, answer = compared
    from datetime import date

    from rigwise.report.compare_page import compare_page
    from rigwise.report.evidence import with_prices

    told = with_prices(answer, date(2026, 11, 21))
    prices = [{"usd_per_h": 9.0, "basis": "a"}, {"usd_per_h": 0.01, "basis": "b"}, None]
    read = check_page(compare_page({**told, "prices": prices}))
    assert "l4 costs least" in read.words
    assert "$9.00" in read.words
    without = check_page(compare_page({**told, "prices": [None, None, None]}))
    assert "costs least" not in without.words
    assert "no price" in without.words


def test_a_comparison_without_an_answer_writes_no_page(tmp_path) -> None:
    result = run(
        "compare", "resnet18", "--device", "t4,v100-pcie-16gb", "--dtype", "bf16", "--report", f"{tmp_path}/x.html"
    )
    assert result.return_value == 1
    assert list(tmp_path.iterdir()) == []


def machine(name: str = "A CPU") -> Snapshot:
    def field(value):
        return Field(value=value, source="a test")

    peaks = ({"of": field("cpu"), "what": field("fp32"), "flops_per_s": field(1e12)},)
    return Snapshot(taken="2026-11-01T10:00:00Z", cpu={"name": field(name), "cores": field(8)}, peaks=peaks)


def test_a_machine_that_tells_little_still_has_a_page() -> None:
    for snapshot in (Snapshot(), machine()):
        seen = Seen(
            snapshot=snapshot, checkup=document(check_snapshot(snapshot, "a box")), why_not="its memory is unknown"
        )
        read = check_page(machine_page(seen, command="rigwise inspect"))
        assert "its memory is unknown" in read.words
        assert "nothing was measured" in read.words


def test_a_name_of_a_machine_cannot_become_markup() -> None:
    snapshot = machine(HOSTILE)
    html = machine_page(Seen(snapshot=snapshot, checkup=document(check_snapshot(snapshot, HOSTILE))), command=HOSTILE)
    assert HOSTILE in check_page(html).words


def test_problems_stand_first_the_worst_at_the_top() -> None:
    checkup = document(check_snapshot(machine(), "a box"))
    problem = {"status": "problem", "evidence": "seen", "explanation": "because", "fix": "mend it", "applies": True}
    found = [{**problem, "severity": "note", "title": "small"}, {**problem, "severity": "error", "title": "big"}]
    html = machine_page(Seen(snapshot=machine(), checkup={**checkup, "findings": found}))
    words = check_page(html).words
    assert "1 error, 1 note" in words
    assert "First mend this: big" in words
    assert words.index("Error: big") < words.index("Note: small")


def test_what_was_measured_is_on_the_page() -> None:
    limit = {"value": 1e12, "words": "", "source": ""}
    figure = {"name": "matmul.fp32", "unit": "FLOP/s", "value": 5e11, "limit": limit, "predicted": None, "remarks": []}
    bench = {"schema": "rigwise.bench/1", "name": "a box", "device": None, "figures": [figure]}
    bench |= {"software": {"torch": "2.13"}, "wall_s": 3.0}
    seen = Seen(snapshot=machine(), checkup=document(check_snapshot(machine(), "a box")), bench=bench)
    words = check_page(machine_page(seen)).words
    assert "reaches 50 % (matmul.fp32)" in words
    assert "torch 2.13" in words


def test_what_could_stand_there_holds_the_work_and_is_chosen_for_a_reason(tmp_path) -> None:
    from datetime import date

    from rigwise.facts import catalogue
    from rigwise.report.instead import instead_of

    found = instead_of(catalogue.device("rtx-3090"), "rtx-3090", date(2026, 11, 21))
    assert "rtx-3090" not in found["chosen"]
    assert 3 <= len(found["chosen"]) <= 5
    own = catalogue.device("rtx-3090")
    for name in found["chosen"]:
        assert catalogue.device(name).memory_bytes >= own.memory_bytes
    frugal = next(name for name, why in found["chosen"].items() if "350 W" in why)
    assert catalogue.device(frugal).tdp_w <= 1.05 * own.tdp_w
    seen = Seen(snapshot=machine(), checkup=document(check_snapshot(machine(), "a box")), instead=found)
    words = check_page(machine_page(seen)).words
    assert all(name in words for name in found["chosen"])


def test_inspect_writes_a_page_of_a_snapshot(tmp_path, monkeypatch) -> None:
    from rigwise.machine.snapshot import snapshot_text

    (tmp_path / "box.json").write_text(snapshot_text(machine()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rigwise", "inspect", f"{tmp_path}/box.json"])
    result = run("inspect", f"{tmp_path}/box.json", "--report", "box.html", "--quiet")
    assert result.exit_code == 0, result.exception
    page = (tmp_path / "box.html").read_text("utf-8")
    assert str(tmp_path) not in page
    assert "rigwise inspect box.json" in check_page(page).words


@pytest.mark.parametrize("command", [COMPARE, ["plan", "resnet18", "--samples", "1e6"], ["inspect"], ["bench"]])
@pytest.mark.parametrize("place", ["x.pdf", "", "nowhere/x.html", "folder.html", "x" * 300 + ".html"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, command, place) -> None:
    (tmp_path / "folder.html").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rigwise.graph.load.load_model", None)
    monkeypatch.setattr("rigwise.machine.inspect.inspect", None)
    result = run(*command, "--report", place)
    assert isinstance(result.exception, InvalidInputError), result.exception
    assert result.exception.exit_code == 2
    assert "--report" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.html"]


def test_a_folder_that_takes_no_file_is_refused(tmp_path) -> None:
    check_writable(tmp_path / "x.html", "--report")
    assert list(tmp_path.iterdir()) == []
    check_writable(os.devnull, "--report")
    with pytest.raises(InvalidInputError, match=r"--report /proc/x\.html cannot be written"):
        check_writable("/proc/x.html", "--report")


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_extra_is_named_before_the_work(tmp_path, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("rigwise.graph.load.load_model", None)
    result = run(*COMPARE, "--report", str(tmp_path / "x.html"))
    assert isinstance(result.exception, MissingExtraError)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_report_says_so(tmp_path) -> None:
    result = run("bench", "--list", "--report", str(tmp_path / "x.html"))
    assert isinstance(result.exception, InvalidInputError)
    assert "--report cannot show" in str(result.exception)


def test_the_command_can_be_pasted(tmp_path, monkeypatch) -> None:
    words = ["plan", "a b.toml", "--budget", "$100", "--note", "it's", "--own=x y.toml"]
    assert shlex.split(written(words)) == ["rigwise", *words]
    monkeypatch.chdir(tmp_path)
    assert written([f"{tmp_path}/job.toml"]) == "rigwise job.toml"


def test_the_command_tells_no_password_and_no_home(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    (tmp_path / "anna").mkdir()
    words = [
        "--store",
        "postgresql://anna:pw@host/db",
        "--token",
        "abc",
        "--api-key=def",
        f"--own={tmp_path}/anna/my rig.toml",
    ]
    told = written(words)
    for secret in ("pw", "abc", "def", "anna"):
        assert secret not in told
    assert "--own=\"$HOME\"/'my rig.toml'" in told
    assert without_folders(f"<p>{tmp_path}/anna/x and {tmp_path}/annabel</p>") == f"<p>~/x and {tmp_path}/annabel</p>"
