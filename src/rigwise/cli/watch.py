"""``rigwise watch``: load, memory, power, clocks and links of this machine, again and again."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as counting
from types import FrameType
from typing import TYPE_CHECKING

import click

from rigwise.cli.inspect import Seconds
from rigwise.cli.output import answer_options, console, print_json
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.machine.live.types import Sample

EXAMPLES = """\b
Examples:
  rigwise watch
  rigwise watch --every 10s --csv > load.csv
"""


@click.command("watch", epilog=EXAMPLES)
@click.option("--every", type=Seconds(), default="1s", show_default=True, help="Time between two samples.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many samples.")
@click.option("--processes", is_flag=True, help="The five processes that take the most CPU time, too.")
@click.option("--csv", "as_csv", is_flag=True, help="A log: one header, one row for each sample.")
@click.option("--wait", type=Seconds(), default="5s", show_default=True, help="A GPU driver slower than this is left.")
@answer_options
def command(
    *, every: float, count: int | None, processes: bool, as_csv: bool, wait: float, as_json: bool, quiet: bool
) -> int:
    """What this machine does now: load, memory, disk, network, power, clocks, links.

    Until Ctrl-C, or for --count samples. On a terminal the picture is drawn over; in a pipe
    samples follow each other. --json takes one sample, or --count of them, and prints one
    document. --quiet does not say that there
    is no GPU.
    """
    from rigwise.report.live_text import document

    if as_csv and processes:
        raise InvalidInputError("--processes has no columns in a log", hint="leave --csv or --processes out")
    if as_csv and as_json:
        raise InvalidInputError("--csv and --json are two forms of the answer", hint="give one of them")
    if as_json:
        taken: list[Sample] = []
        with _until_ended():
            for sample in _samples(every, count or 1, wait, processes=processes):
                taken.append(sample)
        print_json(document(taken, every))
        return 0
    with _until_ended():
        samples = _samples(every, count, wait, processes=processes)
        if as_csv:
            _log(samples)
        elif console().is_terminal and not console().is_dumb_terminal:
            _draw(samples, quiet=quiet)
        else:
            _print(samples, quiet=quiet)
    return 0


@contextmanager
def _until_ended() -> Iterator[None]:
    """Until Ctrl-C, the signal to end, or until nobody reads any more; the terminal gets its cursor back."""
    heard = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if heard else None
    try:
        yield
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if heard:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _samples(every_s: float, count: int | None, limit_s: float, *, processes: bool) -> Iterator[Sample]:
    """Samples at fixed times; those that a busy machine missed are left out."""
    from rigwise.machine.probe.live import Watcher

    with Watcher(limit_s=limit_s, processes=processes) as watcher:
        next_s = time.monotonic()
        for _ in counting() if count is None else range(count):
            missed = math.floor((time.monotonic() - next_s) / every_s)
            next_s += every_s * (1 + max(0, missed))
            time.sleep(max(0.0, next_s - time.monotonic()))
            yield watcher.sample()


def _log(samples: Iterator[Sample]) -> None:
    """Rows that are on their way before the next sample is taken."""
    from rigwise.report.live_text import columns, csv_line, row

    gpus: int | None = None
    for sample in samples:
        if gpus is None:
            gpus = len(sample.gpus)
            sys.stdout.write(csv_line(columns(gpus)))
        sys.stdout.write(csv_line(row(sample, gpus)))
        sys.stdout.flush()


def _print(samples: Iterator[Sample], *, quiet: bool) -> None:
    from rigwise.report.live_text import sample_text

    for place, sample in enumerate(samples):
        shown = sample_text(_brief(sample) if quiet else sample, console().width - 1)
        sys.stdout.write("\n" + shown if place else shown)
        sys.stdout.flush()


def _draw(samples: Iterator[Sample], *, quiet: bool) -> None:
    """One picture, drawn over; what does not fit on the screen even in brief is left out until the end."""
    from rich.live import Live
    from rich.text import Text

    from rigwise.report.live_text import sample_lines

    terminal = console()
    with Live(console=terminal, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for sample in samples:
            text = Text(no_wrap=True, end="")
            size = (terminal.width - 1, terminal.height)
            lines = sample_lines(_brief(sample) if quiet else sample, *size)
            for place, (line, looks) in enumerate(lines):
                text.append(("\n" if place else "") + line, style="bold red" if looks else "")
            live.update(text, refresh=True)


def _brief(sample: Sample) -> Sample:
    """Without the note that there is no GPU; that one does not answer any more stays."""
    from dataclasses import replace

    from rigwise.machine.probe.live_gpus import NONE

    return replace(sample, notes=tuple(note for note in sample.notes if note != NONE))
