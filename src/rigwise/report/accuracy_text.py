"""What ``rigwise judge`` prints: errors of the prediction beside those of the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rigwise.calibrate.judge import Group

#: Short headings of the baselines in tables.
SHORT = {"flops": "FLOPs", "roofline": "roof", "linear": "linear", "sibling": "sibl.", "trees": "trees"}


def percent(value_frac: float | None) -> str:
    """A fraction as whole per cent, a dash where there is none.

    >>> percent(0.1249), percent(None), percent(12.3)
    ('12 %', '-', '1230 %')
    """
    return "-" if value_frac is None else f"{value_frac:.0%}".replace("%", " %")


def signed(value_frac: float) -> str:
    """The same with a sign.

    >>> signed(-0.031)
    '-3 %'
    """
    return f"{value_frac:+.0%}".replace("%", " %")


def words_of(labels: Mapping[str, str]) -> str:
    """Labels of a group as one phrase; eager goes without saying."""
    return " ".join(value for value in labels.values() if value and value != "eager")


def error_cell(group: Group, fold: str, name: str) -> str:
    """The geometric error of a baseline; a dash where it has no answer for most of the rows."""
    found = group.baselines.get(fold, {}).get(name)
    if found is None or found.n * 2 < group.rigwise.n:
        return "-"
    return percent(found.geo_err_frac)


def summary_table(groups: Iterable[Group]) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns, rows, and which columns are numbers: devices left out for every baseline."""
    columns = ["errors in %", "n", "rigwise", "cov.", "FLOPs", "roof", "lin.", "sib.", "tree"]
    cells = [
        [
            words_of(group.labels),
            str(group.rigwise.n) + ("" if group.is_claim else "*"),
            percent(group.rigwise.geo_err_frac),
            percent(group.intervals.coverage_frac) if group.intervals else "-",
            *(error_cell(group, "device", name) for name in SHORT),
        ]
        for group in groups
    ]
    return columns, [[cell.removesuffix(" %") for cell in row] for row in cells], columns[1:]


def notes(document: Mapping[str, Any]) -> list[str]:
    """Lines below the table: what the words mean, what was left out, which rows beat physics."""
    rows, lines = document["rows"], []
    lines.append(
        "Errors are exp(mean |ln(predicted / measured)|) - 1; cov. is the share of rows inside the 80 % interval."
        " Baselines are fitted on the other devices."
    )
    lines.append("* fewer than 30 rows: no claim.")
    lines.append(
        f"{rows['scored']:,} of {rows['read']:,} rows scored; {rows['beat_bound']} beat their lower bound"
        f" ({rows['beat_bound'] / max(1, rows['scored']):.2%})."
    )
    for one in document["left_out"][:6]:
        lines.append(f"  left out {one['rows']:>6,}: {_cut(one['reason'])} ({one['first']})")
    if len(document["left_out"]) > 6:
        lines.append(f"  and {len(document['left_out']) - 6} reasons more; --json lists them all")
    lines += [f"not computed: {one}" for one in document["missing"]]
    return lines


def _cut(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def worst_lines(document: Mapping[str, Any]) -> list[str]:
    """Rows whose prediction is farthest off."""
    keys = ("source", "device", "task", "precision", "layout", "mode", "model")
    return [
        f"  {one['predicted_s'] / one['measured_s']:.2f} of what was measured: {one['where']},"
        f" {' '.join(one[key] for key in keys if one[key])}" + (f" batch {one['batch']}" if one["batch"] else "")
        for one in document["worst"]
    ]


def beaten_lines(document: Mapping[str, Any], limit: int) -> Sequence[str]:
    """Rows that beat their lower bound, the farthest below it first."""
    rows = sorted(document["beat_bound"], key=lambda one: one["measured_s"] / one["bound_s"])
    lines = [
        f"  {one['measured_s'] / one['bound_s']:.2f} of its bound: {one['where']}, {one['model']} {one['shape']} on"
        f" {one['device']} {one['device_variant']}".rstrip()
        for one in rows[:limit]
    ]
    return [*lines, f"  and {len(rows) - limit} more"] if len(rows) > limit else lines
