"""The figures of a run as records of the store of measurements."""

from __future__ import annotations

import json
from dataclasses import replace

from rigwise.bench.suite import Report
from rigwise.bench.timing import quantile
from rigwise.bench.types import OUTCOMES, TIME, Figure
from rigwise.errors import RigwiseError
from rigwise.measurement.records import Record, Tag, machine_id
from rigwise.measurement.store import Store

#: Parameters that do not tell what was measured: results, and what others are compared with.
_UNTOLD = OUTCOMES | {"beside"}
#: More of the CPU's time taken by others marks a figure as taken on a busy machine.
_BUSY_FRAC = 0.1


class Keeper:
    """Puts the figures of a run into a store while it goes on: what ends the run early costs what was not yet taken.

    A store that fails costs no measurement: ``fault`` says why, and the next ``keep`` tries again.
    """

    def __init__(self, store: Store, snapshot: str) -> None:
        self.fault = ""
        self._store = store
        self._snapshot = snapshot
        self._kept = 0

    def keep(self, report: Report) -> None:
        """Put in what was measured since the last time; figures of a report only grow in number."""
        try:
            self._store.add(records(replace(report, figures=report.figures[self._kept :]), self._snapshot))
        except RigwiseError as error:
            self.fault = str(error)
            return
        self.fault, self._kept = "", len(report.figures)


def records(report: Report, snapshot: str) -> tuple[Record, ...]:
    """One record for each figure that was measured, with the sizes and the method as tags.

    Args:
        report: Of one run.
        snapshot: JSON text of the machine, as ``rigwise inspect --json`` prints it.

    Raises:
        InvalidInputError: The snapshot is no JSON object.
    """
    machine = machine_id(snapshot)
    software = json.dumps(dict(sorted(report.software.items())))
    device = report.device.id if report.device else report.name
    common: dict[str, Tag] = {"method": report.method, "device": device, "threads": report.threads}
    found = []
    for figure in report.figures:
        if figure.value is None:
            continue
        low, high, n = _spread(figure, figure.value)
        given = {key: value for key, value in figure.raw.parameters.items() if key not in _UNTOLD}
        note = ", ".join(f"{key} {value}" for key, value in figure.raw.parameters.items() if key in OUTCOMES)
        found.append(
            Record(
                kind="bench",
                name=figure.raw.name,
                value=figure.value,
                unit=figure.raw.unit,
                p10=low,
                p90=high,
                n=n,
                machine_id=machine,
                snapshot=snapshot,
                software=software,
                when=report.started,
                tags={**common, **given, "status": _status(figure), **({"note": note} if note else {})},
            )
        )
    return tuple(found)


def _spread(figure: Figure, value: float) -> tuple[float | None, float | None, int]:
    """p10, p90 and the number of samples; None where one figure is all there is."""
    timing = figure.raw.timing
    if timing is None or not timing.samples_s:
        return None, None, 1
    ends_s = (quantile(timing.samples_s, 0.1), quantile(timing.samples_s, 0.9))
    ends = ends_s if figure.raw.unit == TIME else tuple(figure.raw.amount / end_s for end_s in ends_s)
    return min(*ends, value), max(*ends, value), len(timing.samples_s)


def _status(figure: Figure) -> str:
    state = figure.raw.state
    if state.throttled:
        return "throttled"
    return "busy" if (state.others_frac or 0.0) > _BUSY_FRAC else "ok"
