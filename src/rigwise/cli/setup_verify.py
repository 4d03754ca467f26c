"""``rigwise setup verify``: does an environment work."""

from __future__ import annotations

import sys
from typing import Any

import click

from rigwise.cli.output import answer_options, console, print_json
from rigwise.errors import InvalidInputError

EXAMPLES = """\b
Examples:
  rigwise setup verify
  rigwise setup verify --in job/.venv --count 8 --disk 200GB
  rigwise setup verify --workers 16 --folder /data/run --json
"""


@click.command("verify", epilog=EXAMPLES)
@click.option("--in", "environment", metavar="DIR", help="Another environment, which needs no rigwise.")
@click.option("--framework", default="", help="torch, jax or tensorflow.  [default: the first that is there]")
@click.option("--count", type=click.IntRange(0, 1024), help="GPUs that have to be seen.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Of the data loader.  [default: one per CPU, up to 8]")
@click.option("--folder", metavar="DIR", default=".", help="Where the job will write.  [default: here]")
@click.option("--disk", metavar="SIZE", help="Room that it needs there.  [default: 5 % of the disk, up to 20 GiB]")
@click.option("--within", metavar="TIME", default="180s", help="Time limit of each check.  [default: 180s]")
@answer_options
def verify(*, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Does this environment work: imports, GPUs, arithmetic, all-reduce, data loader, shared memory, disk.

    Each check is a process of its own. Exit code 1 if one finds a problem, with what rigwise doctor finds; what cannot
    be tried here is unknown and says why.
    """
    from rigwise.report.verify_text import verification_text
    from rigwise.sandbox.verify import document
    from rigwise.sandbox.verify import verify as run

    asked = _asked(flags)
    shown = not quiet and not as_json and sys.stderr.isatty()

    def tell(name: str) -> None:
        print(f"\r\x1b[Kchecking {name} ...", end="", file=sys.stderr, flush=True)

    try:
        found = run(asked, tell) if shown else run(asked)
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if as_json:
        print_json(document(found))
    else:
        console().print(verification_text(found, brief=quiet), end="", markup=False, soft_wrap=True)
    return 0 if found.holds else 1


def _asked(flags: dict[str, Any]) -> Any:
    """What is to be verified, checked."""
    from pathlib import Path

    from rigwise.errors import near_matches
    from rigwise.machine.doctor.install import FRAMEWORKS
    from rigwise.sandbox.verify import Asked, python_of
    from rigwise.units import parse_bytes, parse_seconds

    framework, folder = flags["framework"], flags["folder"]
    if framework and framework not in FRAMEWORKS:
        close = near_matches(framework, FRAMEWORKS) or f"one of {', '.join(FRAMEWORKS)}"
        raise InvalidInputError(f"there is no framework {framework[:40]!r}", hint=close)
    if not folder.strip() or not Path(folder).is_dir():
        raise InvalidInputError(
            f"--folder is {folder[:200]!r}, which is no folder", hint="the job's folder is expected"
        )
    limit_s = parse_seconds(flags["within"])
    if not 0.1 <= limit_s <= 86_400:
        raise InvalidInputError(f"--within is {flags['within'][:40]!r}", hint="between 0.1s and 24h is expected")
    disk_bytes = None if flags["disk"] is None else parse_bytes(flags["disk"])
    if disk_bytes is not None and not 0 <= disk_bytes < 1e18:
        raise InvalidInputError(f"--disk is {flags['disk'][:40]!r}", hint="bytes are expected, 200GB say")
    return Asked(
        python=python_of(flags["environment"]) if flags["environment"] is not None else sys.executable,
        framework=framework, gpus=flags["count"], workers=flags["workers"], folder=folder, disk_bytes=disk_bytes,
        limit_s=limit_s,
    )  # fmt: skip
