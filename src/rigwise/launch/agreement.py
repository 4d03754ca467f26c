"""One answer for all ranks: whether to save and whether to end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

#: Ranks ask each other at most so many steps apart, and no further than so long.
_MOST_STEPS, _MOST_S, _SHARE = 100, 1.0, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether a checkpoint is due, and whether to end."""

    due: bool
    stop: bool


class Agreement:
    """What the ranks of one job last agreed on.

    Attributes:
        stop: Whether to end.
    """

    def __init__(self) -> None:
        self.stop = False
        self._left = 0
        self._apart = 1

    def on(self, worked_s: float, every_s: float, step_s: float, *, stop: bool) -> Answer:
        """Due as soon as one of several ranks finds so; every rank must ask equally often.

        Between two questions nobody knows whether the others find it due, so that it is due early by that time.
        """
        if self._left > 0:
            self._left -= 1
            return Answer(due=False, stop=self.stop)
        wish = apart(every_s, step_s)
        due, ends, least = self._most([float(worked_s + self._apart * step_s >= every_s), float(stop), -float(wish)])
        self._apart = max(1, int(-least))
        self._left = self._apart - 1
        self.stop = bool(ends)
        return Answer(due=bool(due), stop=self.stop)

    def is_shared(self) -> bool:
        """Whether there are other ranks to ask."""
        distributed = _distributed()
        return distributed is not None and distributed.get_world_size() > 1

    def _most(self, values: list[float]) -> list[float]:
        torch, distributed = sys.modules["torch"], _distributed()
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(values, device=device)
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
        return [float(one) for one in tensor.tolist()]


def apart(every_s: float, step_s: float) -> int:
    """Steps between two questions.

    >>> apart(600.0, 0.005), apart(600.0, 10.0), apart(10.0, 0.01)
    (100, 1, 10)
    """
    if step_s <= 0:
        return 1
    return max(1, min(_MOST_STEPS, int(min(_MOST_S, _SHARE * every_s) / step_s + 1e-9)))


def _distributed() -> Any:
    """``torch.distributed`` if this process has joined a group; PyTorch is not loaded for it."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
