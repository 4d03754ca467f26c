"""``rigwise rig``: check a parts list, or let the search propose one."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.cli.output import answer_options, console, print_json, write_output
from rigwise.errors import InvalidInputError
from rigwise.workload.case import METHODS, OPTIMIZERS

if TYPE_CHECKING:
    from rigwise.rig.types import Feed, Rig
    from rigwise.workload.choices import Task

F = TypeVar("F", bound=Callable[..., Any])

#: Flags that describe the job, by the table of a job file that they stand in.
#: No amount of a flag is larger, in dollars, seconds or bytes.
_MOST = 1e15
_JOB_KEYS = ("task", "batch", "seq", "image_size", "method", "optimizer")

EXAMPLES = """\b
Examples:
  rigwise rig check examples/rigs/alienware-aurora-r12.toml --mains us-15
  rigwise rig build --budget '$2000' --for resnet50
"""
CHECK_EXAMPLES = """\b
Examples:
  rigwise rig check parts.txt --mains eu
  rigwise rig check my-rig.toml --for resnet50 --batch 256
"""
BUILD_EXAMPLES = """\b
Examples:
  rigwise rig build --budget '$2000' --for bert-large --mains us-15
  rigwise rig build --device rtx-4090 --minimize cost
  rigwise rig build --from my-rig.toml --budget '$800' --for resnet50
"""


def job_options(function: F) -> F:
    """The job: a file, or a model and a few flags."""
    for option in (
        click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="[default: adamw]"),
        click.option("--method", type=click.Choice(METHODS), help="Full training, LoRA or QLoRA.  [default: full]"),
        click.option("--image-size", help="Height and width of images."),
        click.option("--seq", help="New tokens per sequence."),
        click.option("--batch", help="Global batch of one step.  [default: the model's reference batch]"),
        click.option("--task", help="train, infer, prefill or decode.  [default: train]"),
        click.option("--for", "model", metavar="MODEL", help="The model that it is for."),
        click.option("--job", metavar="JOB.toml", help="A job file in place of the flags."),
        click.option("--mains", metavar="NAME", help="The circuit: us-15, us-20, eu, uk or jp."),
    ):
        function = option(function)
    return function


@click.group("rig", epilog=EXAMPLES, no_args_is_help=False)
def command() -> None:
    """Check a parts list, or propose the parts for a budget.

    The parts and their prices are those of rigwise parts.
    """


@command.command("check", epilog=CHECK_EXAMPLES)
@click.argument("file", metavar="FILE")
@job_options
@answer_options
def check_command(*, file: str, as_json: bool, quiet: bool, **flags: Any) -> int:
    """What is wrong with the parts in FILE: TOML, or text copied from PCPartPicker.

    Exit code 1 if there is a problem.
    """
    from dataclasses import replace

    from rigwise.rig.check import check, document, has_problems
    from rigwise.rig.judged import Given
    from rigwise.rig.speed import demand_of

    rig = _rig(file)
    task = _task(flags)
    rig = replace(rig, feed=_feed(rig.feed, task)) if task else rig
    demand = demand_of(rig, task) if task else None
    given = Given(mains=flags["mains"] or rig.mains, demand=demand)
    findings = check(rig, given)
    if as_json:
        print_json(document(rig, given, findings))
    else:
        from rigwise.report.rig_text import check_text

        console().print(check_text(rig, findings, brief=quiet), end="", markup=False, soft_wrap=True)
    return 1 if has_problems(findings) else 0


@command.command("build", epilog=BUILD_EXAMPLES)
@click.option("--budget", help="Most money, $2000 say.")
@click.option("--deadline", help="Longest time of the job, 24h say; with --job.")
@click.option("--minimize", type=click.Choice(("time", "cost")), help="[default: time with --budget, else cost]")
@click.option("--device", "devices", multiple=True, help="Only this accelerator; may be repeated.")
@click.option("--vendor", "vendors", multiple=True, help="Only accelerators of this maker; may be repeated.")
@click.option("--count", type=click.IntRange(1, 8), help="Exactly this many cards.  [default: what fits]")
@click.option("--storage", default="1TB", show_default=True, help="Least capacity of the disk.")
@click.option("--price", type=click.Choice(("low", "median")), default="low", show_default=True, help="Of those asked.")
@click.option("--from", "owned", metavar="RIG", help="Upgrade the computer of this parts list.")
@click.option("--parts", "extra", metavar="FILE", help="A parts list whose priced parts can be bought as well.")
@click.option("--output", metavar="FILE", help="Write the JSON document to a file as well.")
@job_options
@answer_options
def build_command(*, as_json: bool, quiet: bool, output: str | None, **flags: Any) -> int:
    """The parts for a budget, or the best change to a computer, proven.

    Without --for or --job the parts are chosen for training resnet50.
    """
    from rigwise.rig.build import build, document

    answer = build(_ask(flags))
    plain = document(answer)
    if output:
        import json

        write_output(output, json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n", quiet=quiet)
    if as_json:
        print_json(plain)
    else:
        from rigwise.report.rig_text import build_text

        console().print(build_text(answer, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0


@command.command("verify")
@click.argument("file", metavar="BUILD.json")
@answer_options
def verify_command(*, file: str, as_json: bool, quiet: bool) -> int:
    """Prove a build again that rig build --output wrote.

    For example: rigwise rig verify build.json
    """
    from rigwise.edge import parse_json, read_text
    from rigwise.rig.certificate import verify_build
    from rigwise.rig.claim import read_claim

    del quiet  # the answer is all there is
    claim = read_claim(parse_json(read_text(file), file), file)
    faults = verify_build(claim)
    if as_json:
        print_json({"schema": "rigwise.plan.verify/1", "holds": not faults, "faults": faults})
    else:
        click.echo("\n".join(faults) or f"{file}: no other of {claim.certificate.candidates:,} builds is better")
    return 1 if faults else 0


def _ask(flags: dict[str, Any]) -> Any:
    """What the flags of ``rig build`` ask for."""
    from datetime import date

    from rigwise.facts import catalogue
    from rigwise.rig.build import Ask
    from rigwise.rig.figures import mains
    from rigwise.rig.options import Wish
    from rigwise.rig.types import Feed, Rig
    from rigwise.units import parse_bytes

    owned, extra = (_rig(flags[name]) if flags[name] else None for name in ("owned", "extra"))
    task = _settled(flags if flags["job"] or flags["model"] else {**flags, "model": "resnet50"})
    budget_usd, deadline_s = _limits(flags, task.job)
    name = flags["mains"] or (owned.mains if owned else "")
    if name:
        mains(name)
    vendors = tuple(vendor.lower() for vendor in flags["vendors"])
    known = {device.vendor.lower() for device in catalogue.devices()}
    if not set(vendors) <= known:
        raise InvalidInputError(f"no accelerator is made by {', '.join(sorted(set(vendors) - known))}")
    wish = Wish(
        devices=tuple(catalogue.device(device).id for device in flags["devices"]),
        vendors=vendors,
        count=flags["count"],
        price=flags["price"],
        storage_bytes=_read("--storage", flags["storage"], parse_bytes),
        extra=extra or Rig(),
    )
    given_feed = owned.feed if owned else extra.feed if extra else Feed()
    return Ask(
        task=task,
        minimize=flags["minimize"] or ("time" if budget_usd < inf else "cost"),
        budget_usd=budget_usd,
        deadline_s=deadline_s,
        mains=name,
        wish=wish,
        owned=owned,
        feed=_feed(given_feed, task),
        today=date.today(),
    )


def _limits(flags: dict[str, Any], job: Any) -> tuple[float, float]:
    """Budget and deadline: of the flags, else of the job file, else none."""
    from rigwise.units import parse_seconds, parse_usd

    if flags["deadline"] and not flags["job"]:
        raise InvalidInputError("--deadline needs an amount of work", hint="give a job file with --job")
    budget = _read("--budget", flags["budget"], parse_usd) if flags["budget"] else job.budget_usd
    deadline = _read("--deadline", flags["deadline"], parse_seconds) if flags["deadline"] else job.deadline_s
    return inf if budget is None else budget, inf if deadline is None else deadline


def _read(flag: str, text: str, parser: Callable[[str], float]) -> float:
    """A quantity of a flag, above zero."""
    try:
        number = parser(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{flag}: {error.message}", hint=error.hint) from None
    if not 0 < number <= _MOST:
        raise InvalidInputError(f"{flag} is {text}", hint=f"give an amount above 0, up to {_MOST:g}")
    return number


def _rig(path: str) -> Rig:
    from rigwise.edge import read_text
    from rigwise.rig.reader import read_rig

    return read_rig(read_text(path, limit_bytes=2**20), Path(path).name)


def _task(flags: dict[str, Any]) -> Task | None:
    """The job that a file or the flags describe; None if neither is given."""
    given = [key for key in _JOB_KEYS if flags[key] is not None]
    if flags["job"] or flags["model"]:
        return _settled(flags)
    if given:
        raise InvalidInputError(f"--{given[0].replace('_', '-')} says how to run a model", hint="add --for MODEL")
    return None


def _settled(flags: dict[str, Any]) -> Task:
    """The job of a file, or of a model and the flags beside it."""
    from rigwise.edge import read_text
    from rigwise.graph.load import load_model
    from rigwise.workload.choices import settle
    from rigwise.workload.job_file import job_from_tables, job_from_toml

    given = {key: flags[key] for key in _JOB_KEYS if flags[key] is not None}
    if flags["job"]:
        named = (["--for"] if flags["model"] else []) + [f"--{key.replace('_', '-')}" for key in given]
        if named:
            raise InvalidInputError(f"{', '.join(named)} cannot be combined with --job", hint="write it into the file")
        job = job_from_toml(read_text(flags["job"]), flags["job"])
    else:
        job = job_from_tables({"workload": {"model": flags["model"], "steps": 1, **given}}, "command line")
    return settle(job, load_model(job.model))


def _feed(feed: Feed, task: Task | None) -> Feed:
    """The input pipeline of the parts list, filled up with what the job says of its data."""
    from dataclasses import replace

    data = task.job.data if task else None
    if data is None:
        return feed
    decode = feed.decode or ("jpeg" if data.format == "jpeg" else "")
    return replace(feed, decode=decode, dataset_bytes=feed.dataset_bytes or data.size_bytes)
