"""Facts of a machine: its snapshot, flattened, and what only the doctor looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.machine.doctor.types import Facts
from rigwise.machine.snapshot import Snapshot


def facts_of(snapshot: Snapshot, seen: Mapping[str, Any] | None = None) -> Facts:
    """A snapshot as facts, with what ``look`` saw below ``seen.``.

    >>> from rigwise.machine.snapshot import Field, unknown
    >>> facts = facts_of(Snapshot(cpu={"cores": Field(value=8, source="x"), "name": unknown("y", "it is gone")}))
    >>> facts.get("cpu.cores"), facts.get("cpu.name"), facts.reason("cpu.name")
    (8, None, 'it is gone')
    """
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, field in snapshot.fields():
        if field.value is None:
            reasons[name] = field.reason
        else:
            values[name] = field.value
    for section, reason in snapshot.failed.items():
        reasons.setdefault(section.partition(" ")[0], reason)
    values["failed"] = dict(snapshot.failed)
    values["findings"] = [f"{finding.where}: {finding.text}" for finding in snapshot.findings]
    if seen is None:
        reasons["seen"] = "a snapshot does not hold it; run rigwise doctor on the machine"
    for name, value in (seen or {}).items():
        values[f"seen.{name}"] = value
    _fill_in_capabilities(values)
    return Facts(values=values, reasons=reasons)


def _fill_in_capabilities(values: dict[str, Any]) -> None:
    """Compute capability and segment of GPUs by the catalogue where the driver did not tell."""
    from rigwise.errors import RigwiseError
    from rigwise.facts import catalogue

    for name in [name for name in values if name.startswith("gpus.") and name.endswith(".name")]:
        gpu = name.removesuffix(".name")
        try:
            device = catalogue.device(str(values[name]))
        except RigwiseError:
            continue
        if device.compute_capability:
            values.setdefault(f"{gpu}.compute_capability", device.compute_capability)
        values.setdefault(f"{gpu}.segment", device.segment)
