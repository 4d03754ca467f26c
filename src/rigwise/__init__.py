"""rigwise: what compute a deep-learning model needs, predicted, planned and proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rigwise.estimate.compare import compare
    from rigwise.estimate.predict import predict
    from rigwise.graph.load import load_model as capture
    from rigwise.machine.doctor.checkup import check as doctor
    from rigwise.machine.inspect import inspect
    from rigwise.machine.probe.memory_line import memory_line
    from rigwise.search.plan import plan
    from rigwise.workload.case import Case
    from rigwise.workload.job import Job

    monitor: Any  # not imported for its type: bench stands beside launch and imports this package

__version__ = "0.1.0"

#: Public name -> module that defines it; loaded on first use (PEP 562).
_PUBLIC = {
    "Case": ("rigwise.workload.case", "Case"),
    "Job": ("rigwise.workload.job", "Job"),
    "capture": ("rigwise.graph.load", "load_model"),
    "compare": ("rigwise.estimate.compare", "compare"),
    "doctor": ("rigwise.machine.doctor.checkup", "check"),
    "inspect": ("rigwise.machine.inspect", "inspect"),
    "memory_line": ("rigwise.machine.probe.memory_line", "memory_line"),
    "monitor": ("rigwise.launch.monitor", "monitor"),
    "predict": ("rigwise.estimate.predict", "predict"),
    "plan": ("rigwise.search.plan", "plan"),
}

__all__ = [
    "Case", "Job", "__version__", "capture", "compare", "doctor", "inspect", "memory_line", "monitor", "plan", "predict"
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rigwise' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)
