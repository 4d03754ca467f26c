"""``rigwise plan``: what to rent or use for a job, proven; ``rigwise plan verify`` proves it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rigwise.cli.application import APPLICATION_SCHEMA, application_at, plan_application_file, verify_application
from rigwise.cli.in_force import bring_in_force, calibration_option
from rigwise.cli.output import answer_options, console, print_json, write_output
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.workload.case import METHODS, OPTIMIZERS

#: Flag -> table and key of a job file that it stands for.
_KEYS = {
    **dict.fromkeys(
        ("task", "method", "lora_rank", "optimizer", "samples", "tokens", "steps", "epochs", "dataset_size"), "workload"
    ),
    **dict.fromkeys(("batch", "seq", "context", "image_size"), "workload"),
    **dict.fromkeys(("deadline", "budget", "confidence", "allow_quantised"), "constraints"),
    **dict.fromkeys(("providers", "regions", "devices", "spot", "buy", "max_price_age"), "market"),
    **dict.fromkeys(("minimize", "gap", "top"), "objective"),
}

EXAMPLES = """\b
Examples:
  rigwise plan resnet50 --task train --samples 128e6 --deadline 12h
  rigwise plan llama-3.1-8b --method lora --tokens 20M --seq 2048 --budget '$100'
  rigwise plan job.toml --output plan.json
  rigwise plan app.toml --minimize latency
  rigwise plan verify plan.json
"""


@click.command("plan", epilog=EXAMPLES)
@click.argument("target", nargs=-1, required=True, metavar="MODEL | JOB.toml | APP.toml | verify PLAN.json")
@click.option("--task", help="train, infer, prefill or decode.  [default: train]")
@click.option("--samples", help="How much work: samples ...")
@click.option("--tokens", help="... or tokens ...")
@click.option("--steps", help="... or steps ...")
@click.option("--epochs", help="... or epochs of --dataset-size samples.")
@click.option("--dataset-size", help="Samples of one epoch.")
@click.option("--batch", help="Global batch of one step.  [default: the model's reference batch]")
@click.option("--seq", help="New tokens per sequence.")
@click.option("--context", help="Tokens in the cache when one more is decoded.")
@click.option("--image-size", help="Height and width of images.")
@click.option("--method", type=click.Choice(METHODS), help="Full training, LoRA or QLoRA.  [default: full]")
@click.option("--lora-rank", type=int, help="Rank of the adapters.  [default: 16]")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="[default: adamw]")
@click.option("--deadline", help="Longest time, 24h say.")
@click.option("--budget", help="Most money, $100 say.")
@click.option("--confidence", help="Probability with which limits are kept.  [default: 0.9]")
@click.option(
    "--minimize",
    type=click.Choice(("cost", "time", "energy", "carbon", "latency", "throughput")),
    help="What is best.  [default: cost; of an application the highest throughput]",
)
@click.option("--spot/--no-spot", default=None, help="Use capacity that can be taken away.  [default: no-spot]")
@click.option("--own", metavar="FILE", help="Machines that already stand there: a TOML file of [[owned]] tables.")
@click.option("--buy/--no-buy", default=None, help="Consider buying (not planned yet).  [default: no-buy]")
@click.option("--provider", "providers", multiple=True, help="Only this provider; may be repeated.")
@click.option("--region", "regions", multiple=True, help="Only this region; may be repeated.")
@click.option("--device", "devices", multiple=True, help="Only this device; may be repeated.")
@click.option("--max-price-age", help="Older prices do not count.  [default: 365d]")
@click.option("--allow-quantised", is_flag=True, default=None, help="Allow 8- and 4-bit weights for inference.")
@click.option("--gap", help="A plan at most this much worse than the best will do.  [default: 0]")
@click.option("--top", type=int, help="Plans to show.  [default: 5]")
@click.option("--output", metavar="FILE", help="Write the JSON document to a file as well.")
@click.option("--report", metavar="FILE", help="Write a self-contained HTML page.")
@calibration_option
@answer_options
def command(*, target: tuple[str, ...], own: str | None, output: str | None, report: str | None, **flags: Any) -> int:
    """What to rent or use for a job, the cheapest that keeps the limits, and the proof.

    For example: rigwise plan resnet50 --samples 128e6 --deadline 12h
    """
    as_json, quiet = flags.pop("as_json"), flags.pop("quiet")
    bring_in_force(flags.pop("calibration"))
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if target[0] == "verify":
        return _verify(target[1:], [*given, *(["own"] if own else [])], as_json=as_json)
    if len(target) != 1:
        raise InvalidInputError(f"plan takes one model or job file, not {len(target)}: {' '.join(target)}")
    application = application_at(target[0]) if Path(target[0]).is_file() else None
    if application:
        files = {"own": own, "output": output, "report": report}
        written = {name: path for name, path in files.items() if path is not None}
        return plan_application_file(application, {**given, **written, "as_json": as_json, "quiet": quiet})
    from rigwise.search.plan import document, infeasible_document, plan

    job = _job(target[0], given, own)
    try:
        result = plan(job, _world(job.model))
    except InfeasibleError as error:
        if as_json:
            print_json(infeasible_document(job, error))
        raise
    answer = document(result)
    page = _page(answer) if report else ""
    if output:
        write_output(output, _json_text(answer), quiet=quiet)
    if report:
        write_output(report, page, quiet=quiet)
    if as_json:
        print_json(answer)
    else:
        from rigwise.report.plan_text import plan_text

        console().print(plan_text(result, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0


def _job(target: str, given: dict[str, Any], own: str | None) -> Any:
    """The job that a file or the flags describe."""
    from rigwise.edge import read_text
    from rigwise.workload.job import COMMAND_LINE, job_from_tables, job_from_toml, owned_from_toml, with_owned

    if target.lower().endswith(".toml"):
        if given:
            names = ", ".join(_flag(name) for name in given)
            raise InvalidInputError(f"{names} cannot be combined with a job file", hint=f"write them into {target}")
        job = job_from_toml(read_text(target), target)
    else:
        tables: dict[str, dict[str, Any]] = {"workload": {"model": target}}
        for name, value in given.items():
            tables.setdefault(_KEYS[name], {})[name] = value
        job = job_from_tables(tables, COMMAND_LINE)
    return with_owned(job, owned_from_toml(read_text(own), own), own) if own else job


def _world(model: str, day: Any = None) -> Any:
    from datetime import date

    from rigwise.search.plan import catalogue_world

    return catalogue_world(model, day or date.today())


def _verify(paths: tuple[str, ...], flags: list[str], *, as_json: bool) -> int:
    """Prove a plan again; 1 if it does not hold."""
    if len(paths) != 1 or flags:
        raise InvalidInputError(
            "plan verify takes one plan file and no other flags", hint="rigwise plan verify PLAN.json"
        )
    from rigwise.edge import parse_json, read_text
    from rigwise.search.plan import read_document, verify

    answer = parse_json(read_text(paths[0]), paths[0])
    if isinstance(answer, dict) and answer.get("schema") == APPLICATION_SCHEMA:
        return verify_application(answer, paths[0], as_json=as_json)
    claim = read_document(answer, paths[0])
    faults = verify(claim, _world(claim.job.model, claim.today))
    if as_json:
        print_json({"schema": "rigwise.plan.verify/1", "holds": not faults, "faults": faults})
    elif faults:
        click.echo("\n".join(faults))
    else:
        click.echo(f"{paths[0]}: the certificate holds for all {claim.certificate.candidates:,} candidates")
    return 1 if faults else 0


def _flag(name: str) -> str:
    return "--" + {"providers": "provider", "regions": "region", "devices": "device"}.get(name, name).replace("_", "-")


def _json_text(answer: Any) -> str:
    import json

    from rigwise.edge import as_plain

    return json.dumps(as_plain(answer), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _page(answer: dict[str, Any]) -> str:
    """The report, with the command as it was typed."""
    import shlex

    from rigwise.report.evidence import with_evidence
    from rigwise.report.plan_page import plan_page

    return plan_page(with_evidence(answer), command="rigwise " + shlex.join(sys.argv[1:]))
