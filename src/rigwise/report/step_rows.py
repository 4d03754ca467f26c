"""The operators of one step, each with what it costs.

``show`` adds these up. Without a device they are the operators as captured or as a case lowers
them; ``step_times.py`` makes the same from those that ``predict`` times, so that their times and
what stands beside them add up to its median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rigwise.graph.graph import Model
from rigwise.graph.op import Op, Phase
from rigwise.graph.summary import costs_of
from rigwise.graph.tree import Load, Row
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve

#: What of a case changes its operators.
_LOWERS = ("dtype", "mode", "method", "recompute", "software")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, operator by operator.

    Attributes:
        case: The question; with a device, every default is filled in.
        sizes: Of each symbol, for one micro-batch.
        rows: Operators in the order they run.
        beside: What the step takes beyond its operators: optimizer, host, communication, input.
        device: Catalogue id; empty without one.
        dtype: What it was counted in.
        assumed: In words.
        phase: The only phase that counts, if not all do.
    """

    case: Case
    sizes: Mapping[str, int]
    rows: tuple[Row, ...]
    dtype: str
    device: str = ""
    beside: Mapping[str, Load] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    phase: Phase | None = None

    @property
    def counted(self) -> list[Row]:
        """The rows that count."""
        return [row for row in self.rows if self.phase is None or row.op.phase is self.phase]


def counted_step(case: Case, model: Model) -> Step:
    """The step on paper: as captured in float32, or as lowered where the case says to what.

    Raises:
        RigwiseError: The model has no graph for the task, or the case does not fit it.
    """
    resolved = resolve(case, model)
    asked = replace(resolved.case, dtype=case.dtype or "fp32", optimizer="none")
    captured = Case(model=case.model, device="")
    lowered = any(getattr(case, name) != getattr(captured, name) for name in _LOWERS)
    ops = _lowered_ops(asked, model) if lowered else model.graph(case.task).ops
    costs = costs_of(ops, resolved.sizes, model.name)
    rows = tuple(Row(op=op, cost=cost) for op, cost in zip(ops, costs, strict=True))
    dtype = str(asked.dtype) if lowered else "float32"
    return Step(case=asked, sizes=resolved.sizes, rows=rows, dtype=dtype, assumed=model.card.assumed)


def _lowered_ops(case: Case, model: Model) -> tuple[Op, ...]:
    """Imported here: most questions need nothing of ``estimate``, and it takes a while to load."""
    from rigwise.estimate.predict import lowering_of
    from rigwise.workload.lower import lower_model

    return lower_model(model, lowering_of(case, "bf16")).step_ops
