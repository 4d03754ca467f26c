"""Which measurements correct an answer: ``--calibration`` and ``--measured``, shared by all commands that predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from rigwise.errors import InvalidInputError

#: Rows named one by one.
_NAMED = 6

F = TypeVar("F", bound=Callable[..., Any])


def calibration_option(function: F) -> F:
    """Add ``--calibration``."""
    words = "A file of rigwise calibrate, or none.  [default: the usual one, if it exists]"
    return click.option("--calibration", metavar="FILE", help=words)(function)


def measured_option(function: F) -> F:
    """Add ``--measured``."""
    words = "CSV of measured steps, of this device or a sibling, to learn from."
    return click.option("--measured", type=click.Path(path_type=Path), help=words)(function)


def bring_in_force(
    calibration: str | None, measured: Path | None = None, devices: Sequence[str] = (), model: str = ""
) -> None:
    """Let the rest of the command answer with these measurements.

    Args:
        calibration: A file, ``none``, or None for the usual one.
        measured: A table to learn from besides.
        devices: Names that are asked about.
        model: The MODEL that is asked about.

    Raises:
        InvalidInputError: The file is no calibration or of other devices, or no row of the table can be used.
    """
    if calibration is None and measured is None:
        return
    from rigwise.estimate.calibration import NONE, calibrated_with, read_calibration, user_calibration

    if calibration is None:
        learned = user_calibration()
    else:
        learned = None if calibration == NONE else read_calibration(calibration)
    ids = [_id(name) for name in devices]
    if calibration and learned and ids and not learned.devices.intersection(ids):
        raise InvalidInputError(
            f"{calibration} was fitted on {', '.join(sorted(learned.devices))}, not on {', '.join(ids)}",
            hint=f"rigwise calibrate FILE --device {ids[0]}, or --calibration none",
        )
    if measured is not None:
        learned = _with_rows(measured, learned, ids, model)
    click.get_current_context().with_resource(calibrated_with(learned))


def _id(name: str) -> str:
    from rigwise.machine.this import resolve_device

    return resolve_device(name).id


def _with_rows(table: Path, learned: Any, ids: Sequence[str], model: str) -> Any:
    """What was learned before and what the rows of a table say, for these devices.

    Graphs beside a captured MODEL count as those of their names. Of timm only MODEL itself is captured.
    """
    from rigwise.calibrate.fit import fit, gather
    from rigwise.calibrate.shelf import Shelf
    from rigwise.measurement.tables import read_tables

    measurements, rejected = read_tables([table])
    of_timm = model.startswith("timm:")
    if of_timm:
        measurements = tuple(m for m in measurements if m.model.removeprefix("timm:") == model.removeprefix("timm:"))
    beside = Path(model).parent if model.endswith(".rwg") else None
    found = gather(measurements, Shelf(beside, capture=of_timm))
    left_out = (*rejected, *found.left_out)
    if not found.rows:
        why = f": {left_out[0].where}: {left_out[0].reason}" if left_out else ""
        raise InvalidInputError(f"no row of {table} can be used{why}")
    for one in left_out[:_NAMED]:
        click.echo(f"rigwise: left out {one.where}: {one.reason}", err=True)
    if len(left_out) > _NAMED:
        click.echo(f"rigwise: left out {len(left_out) - _NAMED} more rows", err=True)
    earlier = learned.evidence if learned else ()
    targets = {*ids, *(learned.devices if learned else ())}
    return fit((*earlier, *found.rows), [""] * (len(earlier) + len(found.rows)), "", targets).learned
