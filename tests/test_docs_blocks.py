"""Every code block of the documentation runs, or says why it cannot, and shows what its commands print."""

import datetime
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
try:
    from doc_blocks import Block, blocks_of, counts, pages, printed_on, same, unfenced
    from doc_run import Page, in_process, plain
    from refresh_readme import PICTURES, refreshed
finally:
    sys.path.remove(str(ROOT / "tools"))

PAGES = {str(path.relative_to(ROOT)): path for path in pages()}
BLOCKS = {name: blocks_of(path.read_text(encoding="utf-8"), name) for name, path in PAGES.items()}
#: The longest come first, so that two workers end at about the same time.
WITH_BLOCKS = sorted(
    (name for name, found in BLOCKS.items() if found), key=lambda name: -counts(BLOCKS[name])["commands run"]
)


def page(tmp_path: Path, text: str) -> Page:
    return Page(tmp_path / "folder" / "page.md", text)


def faults(found: Page) -> list[str]:
    return [fault for _, _, several in found.run() for fault in several]


@pytest.mark.parametrize("name", WITH_BLOCKS)
@pytest.mark.filterwarnings("default")
def test_each_block_of_a_page_runs(name: str) -> None:
    assert faults(Page(PAGES[name])) == []


def test_the_blocks_are_counted(capsys) -> None:
    every = [block for found in BLOCKS.values() for block in found]
    found = counts(every)
    with capsys.disabled():
        print(
            f"\n{len(every)} blocks on {len(WITH_BLOCKS)} pages:",
            ", ".join(f"{n} {k}" for k, n in sorted(found.items())),
        )
    assert found["run"] + found["compared"] + found["parsed"] > found["not run"]
    assert found["commands run"] > found["commands not run"]


def test_no_command_stands_where_nothing_runs_it() -> None:
    assert [fault for name, path in PAGES.items() for fault in unfenced(path.read_text(encoding="utf-8"), name)] == []
    assert unfenced("a\n\n```sh\n    $ b\n```\n\n    $ c\n", "page") == ["page:7: put it into a fence: $ c"]


def test_whatever_is_not_run_says_why() -> None:
    reasons = [one.skipped for found in BLOCKS.values() for block in found for one in block.commands if one.skipped]
    assert reasons
    assert all(len(reason) > len("network") for reason in reasons), reasons


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("```sh\nrigwise predict resnet-50000 --device t4\n```\n", "exit code 2, not 0"),
        ("```sh\nfalse\n```\n", "exit code 1, not 0"),
        ("```console\n$ rigwise devices --limit 0 --device nonsense\n```\n", "exit code 2, not 0"),
        ("```console\n$ echo one\ntwo\n```\n", "+one"),
        ("```console\n$ rigwise --version\nrigwise 77\n```\n", "-rigwise 77"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nif\n```\n", "invalid syntax"),
        ("```toml\na = \n```\n", "Invalid value"),
        ("```json\n{\n```\n", "Expecting"),
        ("```\nwhat is this\n```\n", "a fence of no language"),
        ("<!-- exit 1 (false) -->\n```sh\ntrue\n```\n", "no line of the block contains 'false'"),
        ("<!-- not run (network): why -->\n```sh\ntrue\n```\n", "no line of the block contains 'network'"),
        ("<!-- not run -->\n```sh\ntrue\n```\n", "a comment that says nothing"),
        ("<!-- not run: \n -->\n```sh\nfalse\n```\n", "exit code 1, not 0"),
        ("<!-- before: false -->\n```sh\ntrue\n```\n", "exit code 1, not 0"),
    ],
)
def test_a_fault_is_found(tmp_path, block: str, words: str) -> None:
    found = faults(page(tmp_path, "# Title\n\n" + block))
    assert len(found) == 1
    assert words in found[0]


def test_a_page_is_run_in_its_order_in_an_empty_folder(tmp_path) -> None:
    text = (
        '```toml\n# machines.toml\n[[owned]]\nname = "box"\n```\n\n'
        "```python\n# net.py\nwidth = 3\n```\n\n"
        "<!-- before: echo hidden > first.txt -->\n```console\n$ cat first.txt\nhidden\n$ ls\nexamples\n...\n```\n\n"
        "```python\nfrom net import width\nheight = width + 1\n```\n\n"
        "```python\nassert height == 4\n```\n\n"
        "```sh\nexport WORD=there\necho $WORD > last.txt && grep -q there last.txt\n```\n\n"
        "<!-- exit 1 (grep) -->\n<!-- not run (sleep): too long -->\n"
        "```sh\ngrep -q here machines.toml\nsleep 1000\n```\n"
    )
    found = page(tmp_path, text)
    assert faults(found) == []
    assert counts(found.blocks) == {
        "parsed": 1, "run": 5, "compared": 1, "commands run": 5, "commands not run": 1,
    }  # fmt: skip
    assert Path.cwd().name != "page"


def test_what_stands_on_the_page_of_another_is_not_seen(tmp_path) -> None:
    assert faults(page(tmp_path, "```python\n# alone.py\nx = 1\n```\n")) == []
    assert "No module named 'alone'" in faults(page(tmp_path, "```python\nimport alone\n```\n"))[0]


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        ("one\n...\nfour", "one\ntwo\nthree\nfour", True),
        ("one\n...\nfour", "one\nfour", True),
        ("...\nfour", "one\nfour", True),
        ("one\n...", "one\ntwo", True),
        ("one\n...\nfour", "two\nfour", False),
        ("a.c", "abc", False),
        ("- A*, 467 ms; more", "- A*, 1.2 s; more", True),
        ("- A*, 467 ms; more", "- A*, 467 ms; less", False),
        ("467 ms", "468 ms", False),
    ],
)
def test_what_is_shown_is_what_is_printed(shown: str, printed: str, alike: bool) -> None:
    assert same(shown, printed) == alike


def test_only_what_a_command_prints_is_written_anew(tmp_path) -> None:
    text = (
        "<!-- printed on 2020-01-01 -->\n"
        "```console\n$ echo one\nstale\n\n$ echo two \\\n  three\nstale\n$ true\n```\n"
        "<!-- varies: this machine -->\n```console\n$ echo four\nstale\n```\n"
        "<!-- not run: why not -->\n```console\n$ echo five\nstale\n```\n"
        "```console\n$ echo six\n...\n```\n"
    )
    fresh, wrong = refreshed(page(tmp_path, text))
    assert wrong == []
    today = datetime.datetime.now(datetime.UTC).date()
    assert fresh == (
        f"<!-- printed on {today} -->\n"
        "```console\n$ echo one\none\n\n$ echo two \\\n  three\ntwo three\n$ true\n```\n"
        "<!-- varies: this machine -->\n```console\n$ echo four\nstale\n```\n"
        "<!-- not run: why not -->\n```console\n$ echo five\nstale\n```\n"
        "```console\n$ echo six\n...\n```\n"
    )


def test_a_page_that_cannot_be_run_is_not_written(tmp_path) -> None:
    assert refreshed(page(tmp_path, "```console\n$ false\nstale\n```\n"))[1]


def test_an_answer_can_be_of_another_day(tmp_path) -> None:
    assert printed_on("<!-- printed on 2026-11-01 -->") == datetime.date(2026, 11, 1)
    command = ["plan", "resnet18", "--samples", "1M", "--json"]
    days = [in_process(command, datetime.date(2026, month, 1))[1].partition('"today": ')[2][:12] for month in (9, 10)]
    assert days == ['"2026-09-01"', '"2026-10-01"']


def test_words_of_a_line() -> None:
    assert plain("rigwise predict 'a b' --x \"c\"  # d") == (["rigwise", "predict", "a b", "--x", "c"], None)
    assert plain("rigwise show a | less") is None
    assert plain("rigwise show a > b.txt") == (["rigwise", "show", "a"], "b.txt")
    assert isinstance(BLOCKS["README.md"][0], Block)


def test_pictures_of_the_first_screen_are_there_in_both_themes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = [f"docs/pictures/{name}-{theme}.png" for name in PICTURES for theme in ("light", "dark")]
    assert [name for name in drawn if name not in readme.partition("\n## ")[0]] == []
    for name in drawn:
        data = (ROOT / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 150_000
    for words in PICTURES.values():
        assert f"$ rigwise {' '.join(words)} " in readme
