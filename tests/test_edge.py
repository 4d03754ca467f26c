"""Faults in outside text: one line that names the key and, for a typo, the key that was meant."""

import json

import pytest

from rigwise.edge import parse, parse_json, write_atomically
from rigwise.errors import InvalidInputError
from rigwise.workload.case import Case
from rigwise.workload.job_file import job_from_toml

HEAD = '[workload]\nmodel = "resnet50"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "samples = 1e400\n", ["workload.samples is 'inf'", "finite"]),
        (HEAD + "samples = nan\n", ["workload.samples", "finite"]),
        (HEAD + "samples = 1e6\n[constraints]\nbudjet = 3\n", ["'constraints.budjet'", "did you mean budget?"]),
        (HEAD + "sampels = 1e6\n", ["'workload.sampels'", "did you mean samples"]),
        (HEAD + "samples = 1e6\n[constrains]\nbudget = 3\n", ["'constrains'", "did you mean constraints?"]),
        (HEAD + "samples = [1]\n", ["workload.samples is '[1]'"]),
    ],
)
def test_a_job_file_names_the_key(text, words):
    with pytest.raises(InvalidInputError) as caught:
        job_from_toml(text, "job.toml")
    message = str(caught.value)
    assert message.startswith("job.toml: ")
    assert all(word in message for word in words)
    assert not any(f".{tried}" in message for tried in ("str", "float", "int"))
    assert "and 1 more" not in message


def test_a_typo_inside_a_case_finds_its_neighbours():
    with pytest.raises(InvalidInputError, match=r"'parallel.tensr', did you mean tensor"):
        parse({"model": "m", "device": "d", "parallel": {"tensr": 2}}, Case, "line 1")


def test_a_file_name_that_is_no_utf_8_can_stand_in_what_is_written(tmp_path):
    write_atomically(tmp_path / "a.json", json.dumps({"a": "b\udcff.rwg"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": "b\udcff.rwg"}


def test_a_key_may_stand_once():
    with pytest.raises(InvalidInputError, match="key 'a' stands twice"):
        parse_json('{"a": 1, "a": 2}', "x.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + 'samples = 1\n[market.owned]\nname = "a"\n', "it should be a list, [[owned]] in TOML"),
        (HEAD + "samples = 1\n[market]\nproviders = 5\n", "market.providers is '5': it should be a list"),
        ("workload = 5\n", "workload is '5': it should be a table of keys and values"),
    ],
)
def test_what_should_stand_there_is_said_in_the_words_of_the_file(text, words):
    with pytest.raises(InvalidInputError) as caught:
        job_from_toml(text, "job.toml")
    assert str(caught.value).endswith(words)
