"""Predictions beside what was measured here: the newest of each figure that says something of steps or operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rigwise.errors import RigwiseError

if TYPE_CHECKING:
    from rigwise.calibrate.question import Question
    from rigwise.calibrate.score import Score
    from rigwise.measurement.measurement import Measurement
    from rigwise.measurement.records import Record

#: Records that are looked through, the newest.
_MOST_RECORDS = 2000


def judged_document() -> dict[str, Any]:
    """Measured and predicted times of the store, as the page of measurements draws them.

    Raises:
        RigwiseError: The store cannot be read.
    """
    from rigwise.calibrate.score import score
    from rigwise.calibrate.shelf import Shelf

    scores, left_out = score(_questions(_records()), Shelf())
    points = [_point(one) for one in scores if one.measured_s > 0 and one.p50_s > 0]
    return {"schema": "rigwise.serve.judged/1", "points": points, "left_out": len(left_out)}


def _records() -> list[Record]:
    from rigwise.measurement.place import locate
    from rigwise.measurement.records import Selection
    from rigwise.measurement.store import open_store

    if not locate(None).exists:
        return []
    with open_store(None) as store:
        return list(store.query(Selection(limit=_MOST_RECORDS)))


def _questions(records: list[Record]) -> list[Question]:
    """What the records ask; those that cannot be asked are left out."""
    from rigwise.calibrate.question import question

    found = []
    for measurement in _measurements(records):
        try:
            found.append(question(measurement))
        except RigwiseError:
            continue
    return found


def _measurements(records: list[Record]) -> list[Measurement]:
    from rigwise.calibrate.kept import measurements_of
    from rigwise.machine.this import resolve_device

    found: list[Measurement] = []
    for name in sorted({str(record.tags["device"]) for record in records if "device" in record.tags}):
        try:
            device = resolve_device(name)
        except RigwiseError:
            continue
        of_device = [record for record in records if record.tags.get("device") == name]
        found += measurements_of(of_device, device.units if device.kind == "cpu" else None)[0]
    return found


def _point(one: Score) -> dict[str, Any]:
    asked = one.question
    row = asked.measurement
    what = row.model if asked.is_step else f"{row.model.removeprefix('op:')} {row.shape}"
    batch = f", batch {row.batch}" if asked.is_step and row.batch else ""
    words = f"{what}, {row.task}{batch}, {row.precision}, {asked.device.id}"
    return {"words": words, "measured_s": one.measured_s, "predicted_s": one.p50_s, "is_step": asked.is_step}
