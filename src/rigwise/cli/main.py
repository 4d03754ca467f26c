"""The ``rigwise`` command: a table of commands, each loaded when it is called.

A command module parses, calls one function and prints. Exit codes: 0 answered,
1 ran and found problems or nothing feasible, 2 bad input. A traceback is a bug.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import Any, NoReturn

import click

from rigwise import __version__
from rigwise.errors import RigwiseError, near_matches

#: What writing to a full or broken disk ends with, not a fault of the program.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: Command -> what it answers. The module is ``rigwise.cli.<command>``, its function ``command``.
COMMANDS = {
    "inspect": "what this machine is",
    "doctor": "what is wrong with this machine, and how to mend it",
    "watch": "load, memory, power, clocks and links of this machine, live",
    "bench": "what this machine really does, beside its limits",
    "devices": "the accelerators in the catalogue, filtered and sorted",
    "cpus": "the CPUs in the catalogue",
    "offers": "what can be rented, where and for how much",
    "parts": "PC parts and their prices",
    "models": "the models that come captured",
    "capture": "turn a model into a compute graph",
    "show": "operators, FLOPs, bytes and memory of a model",
    "predict": "step time, memory, energy of a model on a device",
    "compare": "the same on several devices, side by side",
    "plan": "what to rent, buy or use, proven",
    "rig": "what is wrong with a parts list, and the parts for a budget",
    "setup": "the environment for it, as files",
    "run": "do it there, measure, compare with the prediction",
    "trace": "what a profiler recorded, beside the predicted operators",
    "judge": "score predictions against published tables",
    "calibrate": "learn from what was measured on a device",
    "history": "what was measured, compared and checked",
    "serve": "the same answers in a browser, and as a JSON API",
    "lab": "notebooks that teach one idea each, on your own machine",
}


class CommandTable(click.Group):
    """Commands by name, imported one at a time, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that was asked for."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"rigwise.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with near matches for a typo."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = near_matches(args[0], COMMANDS) or "rigwise --help lists them"
            raise click.UsageError(f"there is no command {args[0]!r}; {close}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; but a reader who has left is no fault, which click ends with exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _forget_the_rest()
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rigwise")
def root() -> None:
    """Choose, set up and use compute for deep learning, from your own model.

    MODEL is a zoo name, a config.json or its folder, an .onnx, .pt2 or .rwg file,
    timm:NAME, or package.module:factory. DEVICE is a catalogue id or a common name.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _make_streams_ready()
    try:
        code = root.main(args=arguments, prog_name="rigwise", standalone_mode=False)
        sys.stdout.flush()
    except RigwiseError as error:
        if "--debug" in arguments:
            raise
        code = _fail(str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        code = _fail(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    except BrokenPipeError:
        _forget_the_rest()
        code = 0
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or "--debug" in arguments:
            raise
        _forget_the_rest()
        code = _fail(f"the output cannot be written: {error.strerror}", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _make_streams_ready() -> None:
    """Let no output fail for its stream.

    One that was closed before the start (``>&-``) swallows what it is given, as ``/dev/null`` does; one that cannot
    write a character (a locale without UTF-8) writes a question mark for it; a stdout without a buffer
    (``PYTHONUNBUFFERED``) gets one, since a raw write may take a part and say nothing of the rest.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        if not isinstance(stream, TextIOWrapper):
            continue
        if stream is sys.__stdout__ and isinstance(stream.buffer, RawIOBase):
            whole = BufferedWriter(stream.buffer)
            sys.stdout = stream = TextIOWrapper(whole, stream.encoding, stream.errors, line_buffering=True)
        if stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _forget_the_rest() -> None:
    """Let what is still in the buffer of stdout go nowhere, so that the exit does not try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    """One line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    print(f"rigwise: {line}", file=sys.stderr)
    return code
