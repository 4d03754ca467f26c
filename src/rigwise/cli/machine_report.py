"""``--report`` of a machine, for ``inspect``, ``doctor`` and ``bench``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rigwise.cli.report_option import is_report_asked, write_report

if TYPE_CHECKING:
    from rigwise.machine.snapshot import Snapshot


def write_machine_report(
    snapshot: Snapshot, name: str = "", *, bench: Mapping[str, Any] | None = None, quiet: bool
) -> None:
    """Write the page of a machine, if one was asked for.

    Args:
        snapshot: What it is.
        name: ``this``, or the file that the snapshot came from; empty where there is none, as of a captured tree.
        bench: What was measured, as ``rigwise bench --json`` prints it.
        quiet: Say nothing of the file.
    """
    if not is_report_asked():
        return
    from rigwise.machine.doctor.checkup import check, check_snapshot, document
    from rigwise.report.machine_page import Seen, machine_page

    checkup = check() if name == "this" else check_snapshot(snapshot, name or "the captured tree")
    instead, why_not = _instead(snapshot, name)
    seen = Seen(snapshot=snapshot, checkup=document(checkup), bench=bench, instead=instead, why_not=why_not)
    write_report(lambda command: machine_page(seen, command=command), quiet=quiet)


def _instead(snapshot: Snapshot, name: str) -> tuple[dict[str, Any] | None, str]:
    """What could stand there, asked of the machine by its name; a captured tree gets one for the while."""
    from datetime import date

    from rigwise.edge import write_atomically
    from rigwise.machine.snapshot import snapshot_text
    from rigwise.machine.this import resolve_device
    from rigwise.report.instead import try_instead

    if name == "this" or name.endswith(".json"):
        return try_instead(lambda: resolve_device(name), name, date.today())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "machine.json"
        write_atomically(place, snapshot_text(snapshot))
        return try_instead(lambda: resolve_device(str(place)), str(place), date.today())
