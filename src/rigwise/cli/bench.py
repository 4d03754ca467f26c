"""``rigwise bench``: what this machine really does, beside its limits, predictions and published figures."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import bench_fleet
from rigwise.cli.bench_fleet import fleet_options
from rigwise.cli.machine_report import write_machine_report
from rigwise.cli.output import answer_options, print_json, write_output
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.cli.report_option import is_report_asked, report_option, without_report
from rigwise.errors import InvalidInputError, RigwiseError

if TYPE_CHECKING:
    from rigwise.bench.keep import Keeper

_CLEAR = "\r\x1b[K"

EXAMPLES = """\b
Examples:
  rigwise bench --quick
  rigwise bench matmul convolution --save here.csv
  rigwise calibrate here.csv
"""


@click.command("bench", epilog=EXAMPLES)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="The whole suite in less than a minute.")
@click.option("--device", "part", metavar="PART", default="", help="cpu or gpu0; the first GPU where there is one.")
@click.option("--each", metavar="TIME", help="Time for one figure, as 500ms; 3s, or 0.4s with --quick.")
@click.option("--threads", type=int, help="Threads of arithmetic on the CPU; as many as cores may be used.")
@click.option("--folder", type=click.Path(), help="Where the disk is tested; nothing stays there.  [default: .]")
@click.option("--save", type=click.Path(), metavar="FILE", help="The answer as FILE.json, or FILE.csv for calibrate.")
@click.option(
    "--store/--no-store", "is_kept", default=True, help="Keep the figures for rigwise history.  [default: store]"
)
@click.option("--list", "is_list", is_flag=True, help="List the benchmarks and end.")
@fleet_options
@plot_option
@report_option("Write a self-contained HTML page: what it does, what is wrong, what could stand there instead.")
@answer_options
def command(
    *,
    names: tuple[str, ...],
    quick: bool,
    part: str,
    each: str | None,
    threads: int | None,
    folder: str | None,
    save: str | None,
    is_kept: bool,
    is_list: bool,
    as_json: bool,
    quiet: bool,
    **fleet: Any,
) -> int:
    """What this machine really does: arithmetic, memory, disk, input pipeline, network.

    NAME is a benchmark, a group (compute, memory, storage, network, inference, data,
    power) or one figure (matmul.fp32); all without. Less than 10 % of the memory is idle while it runs, and up
    to 2 GiB of the disk are used for a moment.
    """
    from rigwise.bench.suite import Request, run_suite
    from rigwise.report.bench_text import bench_text, document, measurements_csv
    from rigwise.units import parse_seconds

    if is_list:
        without_plot("a list")
        without_report("a list")
        return _list(as_json=as_json)
    if save and not save.endswith((".json", ".csv")):
        raise InvalidInputError(f"--save {save} ends neither in .json nor in .csv")
    request = Request(
        names=names,
        part=_part(part),
        quick=quick,
        each_s=parse_seconds(each) if each else None,
        threads=_threads(threads),
        folder=bench_fleet.disk_folder(folder, fleet),
    )
    if fleet["fleet"] is not None:
        without_plot("a fleet")
        without_report("a fleet")
        return bench_fleet.answer(request, fleet, save=save, is_kept=is_kept, as_json=as_json, quiet=quiet)
    keeper = _keeper(names, quiet=quiet or as_json) if is_kept else None
    report = run_suite(
        request,
        _shown if sys.stderr.isatty() and not quiet else lambda name, done, total: None,
        keeper.keep if keeper else lambda report: None,
    )
    if sys.stderr.isatty() and not quiet:
        sys.stderr.write(_CLEAR)
    if save:
        content, left_out = measurements_csv(report) if save.endswith(".csv") else (_json_text(document(report)), 0)
        write_output(save, content, quiet=quiet or as_json)
        if left_out and not (quiet or as_json):
            print(f"{left_out} figures left out: others took the CPU, or few threads were used", file=sys.stderr)
    if keeper:
        keeper.keep(report)
        _not_kept(keeper.fault, quiet=quiet or as_json)
    draw(document(report), quiet=quiet or as_json)
    _write_report(document(report), quiet=quiet or as_json)
    if as_json:
        print_json(document(report))
    else:
        click.echo(bench_text(report, brief=quiet), nl=False)
    if report.interrupted:
        return 130
    return 0 if any(figure.value is not None for figure in report.figures) else 1


def _write_report(bench: dict[str, Any], *, quiet: bool) -> None:
    if is_report_asked():
        from rigwise.machine.inspect import inspect

        write_machine_report(inspect(), "this", bench=bench, quiet=quiet)


def _list(*, as_json: bool) -> int:
    """Which benchmarks there are."""
    from rigwise.bench.suite import BENCHMARKS
    from rigwise.report.bench_text import list_text

    if as_json:
        rows = [{"name": b.name, "group": b.group, "answers": b.answers} for b in BENCHMARKS]
        print_json({"schema": "rigwise.bench-list/1", "benchmarks": rows})
    else:
        click.echo(list_text(BENCHMARKS), nl=False)
    return 0


def _keeper(names: tuple[str, ...], *, quiet: bool) -> Keeper | None:
    """What puts figures into the store; a store that cannot be had costs one line, not the answer.

    Raises:
        UnknownNameError: A name is no benchmark; no store is made for it.
    """
    from rigwise.bench import keep
    from rigwise.bench.suite import chosen
    from rigwise.machine.inspect import inspect
    from rigwise.machine.snapshot import snapshot_text

    chosen(names)
    if os.environ.get("RIGWISE_STORE") == "none":
        return None
    try:
        from rigwise.measurement.store import open_store

        return keep.Keeper(open_store(), snapshot_text(inspect()))
    except RigwiseError as error:
        _not_kept(str(error), quiet=quiet)
        return None


def _not_kept(fault: str, *, quiet: bool) -> None:
    if fault and not quiet:
        print(f"not kept for rigwise history: {fault}", file=sys.stderr)


def _json_text(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _part(text: str) -> str:
    """``cpu`` or ``gpu1``; also behind ``this:``.

    Raises:
        InvalidInputError: It is neither.
    """
    word = text.lower().removeprefix("this").removeprefix(":")
    digits = word.removeprefix("gpu")
    is_gpu = word.startswith("gpu") and len(digits) < 4 and (digits.isdecimal() or not digits)
    if word in ("", "cpu") or is_gpu:
        return word
    raise InvalidInputError(f"--device {text[:40]!r} is no part of this machine", hint="cpu, gpu0, gpu1 ...")


def _threads(count: int | None) -> int | None:
    if count is not None and count < 1:
        raise InvalidInputError(f"--threads {count}", hint="at least 1")
    return count


def _shown(name: str, done: int, total: int) -> None:
    """The benchmark that runs, on one line that is written over."""
    sys.stderr.write(f"{_CLEAR}{done + 1} of {total}: {name}")
    sys.stderr.flush()
