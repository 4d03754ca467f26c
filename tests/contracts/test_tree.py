"""What stands in the repository: nothing of one machine, and nothing in the README that does not work."""

import re
import shlex
import subprocess

import click
import pytest

from rigwise.cli.main import COMMANDS
from rigwise.cli.main import root as command_line

#: Paths of one machine and hosts of package indexes; written so that this file does not contain them.
FORBIDDEN = re.compile(
    "|".join(["/(?:wor)k/", "/tmp/(?:de)v", "/(?:ro)ot/", r"\.(?:lib)rary/", "py(?:pi)\\.org", "python(?:hosted)"])
    + "|registry\\.(?:npm)js|deb\\.(?:deb)ian"
)
BINARY = {".gz", ".rwg", ".png", ".ico", ".zst", ".npz"}


def tracked_files(root) -> list:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    paths = [root / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


def test_no_file_names_a_machine_or_a_package_index(root) -> None:
    files = tracked_files(root)
    assert files
    found = [
        f"{path.relative_to(root)}: {match.group()}"
        for path in files
        if (match := FORBIDDEN.search(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("text", ["https://py" + "pi.org/simple", "/wor" + "k/main"])
def test_the_check_sees_a_fault(text: str) -> None:
    assert FORBIDDEN.search(text)


def shell_lines(root, program: str) -> list[str]:
    """Lines of the README's and the documentation's shell blocks that call ``program``."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]
    blocks = [
        b for page in pages for b in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(program + " ")]


def test_every_documented_command_and_flag_exists(root) -> None:
    lines = shell_lines(root, "rigwise")
    assert lines
    for line in lines:
        words = shlex.split(line.split("#")[0].split(" > ")[0].split(" | ")[0])[1:]
        name = next((word for word in words if not word.startswith("-")), None)
        if name is None:
            continue
        assert name in COMMANDS, line
        command = command_line.get_command(None, name)
        following = words[words.index(name) + 1 :]
        if isinstance(command, click.Group) and following and not following[0].startswith("-"):
            command = command.commands[following[0]]
        elif following:
            command = getattr(command, "subcommands", {}).get(following[0], command)
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= flags | {"--help", "-h"}, line


def test_every_documented_make_target_exists(root) -> None:
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = {word for line in shell_lines(root, "make") for word in line.split("#")[0].split()[1:]}
    assert {"demo", "test"} <= used <= targets


def test_every_path_in_the_readme_exists(root) -> None:
    readme = (root / "README.md").read_text("utf-8")
    paths = re.findall(r"`((?:src|docs|tests|examples|tools|benchmarks)/[\w./-]*)`", readme)
    inside = re.findall(r"`([a-z_]+/[\w/]*\w\.(?:py|toml|csv|css))`", readme)
    assert paths or inside
    missing = [p for p in paths if not (root / p).exists()]
    missing += [p for p in inside if not (root / p).exists() and not (root / "src" / "rigwise" / p).exists()]
    assert missing == []
