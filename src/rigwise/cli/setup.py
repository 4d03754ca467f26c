"""``rigwise setup``: the environment of a plan, or of this machine, as files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import answer_options, console, print_json
from rigwise.cli.setup_verify import verify
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.sandbox.lock import Lock
    from rigwise.sandbox.place import Place
    from rigwise.sandbox.setting import Setting

SCHEMA = "rigwise.setup/1"
EXAMPLES = """\b
Examples:
  rigwise setup
  rigwise setup pip > requirements.txt
  rigwise setup slurm --plan plan.json --output job -- python train.py --epochs 3
  rigwise plan resnet50 --samples 1M --json | rigwise setup docker --plan - --output image
  rigwise setup uv --device rtx-4090 --driver 550.54.15 --output project --lock
  rigwise setup verify --in project/.venv
"""
#: Of a plan on stdin.
STDIN_LIMIT_BYTES = 64 * 2**20
#: Targets whose files name packages without a list that could be locked.
_UNLOCKED = ("pixi", "colab", "kaggle")


class _Setup(click.Command):
    """``rigwise setup TARGET``; the word verify in place of a target is a command of its own."""

    subcommands: Mapping[str, click.Command] = {"verify": verify}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does, for the command that is meant."""
        inner = self.subcommands.get(args[0]) if args else None
        if inner is None:
            return super().make_context(info_name, args, parent, **extra)
        return inner.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command that the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command("setup", cls=_Setup, epilog=EXAMPLES)
@click.argument("target", required=False)
@click.argument("command_words", nargs=-1, metavar="[-- COMMAND ...]")
@click.option("--plan", "plan_file", metavar="FILE", help="For a plan of rigwise plan --output; - reads stdin.")
@click.option("--rank", type=click.IntRange(1), help="With --plan: which of its plans.  [default: 1]")
@click.option("--device", metavar="DEVICE", help="For this device or snapshot (.json) instead.")
@click.option("--count", type=click.IntRange(1, 100_000), help="With --device: how many, over all nodes.  [default: 1]")
@click.option("--nodes", type=click.IntRange(1, 100_000), help="With --device: on how many nodes.  [default: 1]")
@click.option("--framework", default="torch", help="torch, jax or tensorflow, or torch==VERSION.  [default: torch]")
@click.option("--driver", metavar="VERSION", default="", help="NVIDIA driver of the machine.")
@click.option("--python", metavar="VERSION", default="", help="Python of the environment.")
@click.option("--glibc", metavar="VERSION", default="", help="C library of the machine.")
@click.option("--index", metavar="URL", default="", help="Take the framework from here; default: the default index.")
@click.option("--cpus", type=click.IntRange(1, 4096), help="CPUs of one node.")
@click.option("--module", "modules", metavar="NAME", multiple=True, help="Load this module first (Slurm, PBS).")
@click.option("--image", metavar="NAME", default="", help="A container image that holds the environment (kubernetes).")
@click.option("--accelerator", metavar="NAME", default="", help="What the cloud calls the device (skypilot, dstack).")
@click.option("--name", metavar="NAME", default="", help="Of the job.  [default: rigwise, with the plan's model]")
@click.option("--output", metavar="DIR", help="Write the files into this folder.")
@click.option("--force", is_flag=True, help="With --output: replace files that are there.")
@click.option("--lock", is_flag=True, help="Resolve everything with hashes by uv; asks the index.")
@answer_options
def command(*, target: str | None, command_words: tuple[str, ...], as_json: bool, quiet: bool, **flags: Any) -> int:
    """Write the files that set an environment up, for a plan or for this machine; each choice is explained in them.

    Without a TARGET: what there is. Without --output the target's first file is printed.
    rigwise setup verify tries whether an environment works; it has flags of its own.
    """
    from rigwise.sandbox.targets import Extra, kind_of, render, setting_of

    if target is None:
        return _targets(as_json=as_json)
    kind_of(target)
    _check(target, flags)
    _check_command(target, command_words)
    place = _place(flags)
    extra = Extra(
        command=command_words, name=flags["name"], modules=flags["modules"], image=flags["image"],
        accelerator=flags["accelerator"], cpus=flags["cpus"],
    )  # fmt: skip
    setting = setting_of(target, place, _wish(flags), extra)
    locked, files = None, render(target, setting)
    _refuse_secrets({**files, "the command": " ".join(command_words)}, os.environ)
    if flags["lock"]:
        setting, locked, files = _locked(target, setting)
    if flags["output"] is not None:
        from rigwise.cli.setup_files import write_files

        write_files(flags["output"], files, force=flags["force"])
    if as_json:
        print_json(_document(target, setting, files, locked))
    else:
        _show(target, setting, files, flags["output"], quiet=quiet)
    return 0


def _check_command(target: str, words: Sequence[str]) -> None:
    """Refuse a plan that stands where the command belongs."""
    if words and words[0].endswith((".json", ".toml")):
        hint = f"rigwise setup {target} --plan {words[0]}"
        raise InvalidInputError(f"{words[0]} stands where the command belongs", hint=hint)


def _check(target: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags that exclude each other or say nothing."""
    if flags["plan_file"] is not None and flags["device"] is not None:
        raise InvalidInputError("--plan and --device cannot be combined", hint="a plan names its device")
    if flags["rank"] is not None and flags["plan_file"] is None:
        raise InvalidInputError("--rank says nothing without --plan")
    for name in ("count", "nodes"):
        if flags[name] is not None and _is_machine(flags["device"]):
            raise InvalidInputError(f"--{name} says nothing without --device", hint="what is there is counted")
    if flags["force"] and flags["output"] is None:
        raise InvalidInputError("--force says nothing without --output")
    if flags["output"] is not None and not flags["output"].strip():
        raise InvalidInputError("--output is empty", hint="name a folder")
    if flags["lock"] and target in _UNLOCKED:
        raise InvalidInputError(f"{target} has no list of packages that uv could lock", hint="lock pip or uv instead")


def _is_machine(device: str | None) -> bool:
    """Whether this machine or a snapshot is meant, which say themselves how many devices they have."""
    return device in (None, "this") or device.endswith(".json")


def _wish(flags: Mapping[str, Any]) -> Any:
    from rigwise.sandbox.environment import Wish

    return Wish(**{name: flags[name] for name in ("framework", "driver", "python", "glibc", "index")})


def _place(flags: Mapping[str, Any]) -> Place:
    """Where the job will run: a plan's place, a device, or here."""
    from rigwise.sandbox.place import place_of_device, place_of_machine, place_of_plan

    if flags["plan_file"] is not None:
        from rigwise.edge import parse_json

        text, name = _plan_text(flags["plan_file"])
        return place_of_plan(parse_json(text, name), name, flags["rank"] or 1)
    if not _is_machine(flags["device"]):
        count, nodes = flags["count"] or flags["nodes"] or 1, flags["nodes"] or 1
        if count % nodes:
            raise InvalidInputError(f"{count} devices on {nodes} nodes", hint="a multiple of the nodes is needed")
        return replace(place_of_device(flags["device"]), count=count, nodes=nodes)
    from rigwise.machine.doctor.facts import facts_of
    from rigwise.machine.inspect import inspect
    from rigwise.machine.probe.source import Root
    from rigwise.machine.snapshot import read_snapshot

    if flags["device"] in (None, "this"):
        return place_of_machine(facts_of(inspect(Root())))
    return replace(place_of_machine(facts_of(read_snapshot(flags["device"]))), of=flags["device"])


def _plan_text(path: str) -> tuple[str, str]:
    """A plan's text and its name."""
    from rigwise.edge import read_text

    if path != "-":
        return read_text(path), path
    if sys.stdin.isatty():
        print("paste the plan, then Ctrl-D", file=sys.stderr)
    content = sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1)
    if not content.strip() or len(content) > STDIN_LIMIT_BYTES:
        raise InvalidInputError("the plan on stdin is " + ("too large" if content.strip() else "empty"))
    return content.decode("utf-8", "replace"), "stdin"


def _locked(target: str, setting: Setting) -> tuple[Setting, Lock, dict[str, str]]:
    """The setting and its files with every package resolved."""
    from rigwise.sandbox.lock import lock, lock_project
    from rigwise.sandbox.targets import render

    if target == "uv":
        found = lock_project(render(target, setting)["pyproject.toml"])
    else:
        found = lock(setting.environment)
        setting = replace(setting, locked=found.text)
    said = f"Resolved for these files by {found.by}: {found.packages} packages with their hashes."
    setting = replace(setting, level=f"{setting.level} {said}")
    own = {"uv.lock": found.text} if target == "uv" else {}
    return setting, found, {**render(target, setting), **own}


def _refuse_secrets(files: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Refuse to write the value of a variable that holds a secret.

    Raises:
        InvalidInputError: A file holds one; the message names the variable and the file, never the value.
    """
    from rigwise.launch.secrets import secrets_of

    for name, value in secrets_of(environment).items():
        where = next((path for path, text in files.items() if value in text), None)
        if where:
            raise InvalidInputError(
                f"the value of {name} would stand in {where}",
                hint=f"write '${name}' in single quotes: it is read there",
            )


def _document(target: str, setting: Setting, files: Mapping[str, str], locked: Lock | None) -> dict[str, Any]:
    from rigwise.edge import as_plain
    from rigwise.sandbox.targets import verified

    return {
        "schema": SCHEMA,
        "target": target,
        "place": as_plain(setting.place),
        "environment": as_plain(setting.environment),
        "files": dict(files),
        "verified": as_plain(verified(target)),
        "locked": {"by": locked.by, "packages": locked.packages} if locked else None,
    }


def _targets(*, as_json: bool) -> int:
    from rigwise.edge import as_plain
    from rigwise.report.setup_text import targets_text
    from rigwise.sandbox.targets import TARGETS, verified

    rows = [(name, kind.about, verified(name)) for name, kind in TARGETS.items()]
    if as_json:
        shown = [{"target": name, "about": about, "verified": as_plain(row)} for name, about, row in rows]
        print_json({"schema": SCHEMA, "targets": shown})
    else:
        console().print(targets_text(rows), end="", markup=False, soft_wrap=True)
    return 0


def _show(target: str, setting: Setting, files: Mapping[str, str], output: str | None, *, quiet: bool) -> None:
    """The first file, or what was written where."""
    from rigwise.report.setup_text import setup_text

    if output is not None:
        console().print(setup_text(target, setting, files, brief=quiet), end="", markup=False, soft_wrap=True)
        if not quiet:
            print(f"wrote {len(files)} file{'s' if len(files) != 1 else ''} into {output}", file=sys.stderr)
        return
    first, *others = files
    sys.stdout.write(files[first])
    sys.stdout.flush()
    if not quiet:
        also = f"; with {', '.join(others)} it is complete: --output DIR writes all" if others else ""
        print(f"this is {first}{also}", file=sys.stderr)
        if setting.level:
            print(setting.level, file=sys.stderr)
