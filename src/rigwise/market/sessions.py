"""Work that is spread over sessions of limited length, and weeks of limited use.

A job with checkpoints goes on in the next session; each session begins with ``restart_s`` in which
nothing is computed. What is used in a week is limited, and the rest waits for the next week. Somebody
has to start each session: that is not counted.

Source: the definition of each term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.units import DAY_S

WEEK_S = 7 * DAY_S
#: A stretch that ends with a session, but for rounding, needs no further one.
SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A job spread over sessions and weeks; numbers or arrays.

    Attributes:
        wall_s: From the first session's start to the job's end; infinite if a session is too short to get on.
        held_s: Use of the device, restarts included.
        sessions: How many.
    """

    wall_s: Any
    held_s: Any
    sessions: Any


def sessions(undisturbed_s: Any, cap_s: Any = np.inf, weekly_quota_s: Any = np.inf, restart_s: Any = 0.0) -> Stretch:
    """Spread work over sessions of at most ``cap_s`` and weeks of at most ``weekly_quota_s`` of use.

    Each week is used from its start, session after session. Numbers or arrays of shapes that go together,
    infinite limits for none.

    >>> stretch = sessions(40 * 3600.0, cap_s=12 * 3600.0, weekly_quota_s=30 * 3600.0)
    >>> float(stretch.wall_s) / 3600, int(stretch.sessions)
    (178.0, 4)
    """
    work, quota = np.asarray(undisturbed_s, dtype=float), np.asarray(weekly_quota_s, dtype=float)
    cap = np.minimum(cap_s, quota)
    useful, limited = cap - restart_s, np.isfinite(quota)
    gets_on = useful > 0
    useful = np.where(gets_on, useful, 1.0)
    # Of a week: its full sessions, and a shorter one if that gets anywhere.
    length, whole = np.where(limited, cap, 1.0), np.where(limited, quota, 0.0)
    full = np.floor(whole / length + SLACK)
    rest = np.maximum(whole - full * length - restart_s, 0.0)
    week_work = full * np.where(limited, useful, 0.0) + rest
    week_held = full * length + np.where(rest > 0, rest + restart_s, 0.0)
    weeks = np.where(limited, np.maximum(np.ceil(work / np.where(limited, week_work, 1.0) - SLACK) - 1.0, 0.0), 0.0)
    left = work - weeks * week_work
    last = np.maximum(np.ceil(left / useful - SLACK), 1.0)
    held = left + last * restart_s
    return Stretch(
        wall_s=np.where(gets_on, weeks * WEEK_S + held, np.inf),
        held_s=np.where(gets_on, weeks * week_held + held, np.inf),
        sessions=np.where(gets_on, weeks * (full + (rest > 0)) + last, np.inf),
    )
