"""Flags of ``rigwise run`` for a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_ON = ("local", "torchrun", "slurm", "ray", "skypilot", "dstack")
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--rank",), {"type": click.IntRange(min=1), "default": 1, "help": "Which of the plan's entries.  [1]"}),
    (("--on",), {"type": click.Choice(_ON), "help": "Where; otherwise as the plan says, or this machine."}),
    (("--model",), {"help": "MODEL to predict, where there is no plan."}),
    (("--device",), {"help": "DEVICE to predict for.  [that of the plan, or this]"}),
    (("--restarts",), {"type": int, "default": 3, "show_default": True, "help": "Starts after interruptions."}),
    (
        ("--back-off",),
        {"default": "1s", "show_default": True, "help": "Wait before a restart; doubles while no step is done."},
    ),
    (("--checkpoint",), {"help": "Work between two checkpoints.  [that of the plan, or 10min]"}),
    (("--resume",), {"metavar": "RUN", "help": "Go on with a run: its id, the beginning of one, or last."}),
    (("--option", "words"), {"multiple": True, "metavar": "WORD", "help": "For sbatch: --option=--partition=gpu."}),
    (("--address",), {"default": "", "help": "Of a Ray cluster; without, one is started here."}),
    (("--trace",), {"type": int, "default": 0, "metavar": "N", "help": "Record N steps for rigwise trace."}),
    (("--yes",), {"is_flag": True, "help": "Start what costs money; without, files are written and checked."}),
    (
        ("--store/--no-store", "is_kept"),
        {"default": True, "help": "Keep the figures for rigwise history.  [default: store]"},
    ),
)

#: Parameters that only a command has, by name.
COMMAND_ONLY = frozenset(
    (
        "rank",
        "on",
        "model",
        "device",
        "restarts",
        "back_off",
        "checkpoint",
        "resume",
        "words",
        "address",
        "trace",
        "yes",
        "is_kept",
    )
)


def command_options(function: F) -> F:
    """Add them to a command."""
    for names, settings in reversed(_OPTIONS):
        function = click.option(*names, **settings)(function)
    return function
