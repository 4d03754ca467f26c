"""A job on a trace of spot capacity, under each policy: what it costs, how long it takes, whether it is late.

Many stretches of a trace are replayed side by side, step by step. A job that is interrupted
loses its work since the last checkpoint and takes ``restart_s`` before it goes on; a change
between spot and on-demand that is decided, not suffered, loses no work but takes the restart as
well. Work on spot is slowed by saving. The first start is not counted: a tariff does.

Policies, with ``t`` the time since the start, ``d`` the restart, ``W`` the work and ``D`` the deadline:

    spot only         spot when there is capacity, else wait, deadline or not
    greedy            spot when there is capacity, else wait; on-demand when time runs out
    uniform progress  spot when there is capacity; without it, on-demand while less than t W / D is
                      done, and until (t + 2 d) W / D is; on-demand when time runs out
    fallback          spot when there is capacity, on-demand whenever there is none
    on-demand only    never spot

Time runs out when what remains of it is no more than the work that would remain after an
interruption now, two restarts and two steps.

Source: Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024,
for greedy, Uniform Progress, its hysteresis and the safety net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.units import HOUR_S

SPOT_ONLY, GREEDY, UNIFORM = "spot only", "greedy", "uniform progress"
FALLBACK, ON_DEMAND_ONLY = "fallback", "on-demand only"
POLICIES = (SPOT_ONLY, GREEDY, UNIFORM, FALLBACK, ON_DEMAND_ONLY)

_IDLE, _SPOT, _ON_DEMAND = 0, 1, 2
_SLACK = 1e-9
_GIVEN_UP_FRAC = 0.01

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """The job, as far as a policy sees it.

    Attributes:
        work_s: Time of the work alone, a number or one for each replay ``[replays]``; a policy knows its own.
        deadline_s: None for none.
        spot_usd_per_h, on_demand_usd_per_h: Of all its machines; None where it cannot be had on demand.
        interval_s: Work between two checkpoints.
        save_s, restart_s: To write a checkpoint, to be running again.
    """

    work_s: Any
    deadline_s: float | None
    spot_usd_per_h: float
    on_demand_usd_per_h: float | None
    interval_s: float
    save_s: float
    restart_s: float

    def policies(self) -> tuple[str, ...]:
        """Those that can be followed: without a deadline time never runs out, without a price there is no on-demand."""
        if self.on_demand_usd_per_h is None:
            return (SPOT_ONLY,)
        return POLICIES if self.deadline_s is not None else (SPOT_ONLY, FALLBACK, ON_DEMAND_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of each replay ``[replays]`` under one policy; a job that did not end in time has an infinite time.

    Attributes:
        cost_usd: What was paid.
        wall_s: Time until the job was done.
        late: Whether that was after the deadline.
        interrupted: How often capacity was taken away.
        on_demand_frac: Part of the paid time that was on demand.
    """

    cost_usd: Array
    wall_s: Array
    late: NDArray[np.bool_]
    interrupted: NDArray[np.int64]
    on_demand_frac: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """The state of all replays, changed in place step by step ``[policies * replays]``."""

    mode: NDArray[np.int8]
    forced: NDArray[np.bool_]
    started: NDArray[np.bool_]
    work: Array
    progress: Array
    base: Array
    restarting: Array
    spot_s: Array
    demand_s: Array
    wall: Array
    interrupted: NDArray[np.int64]

    @staticmethod
    def fresh(number: int) -> _Runs:
        kinds: dict[str, Any] = {"mode": np.int8, "forced": bool, "started": bool, "interrupted": np.int64}
        runs = _Runs(*(np.zeros(number, dtype=kinds.get(f.name, float)) for f in fields(_Runs)))
        runs.wall[:] = np.inf
        return runs


def replay(errand: Errand, available: NDArray[np.bool_], step_s: float) -> Mapping[str, Outcome]:
    """Follow every policy that can be followed over stretches of a trace.

    Past the deadline, the last hundredth of the replays of a policy is not waited for: it is given up.

    Args:
        errand: The job.
        available: Whether there is capacity ``[replays, steps]``.
        step_s: Length of a step.
    """
    policies = errand.policies()
    replays, steps = available.shape
    runs = _Runs.fresh(len(policies) * replays)
    runs.work[:] = np.tile(np.broadcast_to(errand.work_s, replays), len(policies))
    tiled = np.ascontiguousarray(np.tile(available, (len(policies), 1)).T)
    for step in range(steps):
        _advance(runs, errand, tiled[step], (step * step_s, step_s), policies)
        if step * step_s >= (errand.deadline_s or 0.0):
            going = np.isinf(runs.wall).reshape(len(policies), replays).sum(axis=1)
            if (going <= _GIVEN_UP_FRAC * replays).all():
                break
    return {policy: _outcome(runs, errand, slice(i * replays, (i + 1) * replays)) for i, policy in enumerate(policies)}


def _outcome(runs: _Runs, errand: Errand, rows: slice) -> Outcome:
    spot_s, demand_s, wall = runs.spot_s[rows], runs.demand_s[rows], runs.wall[rows]
    cost = (spot_s * errand.spot_usd_per_h + demand_s * (errand.on_demand_usd_per_h or 0.0)) / HOUR_S
    deadline_s = np.inf if errand.deadline_s is None else errand.deadline_s
    return Outcome(
        cost_usd=cost,
        wall_s=wall,
        late=wall > deadline_s * (1.0 + _SLACK),
        interrupted=runs.interrupted[rows],
        on_demand_frac=demand_s / np.maximum(spot_s + demand_s, 1e-9),
    )


def _advance(
    runs: _Runs, errand: Errand, there: NDArray[np.bool_], moment: tuple[float, float], policies: Sequence[str]
) -> None:
    """One step of every replay that is not done."""
    now_s, step_s = moment
    active = ~np.isfinite(runs.wall)
    taken = active & (runs.mode == _SPOT) & ~there
    saved = _saved(runs, errand)
    runs.progress[taken] = saved[taken]
    runs.mode[taken] = _IDLE
    runs.interrupted[taken] += 1
    wanted = _wanted(runs, errand, there, (now_s, step_s, saved), policies)
    begins = active & (wanted != runs.mode) & (wanted != _IDLE)
    runs.restarting[begins] = np.where(runs.started[begins], errand.restart_s, 0.0)
    runs.base[begins] = runs.progress[begins]
    runs.started[begins] = True
    runs.mode[active] = wanted[active]
    _work(runs, errand, active, now_s, step_s)


def _saved(runs: _Runs, errand: Errand) -> Array:
    """Work that an interruption now would leave."""
    if errand.interval_s <= 0:
        return runs.progress.copy()
    since = runs.progress - runs.base
    return np.asarray(runs.base + np.floor(since / errand.interval_s * (1 + 1e-12)) * errand.interval_s)


def _wanted(
    runs: _Runs,
    errand: Errand,
    there: NDArray[np.bool_],
    moment: tuple[float, float, Array],
    policies: Sequence[str],
) -> NDArray[np.int8]:
    """What each policy chooses now."""
    now_s, step_s, saved = moment
    wanted = np.where(there, _SPOT, _IDLE).astype(np.int8)
    replays = len(there) // len(policies)
    for i, policy in enumerate(policies):
        rows = slice(i * replays, (i + 1) * replays)
        if policy == ON_DEMAND_ONLY:
            wanted[rows] = _ON_DEMAND
        elif policy == FALLBACK:
            wanted[rows] = np.where(there[rows], _SPOT, _ON_DEMAND)
        elif policy == UNIFORM and errand.deadline_s is not None:
            pace = errand.work_s / errand.deadline_s
            done, on_demand = runs.progress[rows], runs.mode[rows] == _ON_DEMAND
            stay = on_demand & (done < (now_s + 2 * errand.restart_s) * pace)
            catch_up = ~there[rows] & (done < now_s * pace)
            wanted[rows] = np.where(stay | catch_up, _ON_DEMAND, wanted[rows])
        if policy in (GREEDY, UNIFORM, FALLBACK) and errand.deadline_s is not None:
            left_s = errand.deadline_s - now_s
            net_s = errand.work_s - saved[rows] + 2 * (errand.restart_s + step_s)
            runs.forced[rows] |= left_s <= net_s
            wanted[rows] = np.where(runs.forced[rows], _ON_DEMAND, wanted[rows])
    return wanted


def _work(runs: _Runs, errand: Errand, active: NDArray[np.bool_], now_s: float, step_s: float) -> None:
    """Spend one step in the chosen modes."""
    on_spot = active & (runs.mode == _SPOT)
    on_demand = active & (runs.mode == _ON_DEMAND)
    busy = on_spot | on_demand
    used = np.where(busy, np.minimum(runs.restarting, step_s), 0.0)
    runs.restarting[:] -= used
    slowed = errand.interval_s / (errand.interval_s + errand.save_s) if errand.interval_s > 0 else 1.0
    rate = np.where(on_spot, slowed, 1.0)
    needed = used + (runs.work - runs.progress) / rate
    ends = busy & (needed <= step_s * (1.0 + _SLACK))
    spent = np.where(ends, needed, step_s)
    runs.spot_s[on_spot] += spent[on_spot]
    runs.demand_s[on_demand] += spent[on_demand]
    runs.progress[busy] += ((spent - used) * rate)[busy]
    runs.wall[ends] = now_s + spent[ends]
