"""``rigwise history``: what was measured, compared, checked, drawn, exported and imported."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.cli.actions import Actions
from rigwise.cli.output import answer_options, print_json, print_table, write_output
from rigwise.cli.plot_option import draw, plot_option
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.measurement.records import Record, Selection
    from rigwise.measurement.store import Store

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLES = """\b
Examples:
  rigwise history --name matmul
  rigwise history compare 2026-10 2026-11
  rigwise history check --since 2026-06-01
  rigwise history export steps.csv --kind step
"""
#: Series that are still told apart in one picture.
_MOST_SERIES = 8


def selecting(function: F) -> F:
    """Which records: the options of every action that reads some."""
    for option in (
        click.option("--until", default="", metavar="DATE", help="Before this date or time, UTC."),
        click.option("--since", default="", metavar="DATE", help="From this date or time on, UTC."),
        click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag; may be repeated."),
        click.option("--machine", "machines", multiple=True, metavar="ID", help="A machine id, or its beginning."),
        click.option("--name", "names", multiple=True, help="A figure, or its beginning: matmul, matmul.fp32."),
        click.option("--kind", "kinds", multiple=True, help="What measured it: bench, run, step."),
        _store_option,
    ):
        function = option(function)
    return function


_store_option = click.option(
    "--store", metavar="FILE|URL", help="SQLite file or postgresql:// URL.  [default: RIGWISE_STORE, or the usual file]"
)


@click.group("history", cls=Actions, invoke_without_command=True, epilog=EXAMPLES, subcommand_metavar="[ACTION]")
@selecting
@click.option("--limit", type=click.IntRange(min=1), default=40, show_default=True, help="The newest so many.")
@answer_options
@click.pass_context
def command(context: click.Context, /, *, limit: int, as_json: bool, quiet: bool, **flags: Any) -> int:
    """What was measured, the newest first.

    Measurements are kept with their machine and their software. Figures are compared only where they
    measured the same thing: the same unit, sizes, number format and method.
    """
    if context.invoked_subcommand:
        given = next((name for name, value in {**flags, "json": as_json}.items() if value), "")
        if given:
            flag = {"kinds": "kind", "names": "name", "machines": "machine", "tags": "tag"}.get(given, given)
            raise click.UsageError(f"--{flag} stands before {context.invoked_subcommand}; give it after")
        return 0
    if as_json:
        print_json(history_document(flags, limit=limit))
        return 0
    records, place = _read(flags, limit=limit)
    if not records:
        click.echo(_nothing(flags, place))
        return 0
    from rigwise.report.history_text import LIST_RIGHT, list_table

    columns, rows = list_table(records)
    print_table(columns, rows, right=LIST_RIGHT)
    if len(records) == limit and not quiet:
        click.echo(f"the newest {limit}; --limit shows more, --name fewer")
    return 0


def history_document(flags: dict[str, Any], *, limit: int) -> dict[str, Any]:
    """What ``rigwise history --json`` prints.

    Raises:
        RigwiseError: The store cannot be read, or a tag or a time cannot.
    """
    from rigwise.report.history_document import record_document

    records, place = _read(flags, limit=limit)
    return {"schema": "rigwise.history/1", "store": place, "records": [record_document(r) for r in reversed(records)]}


@command.command("machines")
@_store_option
@answer_options
def machines_command(*, store: str | None, as_json: bool, quiet: bool) -> int:
    """The machines that were measured, the last one first."""
    opened = _open(store)
    found: Sequence[Any] = ()
    if opened is not None:
        with opened:
            found = opened.machines()
    if as_json:
        print_json({"schema": "rigwise.history.machines/1", "machines": list(found)})
    elif not found:
        click.echo(_nothing({}, _shown(store)))
    else:
        rows = [(one.machine_id, f"{one.records:,}", one.first[:10], one.last[:10]) for one in found]
        print_table(("machine", "figures", "first", "last"), rows, right=("figures",))
    return 0


@command.command("compare")
@click.argument("first")
@click.argument("second")
@selecting
@plot_option
@answer_options
def compare_command(*, first: str, second: str, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Two machines, or two times of one machine, figure by figure.

    FIRST and SECOND are machine ids or their beginnings, or times: 2026-11-21, 2026-11, or
    2026-11-01..2026-11-07. A ratio is second over first. Exits 1 if nothing can be compared.

    For example: rigwise history compare 2026-10 2026-11 --name matmul
    """
    from rigwise.edge import as_plain
    from rigwise.measurement.compare import compare_sides
    from rigwise.measurement.sides import one_machine, selections, side
    from rigwise.report.history_document import compare_document

    with _required(flags["store"]) as store:
        known = [one.machine_id for one in store.machines()]
        sides = [side(words, known) for words in (first, second)]
        asked = selections(sides[0], sides[1], _selection(flags))
        records = [store.query(one) for one in asked]
    if not sides[0].machine:
        one_machine([*records[0], *records[1]])
    for words, found in zip((first, second), records, strict=True):
        if not found:
            raise InvalidInputError(f"nothing was measured for {words}", hint="rigwise history lists what was")
    answer = compare_sides(*records, machines=bool(sides[0].machine))
    document = as_plain(compare_document(sides[0], sides[1], answer))
    if answer.comparisons:
        draw(document, quiet=quiet or as_json)
    if as_json:
        print_json(document)
    else:
        from rigwise.report.history_text import compare_lines, compare_notes

        for line in (*compare_lines(answer, first, second), *(() if quiet else compare_notes(answer, first, second))):
            click.echo(line)
    if not answer.comparisons:
        why = f": {answer.refused[0][0]}: {answer.refused[0][1]}" if answer.refused else ": they share no figure"
        print(f"rigwise: {first} and {second} are not comparable{why}", file=sys.stderr)
        return 1
    return 0


@command.command("check")
@selecting
@answer_options
def check_command(*, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Regressions and outliers in every series of runs; exits 1 if a figure became worse.

    A series is one figure on one machine; it needs eight runs. A change of level needs Pettitt's test
    (p at most 0.05 after Benjamini and Hochberg) and 5 %; an outlier a modified z-score over 3.5, more
    in short series, and 5 %.
    """
    from rigwise.measurement.compare import check

    records, place = _read(flags)
    findings, looked = check(records)
    if as_json:
        from rigwise.report.history_document import finding_document

        counts = {"store": place, "records": len(records), "series_checked": looked}
        print_json(
            {"schema": "rigwise.history.check/1", **counts, "findings": [finding_document(one) for one in findings]}
        )
    else:
        from rigwise.report.history_text import finding_lines

        for line in finding_lines(findings):
            click.echo(line)
        if not quiet or not findings:
            enough = f"{looked} series of eight runs or more" if looked else "no series has eight runs"
            click.echo(f"{enough}, {len(records):,} records, {len(findings)} findings")
    return int(any(one.what == "regression" for one in findings))


@command.command("plot")
@click.argument("figures", nargs=-1, metavar="[NAME]...")
@selecting
@click.option("-o", "--output", metavar="FILE.svg", help="A picture instead of text.")
@plot_option
@answer_options
def plot_command(*, figures: tuple[str, ...], output: str | None, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Figures over time, each series by itself: p10 to p90, the median marked; NAME is as after --name.

    For example: rigwise history plot matmul.fp32 --output matmul.svg
    """
    if output is not None and not output.lower().endswith(".svg"):
        raise InvalidInputError(f"--output is {output}", hint="name a file that ends in .svg")
    flags["names"] = (*flags["names"], *figures)
    records, place = _read(flags)
    if not records:
        raise InvalidInputError(_nothing(flags, place))
    from rigwise.measurement.compare import series
    from rigwise.report.history_text import chart, plot_lines

    found = series(records)
    if len(found) > _MOST_SERIES and (output or not as_json):
        names = ", ".join(sorted({record.name for record in records})[:5])
        raise InvalidInputError(
            f"these are {len(found)} series, more than one picture shows", hint=f"name some: {names} ..."
        )
    if output:
        from rigwise.report.figures.save import content_of

        write_output(output, content_of(chart(records), ".svg"), quiet=quiet or as_json)
    draw(lambda: chart(records), quiet=quiet or as_json)
    if as_json:
        from rigwise.report.history_document import series_document

        drawn = [series_document(*one) for one in found]
        print_json({"schema": "rigwise.history.plot/1", "store": place, "series": drawn})
    elif not output:
        for line in plot_lines(records):
            click.echo(line)
    return 0


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@selecting
@click.option("--steps", is_flag=True, help="Only what judge and calibrate read.")
@answer_options
def export_command(*, file: Path, steps: bool, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Write records as CSV or Parquet, in the columns that judge and calibrate read.

    FILE ends in .csv or .parquet. A CSV has the machine snapshots beside it, in NAME.snapshots.jsonl.
    """
    from rigwise.measurement import exchange

    suffix = file.suffix.lower()
    if suffix not in (".csv", ".parquet", ".pq"):
        raise InvalidInputError(f"{file} ends in {suffix or 'nothing'}", hint="name a file .csv or .parquet")
    records, place = _read(flags, snapshots=True)
    records = [record for record in records if exchange.is_step(record)] if steps else records
    if not records:
        raise InvalidInputError("no record that judge reads was selected" if steps else _nothing(flags, place))
    content = exchange.csv_text(records) if suffix == ".csv" else exchange.parquet_bytes(records)
    snapshots = exchange.snapshots_text(records) if suffix == ".csv" else ""
    if snapshots:
        write_output(str(exchange.snapshots_file(file)), snapshots, quiet=quiet or as_json)
    write_output(str(file), content, quiet=quiet or as_json)
    if as_json:
        beside = str(exchange.snapshots_file(file)) if snapshots else None
        counts = {"records": len(records), "steps": sum(map(exchange.is_step, records))}
        print_json({"schema": "rigwise.history.export/1", "file": str(file), "snapshots": beside, **counts})
    return 0


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@_store_option
@click.option("--when", default="", metavar="DATE", help="When a table without dates was measured.")
@answer_options
def import_command(*, files: tuple[Path, ...], store: str | None, when: str, as_json: bool, quiet: bool) -> int:
    """Add records of CSV or Parquet files; what is there already is not added twice.

    A table of judge and calibrate counts as steps measured at --when. A row that cannot be used is
    named and left out; exits 1 if none can be used.
    """
    from rigwise.measurement.exchange import read_records
    from rigwise.measurement.store import open_store

    records: list[Record] = []
    left_out: list[Any] = []
    for file in files:
        found, rejected = read_records(file, when=when)
        records += found
        left_out += rejected
    added = 0
    if records:
        with open_store(store) as opened:
            added = opened.add(records)
    if as_json:
        counts = {"read": len(records) + len(left_out), "added": added, "present": len(records) - added}
        print_json({"schema": "rigwise.history.import/1", **counts, "left_out": left_out})
    else:
        for one in left_out[:6]:
            print(f"rigwise: left out {one.where}: {one.reason}", file=sys.stderr)
        if len(left_out) > 6:
            print(f"rigwise: left out {len(left_out) - 6} more rows", file=sys.stderr)
        if not quiet:
            click.echo(f"added {added:,}, already there {len(records) - added:,}, left out {len(left_out):,}")
    return 0 if records else 1


def _selection(flags: dict[str, Any]) -> Selection:
    from rigwise.measurement.records import Selection, utc

    tags = {}
    for text in flags["tags"]:
        key, sign, value = text.partition("=")
        if not (key and sign):
            raise InvalidInputError(f"--tag is {text!r}", hint="as in --tag format=fp32")
        tags[key] = value
    times = [utc(flags[key]) if flags[key] else "" for key in ("since", "until")]
    return Selection(
        kinds=tuple(flags["kinds"]),
        names=tuple(flags["names"]),
        machines=tuple(flags["machines"]),
        since=times[0],
        until=times[1],
        tags=tags,
    )


def _open(url: str | None) -> Store | None:
    """The store; None where nobody has written one yet and none was named.

    Raises:
        InvalidInputError: The one that ``--store`` names does not exist.
    """
    from rigwise.measurement.place import locate
    from rigwise.measurement.store import open_store

    place = locate(url)
    if not place.exists:
        if url is not None:
            hint = f"RIGWISE_STORE={shlex.quote(place.shown)} rigwise bench writes one"
            raise InvalidInputError(f"there is no store {place.shown}", hint=hint)
        return None
    return open_store(url)


def _required(url: str | None) -> Store:
    opened = _open(url)
    if opened is None:
        raise InvalidInputError(_nothing({}, _shown(url)))
    return opened


def _read(flags: dict[str, Any], *, limit: int | None = None, snapshots: bool = False) -> tuple[Sequence[Record], str]:
    """The selected records, the oldest first, and the store they are from."""
    asked = replace(_selection(flags), limit=limit)
    opened = _open(flags["store"])
    if opened is None:
        return (), _shown(flags["store"])
    with opened as store:
        return store.query(asked, snapshots=snapshots), store.place.shown


def _shown(url: str | None) -> str:
    from rigwise.measurement.place import locate

    return locate(url).shown


def _nothing(flags: dict[str, Any], place: str) -> str:
    asked = [name for name in ("kinds", "names", "machines", "tags", "since", "until") if flags.get(name)]
    if asked and _has_any(flags["store"]):
        return f"nothing in {place} was selected; rigwise history --limit 5 shows what there is"
    return f"nothing has been measured yet ({place}); rigwise bench fills it"


def _has_any(url: str | None) -> bool:
    opened = _open(url)
    if opened is None:
        return False
    with opened as store:
        return bool(store.machines())
