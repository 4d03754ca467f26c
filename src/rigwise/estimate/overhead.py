"""Time on the host: what it costs to start work on a device.

In eager mode the host dispatches operators one by one while the device runs earlier ones. The
longer of the two timelines is what a step takes, phase by phase: small batches end on the host's.
A CPU dispatches and computes with the same cores, one after the other. One thread dispatches, so that a
host is as quick as one of its cores: highest clock x instructions in a cycle. Each device of a node has a
process, and so a core, of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rigwise.errors import MissingFactError
from rigwise.estimate.calibration import Constants
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import cpu
from rigwise.facts.cpu import Cpu
from rigwise.graph.op import Phase
from rigwise.workload.table import Array, OpTable

if TYPE_CHECKING:
    from rigwise.estimate.columns import DeviceColumns

#: Runtimes that record the launches once and replay them.
_REPLAYING_RUNTIMES = frozenset({"vllm", "tensorrt-llm", "tensorrt", "llama.cpp"})


def host_s(table: OpTable, phase: Phase, setting: Setting, constants: Constants) -> float:
    """Host time to dispatch one run of a phase.

    An operator of the forward pass is called by Python code of a module, one of the backward pass by the framework
    itself. Older frameworks and interpreters are slower.

    Source: per-operator costs, see the calibration file.
    """
    rows = table.of_phase(phase)
    runs = float((table.repeat[rows] * (table.launches[rows] > 0)).sum())
    if setting.runtime in _REPLAYING_RUNTIMES:
        return runs * float(constants.host_graph_op_s)
    if setting.mode == "compiled":
        return runs * float(constants.host_compiled_op_s)
    op_s = constants.host_backward_op_s if phase is Phase.BACKWARD else constants.host_op_s
    age = max(0.0, constants.reference_year - (setting.year or constants.reference_year))
    return runs * float(op_s * (1.0 + constants.host_slower_per_year) ** age)


def update_host_s(kernels: float, tensors: float, constants: Constants) -> float:
    """Host time of an optimizer step: each line of the rule, and each tensor a line visits.

    Source: as ``host_s``.
    """
    return float(constants.host_op_s * kernels + constants.host_tensor_s * tensors)


def host_frac(host: Cpu, constants: Constants) -> float:
    """Time that a host needs to dispatch an operator against the calibration's reference host.

    Coarse: clock and instructions in a cycle; caches, memory and turbo under load are left out.

    Source: clocks and gains of cores from the catalogue, each with its source.

    Raises:
        MissingFactError: Nobody stated the highest clock of the host, or what its cores gain over Skylake's.

    >>> x = Cpu(id="x", name="X", vendor="v", architecture="a", max_hz=5e9, ipc_frac=1.5)
    >>> round(host_frac(x, Constants("here", {"reference_core_hz": 3.75e9})), 6)
    0.5
    """
    if not host.max_hz or not host.ipc_frac:
        what = "highest clock" if host.ipc_frac else "single-thread speed"
        raise MissingFactError(f"{host.id} has no sourced {what}", hint="leave the host out for the usual one")
    return float(constants.reference_core_hz / (host.max_hz * host.ipc_frac))


@lru_cache(maxsize=256)
def _named_host_frac(name: str, reference_core_hz: float) -> float:
    return host_frac(cpu(name), Constants("launch", {"reference_core_hz": reference_core_hz}))


def host_scale(host: str | None, device: DeviceColumns, constants: Constants) -> Array:
    """Dispatch time on each machine against the reference host ``[devices]``; a CPU is its own host.

    Where none is named, boards for data centres stand in a server, others in a desktop.

    Source: ``host_frac``; ``learned.py`` for what measurements on the device say.
    """
    named = _named_host_frac(host, float(constants.reference_core_hz)) if host else device.usual_host_frac
    on_host = np.where(device.is_cpu, device.usual_host_frac, named)
    return np.asarray((device.host_scale * on_host)[:, 0, 0])


def meet(device_s: Any, dispatch_s: Any, is_cpu: Any) -> Any:
    """The longer timeline where device and host run side by side, the sum where they are one.

    >>> float(meet(2.0, 3.0, False)), float(meet(2.0, 3.0, True))
    (3.0, 5.0)
    """
    return np.where(is_cpu, device_s + dispatch_s, np.maximum(device_s, dispatch_s))
