"""``rigwise trace``: what a profiler recorded, and the predicted operators beside it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.in_force import bring_in_force, calibration_option
from rigwise.cli.output import answer_options, print_json, write_output
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.measurement.profile.spans import Counters, Trace
    from rigwise.report.trace_answer import Beside, Recorded

#: Flags that say how to show what was read; all others describe a case.
_OWN = frozenset({"file", "model", "device", "steps", "to_rows", "limit", "as_json", "quiet", "calibration"})
_MOST_STEPS = 100_000
#: Shorter files are read at once.
_LONG_BYTES = 64 * 2**20


@click.command("trace")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", help="MODEL that ran: its predicted operators stand beside the measured ones.")
@click.option("--device", help="DEVICE it ran on.  [that of the trace, where it names one]")
@click.option("--steps", type=click.IntRange(1, _MOST_STEPS), help="Steps in a trace that marks none.")
@click.option(
    "--to-rows",
    metavar="FILE.csv",
    help="Write matched operators as a table for rigwise calibrate.",
)
@click.option("--limit", type=click.IntRange(0), default=15, show_default=True, help="Rows of the table; 0 for all.")
@calibration_option
@plot_option
@case_options
@answer_options
def command(file: Path, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Read a profiler's FILE: what the step's time went into, and where the prediction is off.

    FILE is a trace of the PyTorch profiler (.json, .json.gz), an Nsight Systems report as SQLite
    (nsys export --type sqlite), or the output of perf stat. With --model and the flags of the case
    that ran, each operator's measured time stands beside the predicted one.

    For example: rigwise trace step.json --model resnet50 --device rtx-4090 --batch 64 --task train
    """
    _check_flags(flags)
    from rigwise.measurement.profile.read import read_trace
    from rigwise.measurement.profile.spans import Counters

    read = read_trace(file, _progress(quiet=quiet or as_json))
    if isinstance(read, Counters):
        if flags["model"]:
            raise InvalidInputError(f"{file} counts whole runs, not operators", hint="leave --model out")
        without_plot("counters of whole runs")
        return _show_counters(file.name, read, as_json=as_json)
    found, other = _answered(read, flags)
    if flags["to_rows"]:
        _write_rows(flags["to_rows"], found, other, quiet=quiet or as_json)
    from rigwise.report.trace_document import trace_document

    document = trace_document(file.name, found, other)
    draw(document, quiet=quiet or as_json)
    if as_json:
        print_json(document)
        return 0
    from rigwise.report.trace_text import trace_text

    for note in found.notes:
        print(f"rigwise: {note}", file=sys.stderr)
    width = max(60, shutil.get_terminal_size().columns)
    click.echo(trace_text(document, limit=flags["limit"], width=width, brief=quiet), nl=False)
    return 0


def _progress(*, quiet: bool) -> Callable[[int, int], None]:
    if quiet or not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        if total > _LONG_BYTES:
            end = "\r\x1b[K" if done >= total else ""
            print(f"\rread {done // 2**20:,} of {total // 2**20:,} MiB", end=end, file=sys.stderr, flush=True)

    return show


def _check_flags(flags: dict[str, Any]) -> None:
    """Refuse what has no meaning without a model, before a long file is read."""
    if flags["model"]:
        return
    context = click.get_current_context()
    for name in ("device", "to_rows", "calibration", *(set(flags) - _OWN)):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise InvalidInputError(f"{flag} needs --model", hint="without one, trace says what was measured alone")


def _show_counters(name: str, counters: Counters, *, as_json: bool) -> int:
    from rigwise.report.trace_document import counters_document

    document = counters_document(name, counters)
    if as_json:
        print_json(document)
        return 0
    from rigwise.report.trace_text import counters_text

    click.echo(counters_text(document), nl=False)
    return 0


def _answered(trace: Trace, flags: dict[str, Any]) -> tuple[Recorded, Beside | None]:
    """The recorded step, and the predicted one where a model is named."""
    from rigwise.report.trace_answer import beside, recorded

    model, steps = flags["model"], flags["steps"]
    if not model:
        return recorded(trace, steps), None
    from rigwise.graph.load import load_model

    device = flags["device"] or _device_of(trace)
    bring_in_force(flags["calibration"], None, [device], model)
    case = case_from(model, device, {name: value for name, value in flags.items() if name not in _OWN})
    found = recorded(trace, steps)
    return beside(found, case, load_model(model), told=steps is not None)


def _device_of(trace: Trace) -> str:
    """The device that a trace names.

    Raises:
        InvalidInputError: It names none, or several.
    """
    used = {span.device for span in trace.on_device}
    names = sorted({name for number, name in trace.devices.items() if number in used or not used})
    if len(names) != 1 or not used:
        raise InvalidInputError(
            "the trace does not say what device it ran on" if not names else f"the trace names {', '.join(names)}",
            hint="--device names it; --device this is this machine",
        )
    return names[0]


def _write_rows(path: str, found: Recorded, other: Beside | None, *, quiet: bool) -> None:
    from rigwise.calibrate.trace_rows import rows_text

    if other is None:
        raise InvalidInputError("--to-rows needs --model")
    if other.case.count > 1:
        raise InvalidInputError("--to-rows is for one device", hint="operators are split between several")
    step = other.predicted
    text, count = rows_text(
        step.counted, (other.comparison, found.units), step.sizes, step.device, str(other.case.layout)
    )
    if not count:
        raise InvalidInputError("no operator was matched by its sizes", hint="record the trace with record_shapes=True")
    write_output(path, text, quiet=quiet)
    if not quiet:
        print(f"rigwise: {count} operators; rigwise calibrate {path} learns from them", file=sys.stderr)
