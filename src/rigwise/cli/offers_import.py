"""``rigwise offers import``, ``refresh``, ``imports`` and ``forget``: price catalogues of other projects."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.catalogue_table import print_words
from rigwise.cli.output import answer_options, print_json
from rigwise.errors import InvalidInputError, RigwiseError

if TYPE_CHECKING:
    from datetime import date

    from rigwise.facts.offer_store import Import

KINDS = ("skypilot", "gpuhunt", "csv")
_DATED_BY = {"given": "given", "file": "the file's time", "download": "downloaded", "rows": "in its rows"}

IMPORT_EXAMPLES = """\b
Examples:
  rigwise offers import skypilot                 (~/.sky/catalogs)
  rigwise offers import gpuhunt FOLDER --only aws
  rigwise offers import csv prices.csv --as-of 2026-09-01
"""


def _today() -> date:
    from datetime import UTC, datetime

    return datetime.now(UTC).date()


@click.command("import", epilog=IMPORT_EXAMPLES)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--as-of", default="", metavar="DATE", help="The day of prices that carry none.  [default: the file's time]"
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this provider's file; may be repeated.")
@click.option("--force", is_flag=True, help="Take a file with far fewer offers than the one before it.")
@click.option("--dry-run", is_flag=True, help="Report only.")
@answer_options
def import_command(
    *, kind: str, path: Path | None, as_of: str, only: tuple[str, ...], force: bool, dry_run: bool, **flags: Any
) -> int:
    """Add the price catalogue of another project, or a table of your own.

    PATH is SkyPilot's catalogue folder (~/.sky/catalogs if not given), gpuhunt's folder, table or
    archive (GPUHUNT_CATALOG_DIR), or a CSV. Each provider is an import of its own and replaces the
    one before it. Rows that are left out are counted, each under its reason.
    """
    from rigwise.facts.imports import take

    where = path or _usual_place(kind)
    found = _chosen(take.sources(kind, where), only)
    today = _today()
    done: list[Import] = []
    failed: dict[str, RigwiseError] = {}
    for name, file in found.items():
        try:
            day = take.day_of(file, as_of, today)
            about, offers = take.take(take.read(kind, name, file, day.as_of), day, today)
            if not dry_run:
                take.keep(about, offers, force=force)
            done.append(about)
        except RigwiseError as error:
            if len(found) == 1 or (as_of and "--as-of" in error.message):
                raise
            failed[name] = error
    _report(done, failed, written=not dry_run, flags=flags)
    return 1 if failed else 0


def _usual_place(kind: str) -> Path:
    if kind == "skypilot":
        return Path("~/.sky/catalogs").expanduser()
    if kind == "gpuhunt" and (folder := os.environ.get("GPUHUNT_CATALOG_DIR")):
        return Path(folder)
    raise InvalidInputError(f"offers import {kind} needs a PATH")


def _chosen(found: Mapping[str, Path], only: Sequence[str]) -> Mapping[str, Path]:
    for name in only:
        if name not in found:
            raise InvalidInputError(f"there is no file for {name!r}", hint=f"there are {', '.join(found)}")
    return {name: file for name, file in found.items() if not only or name in only}


@click.command("refresh")
@click.argument("kind", default="skypilot", type=click.Choice(KINDS[:2]))
@click.option("--only", multiple=True, metavar="NAME", help="Only this provider; may be repeated.")
@click.option("--mirror", default="", metavar="URL", help="Another server with the same paths.")
@click.option("--force", is_flag=True, help="Take a file with far fewer offers than the one before it.")
@answer_options
def refresh_command(*, kind: str, only: tuple[str, ...], mirror: str, force: bool, **flags: Any) -> int:
    """Download a published price catalogue and import it: the only action here that uses the network.

    A download that breaks off is resumed by the next one. A file that is cut off, damaged or refused
    leaves what was imported before. Proxies of the environment are used.
    """
    from rigwise.facts.registries import registries
    from rigwise.market.refresh import Wish, refresh

    catalogue = registries().catalogues[kind]
    wish = Wish(kind=kind, catalogue=catalogue, names=only, mirror=mirror, force=force)
    done, failed = refresh(wish, _today(), _progress(quiet=flags["quiet"] or flags["as_json"]))
    if len(failed) == 1 and not done:
        raise next(iter(failed.values()))
    if not (mirror or flags["quiet"] or flags["as_json"]):
        click.echo(f"from addresses read in {catalogue.source} ({catalogue.date}); never tried by our tests", err=True)
    _report(done, failed, written=True, flags=flags)
    return 1 if failed else 0


_PROGRESS_WIDTH = 40


def _progress(*, quiet: bool) -> Callable[[str, int], None]:
    """A line on stderr that overwrites itself, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        return lambda name, arrived: None

    def show(name: str, arrived: int) -> None:
        line = f"{name}: {arrived / 1e6:.1f} MB"
        print(f"\r{line:<{_PROGRESS_WIDTH}}", end="\r", file=sys.stderr, flush=True)

    return show


def _report(
    done: Sequence[Import], failed: Mapping[str, RigwiseError], *, written: bool, flags: Mapping[str, Any]
) -> None:
    from rigwise.facts.offer_store import store_folder

    folder = str(store_folder() or "")
    if flags["as_json"]:
        errors = [{"name": name, **error.as_dict()} for name, error in failed.items()]
        document = {"imports": done, "failed": errors, "folder": folder, "written": written}
        print_json({"schema": "rigwise.offers.import/1", **document})
        return
    if done:
        _print_imports(done)
    left_out = Counter({reason: 0 for about in done for reason in about.excluded})
    for about in done:
        left_out.update(about.excluded)
    if not flags["quiet"]:
        for reason, number in left_out.most_common():
            click.echo(f"{number:,} left out: {reason}")
    for name, error in failed.items():
        click.echo(f"rigwise: {name} stays as it was: {' '.join(str(error).split())}", err=True)
    if done and not flags["quiet"]:
        kept = f"kept in {folder}; rigwise offers lint --imported names what is odd in them"
        click.echo(kept if written else "nothing was written (--dry-run)", err=True)


def _print_imports(done: Sequence[Import]) -> None:
    print_words(
        ["import", "rows", "offers", "prices of", "dated by"],
        [[i.name, f"{i.read:,}", f"{i.kept:,}", i.as_of, _DATED_BY.get(i.dated_by, i.dated_by)] for i in done],
    )


@click.command("imports")
@answer_options
def imports_command(**flags: Any) -> int:
    """List what was imported, from where and of which day."""
    from rigwise.facts.offer_store import imports, store_folder

    found = imports()
    if flags["as_json"]:
        print_json({"schema": "rigwise.offers.imports/1", "imports": found, "folder": str(store_folder() or "")})
    elif found:
        _print_imports(found)
    elif not flags["quiet"]:
        click.echo("nothing was imported", err=True)
    return 0


@click.command("forget")
@click.argument("name")
@answer_options
def forget_command(*, name: str, **flags: Any) -> int:
    """Remove what was imported under a name."""
    from rigwise.facts.offer_store import forget

    about = forget(name)
    if flags["as_json"]:
        print_json({"schema": "rigwise.offers.forget/1", "name": name, "import": about})
    elif not flags["quiet"]:
        click.echo(f"forgot {name}" + (f", {about.kept:,} offers" if about else ", which was damaged"))
    return 0
