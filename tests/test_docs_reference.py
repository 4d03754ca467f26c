"""The reference is what the code says: commands, flags, keys of documents, and where things are."""

import re
import sys
from pathlib import Path

import click
import pytest

from rigwise.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
try:
    import build_reference
    import doc_keys
finally:
    sys.path.remove(str(ROOT / "tools"))

JSON_PAGE = (ROOT / "docs/reference/json.md").read_text(encoding="utf-8")
WRITTEN = [path for path in (ROOT / "docs/reference").glob("*.md") if path.name != "keys.md"]
#: Schemas of files, of states and of what a figure is drawn from, which no command prints.
NOT_PRINTED = {"calibration", "catalogue", "lab.kept", "offers.store", "run-state", "serve.judged"}


def schemas() -> set[str]:
    """Names of documents in the code."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "src/rigwise").rglob("*.py"))
    return {found for text in texts for found in re.findall(r'"rigwise\.([a-z.-]+)/\d+"', text)}


@pytest.fixture(scope="module")
def commands_page() -> str:
    return build_reference.commands_page()


def test_the_page_of_commands_is_current(commands_page: str) -> None:
    assert build_reference.COMMANDS.read_text(encoding="utf-8") == commands_page, (
        "python tools/build_reference.py writes it"
    )


@pytest.mark.filterwarnings("default")
def test_the_page_of_keys_is_current() -> None:
    assert build_reference.KEYS.read_text(encoding="utf-8") == doc_keys.keys_page(), (
        "python tools/build_reference.py writes it"
    )


def test_every_command_and_every_flag_stands_on_the_page(commands_page: str) -> None:
    assert [name for name in COMMANDS if f"\n## rigwise {name}\n" not in commands_page] == []
    flags = [
        flag
        for _, command, _ in build_reference.all_commands()
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
        for flag in one.opts
    ]
    assert len(flags) > len(COMMANDS)
    assert [flag for flag in flags if flag not in commands_page] == []


def test_every_flag_of_an_example_exists(commands_page: str) -> None:
    commands = {name: command for name, command, _ in build_reference.all_commands()}
    examples = [line for block in re.findall(r"```text\n(.*?)```", commands_page, re.S) for line in block.splitlines()]
    assert len(examples) > len(COMMANDS)
    for line in examples:
        words = re.split(r"\s+", line.rpartition("rigwise ")[2].partition(" -- ")[0].partition("   ")[0])
        command = commands.get(" ".join(words[:2])) or commands[words[0]]
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_document_that_is_printed_is_described() -> None:
    found = schemas()
    assert {"plan", "predict", "watch"} <= found
    headings = " ".join(re.findall(r"^##+ (.*?)(?: \{.*)?$", JSON_PAGE, re.M)).replace(":", "").replace(",", "").split()
    texts = " ".join(path.read_text(encoding="utf-8") for path in WRITTEN)
    described = {name for name in found if f"rigwise.{name}/" in texts or name in headings}
    assert ", ".join(sorted(found - described - NOT_PRINTED)) == ""


def test_units_follow_from_names() -> None:
    units = {
        name: doc_keys.unit_of(name) for name in ("step_time_s", "peak_memory_bytes", "usd_per_h", "energy_j", "mfu")
    }
    assert units == {"step_time_s": "s", "peak_memory_bytes": "B", "usd_per_h": "$/h", "energy_j": "J", "mfu": ""}


def test_types_are_read_off_documents() -> None:
    paths: doc_keys.Paths = {}
    shared: dict[str, doc_keys.Paths] = {}
    plan = {"rank": 1, "kind": "rent", "provider": "a", "instance": "b", "why": []}
    document = {
        "time_s": {"p10": 1, "p50": 2, "p90": 3},
        "plans": [plan, {**plan, "idle": None}],
        "binds": {"compute": 0.5},
        "peak": {"odd name": 1},
        "rows": [{"a": 1}, {"a": None}],
    }
    doc_keys.walk("", document, paths, shared)
    assert doc_keys.rows(paths) == [
        "| `time_s` | quantiles | s |  |",
        "| `plans` | list of [plan](#object-plan) |  |  |",
        "| `binds.*` | number |  |  |",
        "| `peak.*` | number |  |  |",
        "| `rows` | list of object |  |  |",
        "| `rows[].a` | number or null |  |  |",
    ]
    assert doc_keys.table(shared["plan"], "").splitlines()[-2:] == [
        "| `why` | list, empty here |  |",
        "| `idle` | null |  |",
    ]
    assert doc_keys.rows(shared["plan"], "plan")[0] == "| `rank` | number |  | 1 is the best; 0 outside a ranking. |"


def test_meanings_are_those_of_docstrings() -> None:
    for place in doc_keys.DEFINED.values():
        found = doc_keys.meanings(place)
        assert len(found) > 5
        assert all(re.fullmatch(r"\w+", name) for name in found)


def test_a_page_that_is_out_of_date_is_named(tmp_path, monkeypatch, capsys) -> None:
    stale = tmp_path / "commands.md"
    stale.write_text("old", encoding="utf-8")
    monkeypatch.setattr(build_reference, "ROOT", tmp_path)
    monkeypatch.setattr(build_reference, "COMMANDS", stale)
    monkeypatch.setattr(build_reference, "KEYS", tmp_path / "keys.md")
    monkeypatch.setattr(build_reference, "commands_page", lambda: "new")
    monkeypatch.setattr(doc_keys, "keys_page", lambda: "keys")
    assert build_reference.main(["--check"]) == 1
    assert "commands.md is out of date" in capsys.readouterr().err
    assert stale.read_text(encoding="utf-8") == "old"
    assert build_reference.main([]) == 0
    assert stale.read_text(encoding="utf-8") == "new"
    assert build_reference.main(["--check"]) == 0


def test_where_things_are_has_one_source() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs/where.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- --8<-- [start:where] -->")[2].partition("<!-- --8<-- [end:where] -->")[0]
    assert table.count("\n| ") > 50
    assert '--8<-- "README.md:where"' in page
    assert "| " not in page
