"""``rigwise judge``: predictions and simple baselines beside measured tables."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.in_force import bring_in_force
from rigwise.cli.output import answer_options, print_json, print_table, write_output
from rigwise.cli.plot_option import draw, plot_option
from rigwise.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from rigwise.calibrate.judge import Judgement


@click.command("judge")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--graphs", type=click.Path(path_type=Path), help="A folder of captured graphs, NAME.rwg.")
@click.option("--capture", is_flag=True, help="Capture networks of timm that are not at hand: minutes each.")
@click.option("--group", "keys", metavar="KEYS", help="Group by these, of source,device,what,task,precision, ...")
@click.option("--prices", type=click.Path(path_type=Path), help="CSV of device and usd_per_h, for the regret.")
@click.option("--sample", type=click.IntRange(min=1), help="Score about this many rows, evenly.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows beating their bound shown."
)
@click.option("--worst", type=click.IntRange(min=0), default=0, help="List this many rows that are farthest off.")
@click.option("--calibration", metavar="FILE", help="A file of rigwise calibrate.  [default: the packaged constants]")
@click.option("--output", metavar="FILE.md", help="Write the page with all groups, and its pictures beside it.")
@plot_option
@answer_options
def command(*, tables: tuple[Path, ...], as_json: bool, quiet: bool, **flags: Any) -> None:
    """Score predictions, and five baselines, against tables of measurements.

    TABLES are CSV files or folders of them, in the columns of docs/reference/measurements.md.
    A row that cannot be scored is left out and counted with its reason.

    For example: rigwise judge measured/ --graphs graphs/ --output docs/accuracy.md
    """
    from rigwise.calibrate.judge import GROUP_KEYS, judge, judge_document, sampled
    from rigwise.calibrate.regret import read_prices
    from rigwise.calibrate.shelf import Shelf
    from rigwise.measurement.tables import read_tables

    bring_in_force(flags["calibration"] or "none")
    output, keys = flags["output"], flags["keys"]
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise InvalidInputError(f"--output {output}: there is no folder {Path(output).parent}")
    wanted = tuple(key.strip() for key in keys.split(",") if key.strip()) if keys else GROUP_KEYS
    prices = read_prices(flags["prices"]) if flags["prices"] else {}
    shelf = Shelf(flags["graphs"], capture=flags["capture"])
    measurements, rejected = read_tables(tables)
    if not measurements:
        first = rejected[0]
        raise InvalidInputError(f"no row can be read: {first.where}: {first.reason}")
    found = judge(sampled(measurements, flags["sample"]), shelf, wanted, prices, _progress(quiet=quiet))
    document = judge_document(found, rejected, tables, flags["worst"])
    if output is not None:
        _write_page(output, found, document, tables, quiet=quiet)
    draw(lambda: _scatter(found), quiet=quiet or as_json)
    if as_json:
        print_json(document)
    elif output is None or not quiet:
        _print(found, document, flags["limit"], quiet=quiet)


def _scatter(found: Judgement) -> Any:
    from rigwise.report.accuracy_page import points
    from rigwise.report.figures.judged import predicted_against_measured

    return predicted_against_measured(points(found), "steps and operators")


def _progress(*, quiet: bool) -> Any:
    if quiet or not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\rscored {done:,} of {total:,} rows", end=end, file=sys.stderr, flush=True)

    return show


def _print(found: Judgement, document: dict[str, Any], limit: int, *, quiet: bool) -> None:
    from rigwise.report.accuracy_text import beaten_lines, notes, summary_table, worst_lines

    columns, rows, right = summary_table(found.summary)
    print_table(columns, rows, right=right)
    if quiet:
        return
    for line in (*notes(document), *beaten_lines(document, limit), *worst_lines(document)):
        click.echo(textwrap.fill(line, shutil.get_terminal_size().columns - 1, subsequent_indent="    "))


def _write_page(
    output: str, found: Judgement, document: dict[str, Any], tables: Sequence[Path], *, quiet: bool
) -> None:
    """The page, and its pictures where the extra is installed."""
    from rigwise.report.accuracy_page import accuracy_page, draw_pictures, picture_folder

    page = Path(output)
    folder = picture_folder(page)
    names: dict[str, str] = {}
    try:
        pictures = draw_pictures(found)
    except MissingExtraError as error:
        print(f"rigwise: no pictures: {error}", file=sys.stderr)
        pictures = {}
    if pictures:
        folder.mkdir(exist_ok=True)
    for name, content in pictures.items():
        write_output(str(folder / f"{name}.png"), content, quiet=quiet)
        names[name] = f"{folder.name}/{name}.png"
    words = ["rigwise", "judge", *(table.name or str(table) for table in tables)]
    shown = page.name if page.is_absolute() else output
    command_line = shlex.join([*words, "--graphs", "GRAPHS", "--output", shown])
    write_output(output, accuracy_page(found, document, names, command_line), quiet=quiet)
