"""Values of secret variables never reach the log, the state of a run, or a file of ``rigwise setup``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.cli.main import main
from rigwise.launch.asked import Asked
from rigwise.launch.folder import read_state
from rigwise.launch.launcher import place_of
from rigwise.launch.secrets import Mask, secrets_of
from rigwise.launch.start import How, prepare

SECRETS = {
    "HF_TOKEN": "hf_0123456789",
    "MYSQL_PWD": "the-password-of-mysql",
    "GH_PAT": "ghp_abcdefgh",
    "https_proxy": "http://me:proxy-password@proxy.example:3128",
    "TLS_KEY": "-----BEGIN-----\nfirst-line-of-key\nlast-line-of-key\n-----END-----",
}
PARTS = ("0123456789", "the-password", "abcdefgh", "proxy-password", "line-of-key")
TELL = """
import os, sys, time
for name in sys.argv[1].split(","):
    print(name, os.environ[name], repr(os.environ[name]))
    for line in os.environ[name].splitlines():
        print(line, flush=True)
half = os.environ["HF_TOKEN"]
print("half", half[:8], sep="", end="", flush=True)
time.sleep(0.4)
print(half[8:], sys.argv[2])
"""


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RIGWISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RIGWISE_STORE", str(tmp_path / "store.sqlite"))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "runs"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_no_file_of_a_run_and_no_output_holds_a_value(runs, tmp_path) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    words = [sys.executable, "tell.py", ",".join(SECRETS), f"--token={SECRETS['HF_TOKEN']}"]
    done = subprocess.run(
        [sys.executable, "-m", "rigwise", "run", "--", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "half[HF_TOKEN] --token=[HF_TOKEN]" in done.stdout
    texts = [done.stdout, done.stderr]
    texts += [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) > 6
    assert [part for part in PARTS for text in texts if part in text] == []


@given(st.data())
def test_a_value_is_found_wherever_the_text_is_cut(data) -> None:
    secrets = {"A_KEY": "aabaab", "B_KEY": "aabaabaac", "C_KEY": "baabaa"}
    text = data.draw(st.text("abc ", max_size=40)) + data.draw(st.sampled_from(list(secrets.values())))
    text += data.draw(st.text("abc ", max_size=40))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    mask = Mask(secrets_of(secrets))
    pieces = [text[a:b].encode() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown = b"".join([*map(mask.feed, pieces), mask.rest()])
    assert not [value for value in secrets.values() if value.encode() in shown]
    assert b"_KEY]" in shown


def test_text_without_a_value_is_left_as_it_is() -> None:
    mask = Mask(SECRETS)
    assert mask.feed(b"hf_0 the loss is 3 h") == b"hf_0 the loss is 3 "
    assert mask.rest() == b"h"


def test_words_for_sbatch_are_kept_by_name(runs, monkeypatch) -> None:
    monkeypatch.setattr("rigwise.launch.slurm.available", lambda: None)
    how = How(words=(f"--comment={SECRETS['HF_TOKEN']}",), address="")
    folder, _ = prepare([sys.executable, "-c", "1"], Asked(on="slurm"), how, {})
    assert SECRETS["HF_TOKEN"] not in (folder / "state.json").read_text()
    submitted = []

    def sbatch(words: list[str]) -> subprocess.CompletedProcess[str]:
        submitted.append(words)
        return subprocess.CompletedProcess(words, 0, "7\n", "")

    monkeypatch.setattr("rigwise.launch.slurm._asked", sbatch)
    assert place_of(read_state(folder)).start(folder, 1) == {"job": "7"}
    assert f"--comment={SECRETS['HF_TOKEN']}" in submitted[0]


@pytest.mark.parametrize("name", sorted(set(SECRETS) - {"TLS_KEY"}))
def test_setup_writes_no_value(runs, capsys, name) -> None:
    value = SECRETS[name]
    with pytest.raises(SystemExit) as stop:
        main(["setup", "torchrun", "--device", "rtx-4090", "--", "python", "train.py", value])
    found = capsys.readouterr()
    assert (stop.value.code, found.out) == (2, "")
    assert f"the value of {name} would stand in" in found.err
    assert not [part for part in PARTS if part in found.err]


def test_names_that_only_look_alike_are_no_secrets() -> None:
    harmless = {
        "PWD": "/home/somebody",
        "OLDPWD": "/home/somebody",
        "KEYBOARD": "something",
        "SSH_AUTH_SOCK": "/tmp/x/y",
    }
    assert secrets_of(harmless) == {}
    assert json.dumps(secrets_of(dict(os.environ) | {"A_TOKEN": "short"})).find('"short"') == -1
