"""``rigwise calibrate``: learn from measured steps."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import answer_options, print_json, print_table
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.calibrate.fit import Fit, Gathered
    from rigwise.estimate.learned import Learned
    from rigwise.measurement.measurement import Measurement, Rejected


@click.command("calibrate")
@click.argument("tables", nargs=-1, type=click.Path(path_type=Path))
@click.option("--from-store", is_flag=True, help="Learn from what rigwise bench and run kept of this machine.")
@click.option("--store", metavar="PLACE", help="Another store to learn from: a file, or the URL of a database.")
@click.option("--device", help="Fit this device only; rows of others are left out.")
@click.option("--from", "siblings", multiple=True, metavar="DEVICE", help="Learn from rows of this device too.")
@click.option("--graphs", type=click.Path(path_type=Path), help="A folder of captured graphs, NAME.rwg.")
@click.option("--capture", is_flag=True, help="Capture networks of timm that are not at hand: minutes each.")
@click.option("--output", type=click.Path(path_type=Path), help="The calibration file; the usual one if not given.")
@click.option("--fresh", is_flag=True, help="Forget what the file holds already.")
@click.option("--dry-run", is_flag=True, help="Report only.")
@click.option("--suggest", metavar="DEVICE", help="Say which five workloads to measure on a device.")
@answer_options
def command(*, tables: tuple[Path, ...], as_json: bool, quiet: bool, **flags: Any) -> int:
    """Correct the predictions for a device by what was measured on it.

    TABLES are CSV files in the columns of docs/reference/measurements.md. Three to five steps are
    enough to begin with. A row that cannot be fitted is named and left out. The file is read by
    every later prediction; --calibration none goes without.

    For example: rigwise calibrate steps.csv --device rtx-4090

    Or, behind rigwise bench: rigwise calibrate --from-store
    """
    if flags["suggest"]:
        return _suggest(flags["suggest"], as_json=as_json)
    from_store = flags["from_store"] or flags["store"]
    if not (tables or from_store):
        raise InvalidInputError(
            "calibrate needs a table",
            hint="rigwise calibrate steps.csv, --from-store behind rigwise bench, or --suggest",
        )
    from rigwise.calibrate.account import calibrate_document, place_of
    from rigwise.calibrate.fit import gather
    from rigwise.calibrate.shelf import Shelf
    from rigwise.machine.this import resolve_device
    from rigwise.measurement.tables import read_tables

    path, old = _old(flags["output"], fresh=flags["fresh"])
    shelf = Shelf(flags["graphs"], capture=flags["capture"])
    device = resolve_device(flags["device"]).id if flags["device"] else None
    siblings = {resolve_device(name).id for name in flags["siblings"]}
    measurements, rejected = read_tables(tables) if tables else ((), ())
    if from_store:
        kept, not_used = _kept(flags["device"] or "this", flags["store"])
        measurements, rejected = (*measurements, *kept), (*rejected, *not_used)
    only = {device, *siblings} - {None} if device else set()
    gathered = gather(measurements, shelf, only, _progress(quiet=quiet))
    left_out = sorted((*rejected, *gathered.left_out), key=place_of)
    read = len(measurements) + len(rejected)
    fit = _fit(gathered, old, device, siblings)
    document = calibrate_document(fit, left_out, read, str(path) if fit and not flags["dry_run"] else None)
    if fit and not flags["dry_run"]:
        _write(path, fit, tables, left_out)
    if as_json:
        print_json(document)
    elif not quiet or not fit:
        _print(document)
    if fit is None:
        in_force = f"{path} stays" if old else "the packaged constants stay"
        print(f"rigwise: no row could be fitted; {in_force} in force", file=sys.stderr)
        return 1
    if not quiet and not as_json:
        click.echo(f"wrote {path}" if not flags["dry_run"] else "nothing was written (--dry-run)")
    return 0


def _kept(name: str, place: str | None) -> tuple[list[Measurement], list[Rejected]]:
    """What the store, or another one, keeps of a device.

    Raises:
        InvalidInputError: Nothing that can be fitted.
    """
    from rigwise.calibrate.kept import measurements_of
    from rigwise.machine.this import resolve_device
    from rigwise.measurement.records import Selection
    from rigwise.measurement.store import open_store

    device = resolve_device(name)
    with open_store(place) as store:
        records = store.query(Selection(tags={"device": device.id}))
    found, left_out = measurements_of(records, device.units if device.kind == "cpu" else None)
    if not found and not left_out:
        raise InvalidInputError(
            f"the store holds no step and no figure of {device.id}", hint="rigwise bench measures this machine"
        )
    return found, left_out


def _old(output: Path | None, *, fresh: bool) -> tuple[Path, Learned | None]:
    """The file to write, and what it holds already.

    Raises:
        InvalidInputError: It cannot be read, or there is no place for one.
    """
    import os

    from rigwise.estimate.calibration import NONE, VARIABLE, read_calibration, usual_file

    named = os.environ.get(VARIABLE, "")
    path = output or (Path(named) if named and named != NONE else usual_file())
    if path is None:
        raise InvalidInputError("there is no folder for settings here", hint="--output FILE.toml names the file")
    if fresh or not path.exists():
        return path, None
    try:
        return path, read_calibration(path)
    except InvalidInputError as error:
        raise InvalidInputError(error.message, hint="--fresh forgets it and fits the given rows alone") from None


def _fit(gathered: Gathered, old: Learned | None, device: str | None, siblings: set[str]) -> Fit | None:
    """The new rows with those of earlier fits; None where there is no new row."""
    from rigwise.calibrate.fit import fit

    own = {row.device for row in gathered.rows} - siblings
    if not gathered.rows or (device and device not in own and not siblings):
        return None
    targets = ({device} if device else own) | (old.devices if old else set())
    rows = [*(old.evidence if old else ()), *gathered.rows]
    where = [*([""] * (len(rows) - len(gathered.rows))), *gathered.where]
    return fit(rows, where, datetime.date.today().isoformat(), targets)


def _write(path: Path, fit: Fit, tables: Sequence[Path], left_out: Sequence[Rejected]) -> None:
    from rigwise.calibrate.file import write_calibration

    words: dict[str, Any] = {"tables": [table.name for table in tables] or ["store"], "rows": len(fit.rows)}
    words["devices"] = sorted({row.device for row in fit.rows})
    write_calibration(path, fit.learned, {**words, "left_out": len(left_out)})


def _print(document: dict[str, Any]) -> None:
    from rigwise.report import calibration_text as text

    for line in text.row_lines(document):
        click.echo(line)
    if document["errors"]:
        print_table(text.ERROR_COLUMNS, text.error_rows(document), right=text.ERROR_RIGHT)
        print_table(*text.constant_table(document), right=text.CONSTANT_RIGHT)
    for line in text.sure_lines(document):
        click.echo(line)


def _suggest(name: str, *, as_json: bool) -> int:
    from rigwise.calibrate.suggest import suggest
    from rigwise.machine.this import resolve_device

    device = resolve_device(name)
    found = suggest(device)
    if as_json:
        print_json({"schema": "rigwise.calibrate.suggest/1", "device": device.id, "workloads": found})
        return 0
    rows = [(one.model, one.task, one.dtype, str(one.batch), f"{one.spread_left:.1%}") for one in found]
    print_table(("model", "task", "dtype", "batch", "spread left"), rows, right=("batch", "spread left"))
    return 0


def _progress(*, quiet: bool) -> Callable[[int, int], None]:
    if quiet or not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\rpredicted {done:,} of {total:,} rows", end=end, file=sys.stderr, flush=True)

    return show
