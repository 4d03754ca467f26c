"""Tab completion in bash, zsh and fish."""

import os
import shutil
import subprocess
import sys

import pytest

from rigwise.cli.main import COMMANDS


def ask(**environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "rigwise"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_registers_the_program(shell: str) -> None:
    script = ask(_RIGWISE_COMPLETE=f"{shell}_source")
    assert "rigwise" in script
    assert f"{shell}_complete" in script


installed = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed"))
    for shell in ("bash", "zsh", "fish")
]


@pytest.mark.parametrize("shell", installed)
def test_the_shell_accepts_its_script(shell: str, tmp_path) -> None:
    script = tmp_path / f"completion.{shell}"
    script.write_text(ask(_RIGWISE_COMPLETE=f"{shell}_source"))
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_prefix_completes_to_commands(shell: str) -> None:
    words = {"COMP_WORDS": "rigwise p", "COMP_CWORD": "p" if shell == "fish" else "1"}
    offered = ask(_RIGWISE_COMPLETE=f"{shell}_complete", **words)
    expected = {name for name in COMMANDS if name.startswith("p")}
    assert {name for name in COMMANDS if name in offered} == expected


def test_a_flag_completes_after_its_command() -> None:
    offered = ask(_RIGWISE_COMPLETE="bash_complete", COMP_WORDS="rigwise predict resnet50 --dev", COMP_CWORD="3")
    assert offered.split() == ["plain,--device"]
