"""Time on the host: what it costs to start work on a device.

In eager mode the host dispatches operators one by one while the device runs earlier ones. The
longer of the two timelines is what a step takes, phase by phase: small batches end on the host's.
A CPU dispatches and computes with the same cores, one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants
from rigwise.graph.op import Phase
from rigwise.workload.table import OpTable

#: Runtimes that record the launches once and replay them.
_REPLAYING_RUNTIMES = frozenset({"vllm", "tensorrt-llm", "tensorrt", "llama.cpp"})


def host_s(table: OpTable, phase: Phase, mode: str, runtime: str, constants: Constants) -> float:
    """Host time to dispatch one run of a phase.

    Source: per-operator costs are priors of the calibration file.
    """
    rows = table.of_phase(phase)
    runs = float((table.repeat[rows] * (table.launches[rows] > 0)).sum())
    if runtime in _REPLAYING_RUNTIMES:
        return runs * float(constants.host_graph_op_s)
    if mode == "compiled":
        return runs * float(constants.host_compiled_op_s)
    return runs * float(constants.host_backward_op_s if phase is Phase.BACKWARD else constants.host_op_s)


def update_host_s(kernels: float, tensors: float, constants: Constants) -> float:
    """Host time of an optimizer step: each line of the rule, and each tensor a line visits.

    Source: as ``host_s``.
    """
    return float(constants.host_op_s * kernels + constants.host_tensor_s * tensors)


def meet(device_s: Any, dispatch_s: Any, is_cpu: Any) -> Any:
    """The longer timeline where device and host run side by side, the sum where they are one.

    >>> float(meet(2.0, 3.0, False)), float(meet(2.0, 3.0, True))
    (3.0, 5.0)
    """
    return np.where(is_cpu, device_s + dispatch_s, np.maximum(device_s, dispatch_s))
