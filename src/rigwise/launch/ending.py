"""How an attempt ended: done, failed by its own fault, or interrupted from outside."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rigwise.launch.steps import Session

#: A driver of ours ends with this where the place has lost the work.
PLACE_LOST = 75
#: What a shell says of a command that could not be started.
NOT_STARTED = 127
#: What torchrun writes of a rank that a signal ended. Source: torch.distributed.elastic, ChildFailedError.
_RANK_KILLED = re.compile(r"exitcode\s*:\s*-(?!15\b)(\d+)")
#: What our own driver says in the log.
_SAID = re.compile(r"^rigwise: (.+)$", re.MULTILINE)
#: Shells report a signal as 128 and its number.
_SHELL = range(129, 160)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended.

    Attributes:
        exit_code: Of the command; None where a signal ended it or nobody knows.
        is_interruption: It was ended from outside, and may be started again.
        lost: Nobody knows whether it still runs.
        reason: In words.
        at_s: Time of day; 0 where nobody noted it.
    """

    exit_code: int | None = None
    is_interruption: bool = False
    lost: bool = False
    reason: str = ""
    at_s: float = 0.0


def ending(ended: Mapping[str, Any], found: Sequence[Session], attempt: int, tail: str) -> Ending:
    """What a keeper's last word means.

    Args:
        ended: What it wrote.
        found: What the processes said.
        attempt: Which attempt.
        tail: The end of the log.

    >>> ending({"exit_code": 7, "signal": None, "at_s": 1.0}, [], 1, "").reason
    'the command ended with exit code 7'
    >>> ending({"exit_code": None, "signal": 9, "at_s": 1.0}, [], 1, "").is_interruption
    True
    """
    code, number, at_s = ended.get("exit_code"), ended.get("signal"), float(ended.get("at_s") or 0.0)
    if fault := str(ended.get("fault") or ""):
        return Ending(exit_code=NOT_STARTED, reason=fault[:300], at_s=at_s)
    if number is None and isinstance(code, int) and code in _SHELL:
        number = code - 128
    if number is not None:
        return Ending(is_interruption=True, reason=f"the command was ended by {signal_name(int(number))}", at_s=at_s)
    mine = [one for one in found if one.attempt == attempt]
    if ended.get("told") or any(one.ended == "stopped" for one in mine):
        return Ending(exit_code=code, is_interruption=True, reason="the command was told to end", at_s=at_s)
    if code == PLACE_LOST:
        said = _SAID.findall(tail) or ["the place lost the command"]
        return Ending(exit_code=code, is_interruption=True, reason=said[-1].strip()[:300], at_s=at_s)
    if code and (killed := _RANK_KILLED.search(tail)):
        words = f"a rank of the command was ended by {signal_name(int(killed[1]))}"
        return Ending(exit_code=code, is_interruption=True, reason=words, at_s=at_s)
    return Ending(exit_code=code, reason=f"the command ended with exit code {code}" if code else "", at_s=at_s)


def signal_name(number: int) -> str:
    """A signal as people call it.

    >>> signal_name(9), signal_name(99)
    ('SIGKILL', 'signal 99')
    """
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
