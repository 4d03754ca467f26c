"""``docs/accuracy.md``: the page that ``rigwise judge --output`` writes, and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rigwise.calibrate.judge import Group, Judgement
from rigwise.calibrate.metrics import LEAST_ROWS, coverage_at
from rigwise.calibrate.regret import Regret
from rigwise.calibrate.score import CALL_S
from rigwise.report.accuracy_text import SHORT, error_cell, percent, signed, words_of

_MOST_POINTS = 3000
_MOST_LISTED = 300

_DEFINITIONS = """\
## How to read it

With *r* = predicted / measured, over the *n* rows of a group:

| word | meaning |
|---|---|
| MAPE | mean of abs(r - 1); flatters predictions that are too low |
| geo-err | exp(mean abs(ln r)) - 1; a factor of 2 counts the same either way |
| p90 | 90 % point of abs(ln r), as exp - 1 |
| bias | exp(mean ln r) - 1; above 0: predicted too slow |
| in 80 % | share of rows inside the interval from p10 to p90; 80 % is right |
| width | median of p90 / p10 |
| score | interval score of ln(time) at 80 %: width plus 10 times the distance of what lies outside; lower is better |
| conformal | the same for split-conformal intervals around the trees |
| regret | cost of the device that a predictor would choose over the cost of the best one, less 1 |
| short | operators of at most 200 us: launch and timer are a good part of what was measured |
| - | no data: not measured, or a baseline that cannot answer for most rows of the group |

A group of fewer than 30 rows is no basis for a claim and is marked with \\*. Single operators get no interval. A row
that is quicker than its lower bound is scored like any other, but no baseline is fitted on it; all such rows are
listed at the end.
"""

_CALLS = """
The events of `{table}` surround the call of an operator, so its rows hold the host's way to the kernel too, as long
for a small operator as for a large one: {times}. This was found on
these rows, and is nearly the same whichever card is left out. It is part of the prediction, and of what the first two
baselines say; the other baselines learn it from the rows.
"""

_BASELINES = """
The baselines:

| name | what it is |
|---|---|
"""


def accuracy_page(found: Judgement, document: Mapping[str, Any], pictures: Mapping[str, str], command: str) -> str:
    """The page in Markdown.

    Args:
        found: What was judged.
        document: The same as ``rigwise judge --json`` prints it.
        pictures: File of each picture relative to the page, by name; may be empty.
        command: The command that writes the page.
    """
    parts = [
        _head(document, command),
        _picture(pictures, "predicted", "Predicted against measured time of every row"),
        "## Summary\n",
        "Geometric errors. Baselines that are fitted were fitted without the device that they are judged on.\n",
        _summary(found.summary, "device"),
        _picture(pictures, "errors", "Geometric error by group, beside the baselines"),
        "The same, with the families of the judged networks left out instead of the device:\n",
        _summary([group for group in found.summary if "task" in group.labels], "family"),
        _interval_part(found, pictures),
        _regret_part(found),
        "## Every group\n",
        _details(found.groups),
        _DEFINITIONS
        + "".join(_calls(table, call_s) for table, call_s in CALL_S.items())
        + _BASELINES
        + "\n".join(f"| {SHORT[name]} | {words} |" for name, words in document["baselines"].items())
        + "\n",
        _beaten(document),
        _left_out(document),
    ]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _head(document: Mapping[str, Any], command: str) -> str:
    from rigwise.estimate.calibration import load_calibration

    calibration, rows = load_calibration(), document["rows"]
    return f"""\
# How accurate are the predictions?

`rigwise judge` scored {rows["scored"]:,} of {rows["read"]:,} published measurements against predictions with the
constants of `{calibration.name}`: {rows["steps"]:,} whole steps and {rows["scored"] - rows["steps"]:,} single
operators. {rows["beat_bound"]} of them ({rows["beat_bound"] / max(1, rows["scored"]):.2%}) beat their lower bound.
This page is written by

<!-- not run: takes ten minutes and the tables that tools/fetch_measured.py downloads -->
```sh
{command}
```

**What these figures are not.** The constants were set with rows of these very tables, so groups that rest on
`same-device` are fitted, not foretold; fitted baselines, by contrast, never saw the device (or the family) that they
are judged on. The rows on which the project is judged elsewhere (newer devices, newer software, one fifth of the
network families) are in none of these tables and were used for nothing.
"""


def _calls(table: str, call_s: Mapping[str, float]) -> str:
    times = ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in call_s.items())
    return _CALLS.format(table=table, times=times)


def _picture(pictures: Mapping[str, str], name: str, words: str) -> str:
    return f"![{words}]({pictures[name]})\n" if name in pictures else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are text, the others numbers."""
    marks = ["---" if index < left else "---:" for index in range(len(columns))]
    lines = [columns, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _count(group: Group) -> str:
    return f"{group.rigwise.n:,}" + ("" if group.is_claim else " \\*")


def _summary(groups: Iterable[Group], fold: str) -> str:
    columns = ["rows of", "n", "rigwise", "bias", *SHORT.values()]
    rows = [
        [
            words_of(group.labels),
            _count(group),
            f"**{percent(group.rigwise.geo_err_frac)}**",
            signed(group.rigwise.bias_frac),
            *(error_cell(group, fold, name) for name in SHORT),
        ]
        for group in groups
    ]
    return _table(columns, rows)


def _interval_part(found: Judgement, pictures: Mapping[str, str]) -> str:
    groups = [group for group in (*found.by_basis, *found.summary) if group.intervals]
    if not groups:
        return ""
    columns = ["rows of", "n", "in 80 %", "width", "score", "conformal in 80 %", "conformal width", "conformal score"]
    rows = []
    for group in groups:
        own, around = group.intervals, group.conformal.get("device")
        if own is None:
            continue
        beside = (
            [percent(around.coverage_frac), f"{around.width:.2f}", f"{around.interval_score:.2f}"] if around else []
        )
        own_cells = [percent(own.coverage_frac), f"{own.width:.2f}", f"{own.interval_score:.2f}"]
        rows.append([words_of(group.labels), _count(group), *own_cells, *(beside or ["-"] * 3)])
    picture = _picture(pictures, "coverage", "Rows inside the interval of each nominal level")
    return "\n".join(["## Intervals\n", _table(columns, rows), picture])


def _regret_part(found: Judgement) -> str:
    if not found.regret:
        return "## Choosing a device\n\nNo workload was measured on several devices under one software: no data.\n"
    columns = ["predictor", "an hour costs", "workloads", "mean regret", "p90", "not the best"]
    rows = [
        [name, _PRICINGS[pricing], f"{one.workloads:,}", *_regret_cells(one)]
        for pricing, by_name in found.regret.items()
        for name, one in by_name.items()
    ]
    words = "Steps measured on several devices under one software. Baselines: device left out.\n"
    return "\n".join(["## Choosing a device\n", words, _table(columns, rows, left=2)])


def _regret_cells(one: Regret) -> list[str]:
    return [f"{one.mean_frac:.1%}", f"{one.p90_frac:.1%}", percent(one.wrong_frac)]


_PRICINGS = {"equal": "the same on all", "launch price": "a share of the price when new", "given": "as given"}


def _details(groups: Iterable[Group]) -> str:
    groups = list(groups)
    keys = list(groups[0].labels)
    columns = [*keys, "rests on", "n", "MAPE", "geo-err", "p90", "bias", "in 80 %", "width", "beat bound"]
    rows = []
    for group in groups:
        own, held = group.rigwise, group.intervals
        errors = [percent(own.mape_frac), percent(own.geo_err_frac), percent(own.p90_frac), signed(own.bias_frac)]
        inside = [percent(held.coverage_frac), f"{held.width:.2f}"] if held else ["-", "-"]
        beat = str(group.beats_bound or "-")
        rows.append([*group.labels.values(), group.provenance, _count(group), *errors, *inside, beat])
    return _table(columns, rows, left=len(keys) + 1)


def _beaten(document: Mapping[str, Any]) -> str:
    rows = sorted(document["beat_bound"], key=lambda one: one["measured_s"] / one["bound_s"])
    if not rows:
        return "## Rows that beat their bound\n\nNone.\n"
    columns = ["row", "device", "what", "precision", "software", "measured / bound", "others", "theirs"]
    cells = [
        [
            one["where"],
            f"{one['device']} {one['device_variant']}".strip(),
            f"{one['model']} {one['task']} {one['shape']}" + (f" batch {one['batch']}" if one["batch"] else ""),
            one["precision"],
            one["framework"],
            f"{one['measured_s'] / one['bound_s']:.2f}",
            str(one["others"]),
            f"{one['others_median_frac']:.2f}" if one["others"] else "-",
        ]
        for one in rows[:_MOST_LISTED]
    ]
    words = (
        f"{len(rows)} of {document['rows']['scored']:,} scored rows. Beside each, how many other rows of the same"
        " work (other devices, formats, batches or software) keep their bound, and the median of measured / bound over"
        " them.\n"
    )
    more = f"\nand {len(rows) - _MOST_LISTED} more, in the JSON document.\n" if len(rows) > _MOST_LISTED else ""
    return "\n".join(["## Rows that beat their bound\n", words, _table(columns, cells, left=5) + more])


def _left_out(document: Mapping[str, Any]) -> str:
    rows = [[one["reason"], one["first"], f"{one['rows']:,}"] for one in document["left_out"][:40]]
    if not rows:
        return ""
    more = len(document["left_out"]) - len(rows)
    words = f"\nand {more} reasons more, in the JSON document.\n" if more > 0 else ""
    return "\n".join(["## Rows left out\n", _table(["reason", "first row", "rows"], rows, left=2) + words])


def draw_pictures(found: Judgement) -> dict[str, bytes]:
    """PNG pictures by name.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    from rigwise.report import accuracy_plots as plots

    pictures = {"predicted": plots.png(plots.scatter(points(found)))}
    rows = _error_rows(found)
    if rows:
        pictures["errors"] = plots.png(plots.errors(rows))
    lines = _coverage_rows(found)
    if lines:
        pictures["coverage"] = plots.png(plots.coverage(lines))
    return pictures


def points(found: Judgement) -> list[dict[str, Any]]:
    """Measured and predicted time of what was judged, evenly thinned out where it is too much for a picture."""
    rows = found.rows
    every = max(1, -(-len(rows.scores) // _MOST_POINTS))
    return [
        {
            "measured_s": float(rows.measured_s[row]),
            "predicted_s": float(rows.predicted_s[row]),
            "source": rows.scores[row].question.measurement.source,
        }
        for row in range(0, len(rows.scores), every)
    ]


def _error_rows(found: Judgement) -> list[dict[str, Any]]:
    rows = []
    for group in found.summary:
        if not group.is_claim:
            continue
        label = words_of(group.labels)
        rows.append({"group": label, "predictor": "rigwise", "error_frac": max(group.rigwise.geo_err_frac, 0.005)})
        for name, one in group.baselines.get("device", {}).items():
            if one.n * 2 >= group.rigwise.n:
                rows.append({"group": label, "predictor": SHORT[name], "error_frac": max(one.geo_err_frac, 0.005)})
    return rows


def _coverage_rows(found: Judgement) -> list[dict[str, Any]]:
    """Nominal and true coverage of each source with rows enough."""
    rows = found.rows
    low, high = (np.array([getattr(one, name) for one in rows.scores]) for name in ("p10_s", "p90_s"))
    source = np.array([one.question.measurement.source for one in rows.scores])
    levels = np.arange(0.1, 0.96, 0.05)
    points = []
    for name in sorted(set(source[rows.is_step].tolist())):
        mask = (source == name) & np.isfinite(low)
        if mask.sum() >= LEAST_ROWS:
            inside = coverage_at(low[mask], rows.predicted_s[mask], high[mask], rows.measured_s[mask], levels)
            pairs = zip(levels.tolist(), inside.tolist(), strict=True)
            points += [{"group": name, "nominal_frac": level, "inside_frac": share} for level, share in pairs]
    return points


def picture_folder(page: Path) -> Path:
    """Where the pictures of a page lie: a folder named like it, beside it."""
    return page.with_suffix("")
