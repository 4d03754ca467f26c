"""The job that a file or the flags of ``rigwise plan`` describe, with the files that it names."""

from __future__ import annotations

from collections.abc import Mapping
from glob import glob, has_magic
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigwise.cli.output import write_output
from rigwise.cli.plan_options import flag_of, tables_of
from rigwise.errors import InvalidInputError, RigwiseError

if TYPE_CHECKING:
    from rigwise.workload.job import Job, StagedJob
    from rigwise.workload.job_file import Outside
    from rigwise.workload.serving_load import ServingJob


def is_job_file(target: str) -> bool:
    """Whether a word of the command line is a file of tables, and not a model."""
    return target.lower().endswith(".toml")


def expanded(targets: tuple[str, ...]) -> tuple[str, ...]:
    """The words of the command line, patterns that no shell has expanded as the files that they match.

    Raises:
        InvalidInputError: A pattern matches no file.
    """
    found: list[str] = []
    for target in targets:
        names = sorted(glob(target)) if has_magic(target) and not Path(target).exists() else [target]
        if not names:
            raise InvalidInputError(f"no file is called like {target}")
        found += names
    return tuple(found)


def job_at(target: str, given: dict[str, Any], own: str | None) -> Job | StagedJob:
    """The job of a file, or of a model and flags.

    Raises:
        RigwiseError: It cannot be read.
    """
    from rigwise.edge import read_text
    from rigwise.workload.job import COMMAND_LINE, StagedJob
    from rigwise.workload.job_file import job_from_tables, owned_from_toml, with_owned
    from rigwise.workload.stages import any_job_from_toml, with_owned_everywhere

    job: Job | StagedJob
    if is_job_file(target):
        if given:
            names = ", ".join(flag_of(name) for name in given)
            raise InvalidInputError(f"{names} cannot be combined with a job file", hint=f"write them into {target}")
        job = any_job_from_toml(read_text(target), target, outside(Path(target).parent))
    else:
        job = job_from_tables(tables_of(target, given), COMMAND_LINE, outside(Path()))
    if own is None:
        return job
    owned = owned_from_toml(read_text(own), own)
    return with_owned_everywhere(job, owned, own) if isinstance(job, StagedJob) else with_owned(job, owned, own)


def jobs_at(targets: tuple[str, ...], own: str | None) -> list[tuple[str, Job | StagedJob | ServingJob | RigwiseError]]:
    """Many job files; in place of one that cannot be read, what is wrong with it."""
    from rigwise.cli.plan_serving import serving_at

    jobs: list[tuple[str, Job | StagedJob | ServingJob | RigwiseError]] = []
    for target in targets:
        try:
            if not is_job_file(target):
                raise InvalidInputError(f"{target} is no job file", hint="several jobs are given as TOML files")
            jobs.append((target, serving_at(target, {}, own) or job_at(target, {}, own)))
        except RigwiseError as error:
            jobs.append((target, error))
    return jobs


def outside(folder: Path) -> Outside:
    """Other files, beside the one that names them, and the rates of currencies."""
    from rigwise.edge import read_text
    from rigwise.workload.job_file import Outside

    return Outside(text_of=lambda name: read_text(folder / name), money=money)


def money(text: str | float, own: Mapping[str, float]) -> tuple[float, str]:
    """Dollars, and at which rate an amount in another currency was changed.

    Raises:
        InvalidInputError: No amount of money, or a currency of which no rate is known.
    """
    if not isinstance(text, str):
        return text, ""
    from rigwise.market.currency import package_rates, to_usd, used, with_own

    rates = with_own(package_rates(), [f"{code}={usd!r}" for code, usd in own.items()])
    return to_usd(text, rates), used(text, rates)


def write_example(path: str | None, *, quiet: bool) -> None:
    """Print a job file with all keys explained, or write it where there is no file yet.

    Raises:
        InvalidInputError: There is a file of that name.
    """
    text = files("rigwise.workload").joinpath("job_example.toml").read_text(encoding="utf-8")
    if path is None:
        print(text, end="")
        return
    if Path(path).exists():
        raise InvalidInputError(f"{path} exists already", hint="give another name, or none to print the example")
    write_output(path, text, quiet=quiet)
