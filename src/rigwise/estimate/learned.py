"""What measurements on the user's devices taught: multipliers of time, and how workloads err there.

Two parts, both fitted by ``rigwise calibrate`` and read from its file:

    scales      for each device and regime (mode, layout, width of numbers) the logarithms of multipliers of time,
                one for each group of operators, with their covariance
    evidence    what those leave of each measured row; workloads alike in what they compute, on devices and under
                settings alike, err alike, so the rest of a prediction is the mean of a Gaussian process given the
                rows nearest to it

Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.signature import as_vector, signature
from rigwise.facts.device import Device
from rigwise.graph.op import Kind
from rigwise.workload.case import Case
from rigwise.workload.table import KINDS, Array, OpTable

if TYPE_CHECKING:
    from rigwise.estimate.calibration import Calibration, Constants
    from rigwise.estimate.columns import DeviceColumns

#: Groups of operators that share a multiplier; the last is dispatch on the host.
GROUPS = ("gemm", "conv", "attention", "streaming", "host")
_OTHERS = {Kind.GEMM: 0, Kind.RNN: 0, Kind.PAIRWISE: 0, Kind.CONV: 1, Kind.ATTENTION: 2}
#: Group of each kind of operator ``[kinds]``.
GROUP_OF_KIND = np.array([_OTHERS.get(kind, 3) for kind in KINDS])

MODES_AND_LAYOUTS = (("eager", "nchw"), ("eager", "nhwc"), ("compiled", "nhwc"))
WIDTHS = ("16", "32")
#: Task of a row that times one operator alone, and tasks that run a backward pass.
OPERATOR = "operator"
_WITH_BACKWARD = ("train", "backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """What of a case picks the multipliers.

    Attributes:
        mode, layout: Of the case; a compiler picks the quicker layout itself.
        width: Bits of the numbers that are multiplied, "16" for narrower ones too.
    """

    mode: str
    layout: str
    width: str


REGIMES = tuple(Regime(mode=mode, layout=layout, width=width) for mode, layout in MODES_AND_LAYOUTS for width in WIDTHS)


def regime_of(case: Case) -> Regime:
    """The regime of a resolved case."""
    layout = "nhwc" if case.mode == "compiled" else case.layout
    return Regime(mode=case.mode, layout=layout, width="32" if case.dtype in ("fp64", "fp32", "tf32") else "16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Multipliers of one device in one regime.

    Attributes:
        device: Catalogue id.
        regime: Where they hold.
        rows: Measured rows of this device and regime; 0: inferred from its other regimes.
        log_scale: By group; 0 leaves the law as it is.
        covariance: Of those, in the order of ``GROUPS``.
    """

    device: str
    regime: Regime
    rows: int
    log_scale: dict[str, float]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measured row, and how far the scaled prediction was off.

    Attributes:
        model: For people; rows are compared by signature.
        device: Catalogue id, with its architecture, vendor and kind.
        regime, task, torch, batch: How it ran; the task of one operator alone is ``OPERATOR``.
        signature: What it computes, see ``signature.py``.
        shares: Of the predicted step by group; what is missing to 1 has no multiplier.
        log_ratio: ln(measured / predicted) without the scales.
        residual: The same with them.
        spread_frac: Standard deviation of ln(time) between the steps of its run; 0 where it is not known.
    """

    model: str
    device: str
    architecture: str
    vendor: str
    kind: str
    regime: Regime
    task: str
    torch: str
    batch: int
    signature: dict[str, float]
    shares: dict[str, float]
    log_ratio: float
    residual: float
    spread_frac: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A user's calibration: known by identity.

    Attributes:
        where: The file, for messages; empty for rows given with the question.
        date: Day of the fit.
        software: Versions of PyTorch that were measured.
        scales, evidence: See the module.
        dispersion: By device, how many times further its rows strayed than was expected of them, 1 or more.
    """

    where: str
    date: str
    software: tuple[str, ...]
    scales: tuple[Scales, ...]
    evidence: tuple[Evidence, ...]
    dispersion: dict[str, float] = field(default_factory=dict)

    @property
    def devices(self) -> frozenset[str]:
        """Devices that it says something about."""
        return frozenset(scales.device for scales in self.scales)


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Rows as columns, for the kernel ``[rows]``; ``signature`` is ``[rows, classes]``; ``spread`` is of ln(time)."""

    device: NDArray[np.str_]
    architecture: NDArray[np.str_]
    vendor: NDArray[np.str_]
    kind: NDArray[np.str_]
    mode: NDArray[np.str_]
    layout: NDArray[np.str_]
    width: NDArray[np.str_]
    task: NDArray[np.str_]
    torch: NDArray[np.str_]
    signature: Array
    spread: Array

    def take(self, rows: Any) -> Points:
        """Some of the rows."""
        return Points(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def points_of(evidence: Sequence[Evidence]) -> Points:
    """Lay rows out as columns."""
    plain = ("device", "architecture", "vendor", "kind", "task", "torch")
    columns: dict[str, Any] = {name: np.array([getattr(e, name) for e in evidence], np.str_) for name in plain}
    for name in ("mode", "layout", "width"):
        columns[name] = np.array([getattr(e.regime, name) for e in evidence], np.str_)
    spread = np.array([e.spread_frac for e in evidence])
    return Points(**columns, signature=np.array([as_vector(e.signature) for e in evidence]), spread=spread)


def asked(device: Device, case: Case, of: dict[str, float], newest: str) -> Evidence:
    """A question in the form of a row, with nothing measured."""
    return Evidence(
        model=case.model,
        device=device.id,
        architecture=device.architecture,
        vendor=device.vendor,
        kind=device.kind,
        regime=regime_of(case),
        task=case.task,
        torch=case.software.torch or newest,
        batch=case.batch,
        signature=of,
        shares={},
        log_ratio=0.0,
        residual=0.0,
    )


def kernel(a: Points, b: Points, constants: Constants) -> Array:
    """Correlation of the errors of rows ``[a, b]``.

    A product of nested block kernels and a squared exponential, so it is positive semi-definite.

    Source: Rasmussen & Williams, section 4.2; correlations in the ``[learning]`` table.
    """
    squares = (a.signature**2).sum(1)[:, None] + (b.signature**2).sum(1) - 2.0 * a.signature @ b.signature.T
    found = np.exp2(-np.maximum(squares, 0.0) / constants.likeness**2) * device_correlation(a, b, constants)
    for name, other in constants.correlation.items():
        found = found * np.where(getattr(a, name)[:, None] == getattr(b, name), 1.0, other)
    return np.asarray(found)


def noise_variance(points: Points, constants: Constants) -> Array:
    """Of ln(time) of each row beside the error of its workload ``[rows]``; one kernel says less of its kind.

    What strays from step to step strays from run to run: on a machine that is shared, more than anywhere else.

    Source: the ``[learning]`` table.
    """
    alone = np.where(points.task == OPERATOR, constants.operator_spread**2, 0.0)
    return np.asarray(np.maximum(constants.noise, points.spread) ** 2 + alone)


def device_correlation(a: Points, b: Points, constants: Constants) -> Array:
    """How alike two devices err ``[a, b]``.

    Source: the ``[learning]`` table.
    """
    of = constants.device_correlation
    kind = a.kind[:, None] == b.kind
    vendor = kind & (a.vendor[:, None] == b.vendor)
    architecture = vendor & (a.architecture[:, None] == b.architecture)
    near = np.where(architecture, of["same_architecture"], np.where(vendor, of["same_vendor"], of["same_kind"]))
    return np.asarray(np.where(a.device[:, None] == b.device, 1.0, np.where(kind, near, of["other_kind"])))


def workload_spreads(points: Points, calibration: Calibration) -> Array:
    """Prior spread of the error of each workload on a device whose constants are known ``[rows]``.

    On a CPU, and compiled, the laws leave more of a workload open, which no constant of the device takes away.

    Source: the ``[learning]`` table; what the ``[interval]`` table adds for CPUs and for compilers.
    """
    of_cpu = np.where(points.kind == "cpu", calibration.interval.cpu, 0.0)
    of_compiler = np.where(points.mode == "compiled", calibration.interval.of_term["compiled"], 0.0)
    return np.asarray(np.sqrt(calibration.learning.workload_spread**2 + of_cpu**2 + of_compiler**2))


def workload_covariance(a: Points, b: Points, calibration: Calibration) -> Array:
    """Prior covariance of errors ``[a, b]``: by ``kernel``, and a part that all which train on a device have in common.

    Source: the ``[learning]`` table.
    """
    constants = calibration.learning
    both_train = np.isin(a.task, _WITH_BACKWARD)[:, None] & np.isin(b.task, _WITH_BACKWARD)
    modes = np.where(a.mode[:, None] == b.mode, 1.0, constants.correlation["mode"])
    both = both_train * modes * device_correlation(a, b, constants)
    spreads = workload_spreads(a, calibration)[:, None] * workload_spreads(b, calibration)
    return np.asarray(spreads * (kernel(a, b, constants) + constants.training_frac**2 * both))


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What was learned about one workload on a row of devices.

    Attributes:
        scale: Multipliers of time ``[devices, groups, sizes]``.
        covariance: Of their logarithms ``[devices, groups, groups]``.
        variance: Left of the workload's own error ``[devices, sizes]``; nan where nothing was learned.
        measured: Whether rows of this very device and regime were measured ``[devices]``.
        dispersion: How many times further rows of the device strayed than was expected ``[devices]``.
    """

    scale: Array
    covariance: Array
    variance: Array
    measured: NDArray[np.bool_]
    dispersion: Array

    def scaled(self, device: DeviceColumns) -> DeviceColumns:
        """The columns with the multipliers in them."""
        host_scale = self.scale[:, -1:, :1]
        return replace(device, time_scale=self.scale[:, GROUP_OF_KIND], host_scale=host_scale)

    def spread(self, usual: Any, group_s: Array, shares_s: Mapping[str, Array]) -> Array:
        """Standard deviation of ln(time) at the first size.

        It is not above what is usual without measurements, unless those of the device stray more than is usual.

        Args:
            usual: Without measurements ``[devices]``.
            group_s: Time of the operators by group ``[devices, groups]``.
            shares_s: Of a step by what binds ``[devices]``; of the network nothing was learned.

        Source: variance of a linear form.
        """
        shares = group_shares(group_s, shares_s)
        network = 1.0 - shares.sum(axis=1)
        variance = np.einsum("dg,dgh,dh->d", shares, self.covariance, shares) + self.variance[:, 0]
        learned = np.sqrt(np.maximum(variance, 0.0) + (network * usual) ** 2)
        return np.asarray(np.where(np.isnan(variance), usual, np.minimum(usual * self.dispersion, learned)))


def group_shares(group_s: Array, shares_s: Mapping[str, Array]) -> Array:
    """Share of a step that each group of operators takes, the host last ``[machines, groups]``; links are left out."""
    total = np.sum([np.asarray(seconds) for seconds in shares_s.values()], axis=0)
    host, network = shares_s["launch"] / total, shares_s["network"] / total
    shares = group_s / np.maximum(group_s.sum(axis=1, keepdims=True), 1e-300) * (1.0 - host - network)[:, None]
    shares[:, -1] = host
    return np.asarray(shares)


def knowledge_of(
    calibration: Calibration, devices: Sequence[Device], case: Case, table: OpTable, sizes: Sequence[int] = (0,)
) -> Knowledge | None:
    """What the active calibration of the user knows of a workload on these devices, None if nothing.

    Args:
        calibration: With the user's part.
        devices: A row for each; a device may stand there often.
        case: Resolved.
        table: Its operators.
        sizes: Which of the table's sizes are asked about.
    """
    learned = calibration.learned
    if learned is None or not any(device.id in learned.devices for device in devices):
        return None
    count, groups = len(devices), len(GROUPS)
    scale, covariance = np.ones((count, groups, len(sizes))), np.zeros((count, groups, groups))
    variance, measured = np.full((count, len(sizes)), np.nan), np.zeros(count, dtype=bool)
    dispersion = np.array([learned.dispersion.get(device.id, 1.0) for device in devices])
    regime, known = regime_of(case), {(s.device, s.regime): s for s in learned.scales}
    work, rows = [signature(table, size) for size in sizes], _rows_by_device(devices)
    for name, at in rows.items():
        if found := known.get((name, regime)):
            device = devices[at[0]]
            errors = [workload_error(calibration, asked(device, case, of, calibration.torch)) for of in work]
            mean = np.array([error[0] for error in errors])
            scale[at] = np.exp(np.array([found.log_scale[g] for g in GROUPS])[:, None] + mean)
            variance[at] = [error[1] for error in errors]
            covariance[at] = found.covariance
            measured[at] = found.rows > 0 and _is_measured_software(case, learned)
    return Knowledge(scale=scale, covariance=covariance, variance=variance, measured=measured, dispersion=dispersion)


def basis(calibration: Calibration, device: str) -> str:
    """What an answer for a device rests on, in words."""
    learned = calibration.learned
    if learned is None:
        return ""
    own = sum(scales.rows for scales in learned.scales if scales.device == device)
    others = len(learned.evidence) - own
    words = f"{own} measured rows of {device}" + (f" and {others} of other devices" if others else "")
    return f"{words} ({learned.where}, {learned.date})" if learned.where else words


def _rows_by_device(devices: Sequence[Device]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, device in enumerate(devices):
        rows.setdefault(device.id, []).append(row)
    return rows


def _is_measured_software(case: Case, learned: Learned) -> bool:
    """Whether the version asked for was measured; a case that names none is not told apart."""
    return not case.software.torch or not learned.software or case.software.torch in learned.software


def workload_error(calibration: Calibration, question: Evidence) -> tuple[float, float]:
    """Mean and variance of ln(time) that the scales leave open, given the measured rows nearest to a question.

    Rows count as far as their device strays, and what is asked may stray as far.

    Source: Rasmussen & Williams, equations 2.25 and 2.26.
    """
    learned, constants = calibration.learned, calibration.learning
    here = points_of([question])
    prior = float(workload_covariance(here, here, calibration)[0, 0])
    if learned is None or not learned.evidence:
        return 0.0, prior
    points, residuals, dispersion = _rows(learned)
    own = learned.dispersion.get(question.device, 1.0)
    with_all = own * dispersion * workload_covariance(here, points, calibration)[0]
    near = np.argsort(-with_all)[: int(constants.neighbours)]
    around, strays = points.take(near), dispersion[near]
    between = workload_covariance(around, around, calibration) + np.diag(noise_variance(around, constants))
    weights = np.linalg.solve(between * strays[:, None] * strays, with_all[near])
    repeated = own * max(constants.noise, _spread_on(learned, question.device))
    left = max(own**2 * prior - float(weights @ with_all[near]), 0.0)
    return float(weights @ residuals[near]), left + repeated**2


@lru_cache(maxsize=64)
def _spread_on(learned: Learned, device: str) -> float:
    """How far steps of one run usually lie apart on a device, as a standard deviation of ln(time)."""
    return float(np.median([e.spread_frac for e in learned.evidence if e.device == device] or [0.0]))


@lru_cache(maxsize=8)
def _rows(learned: Learned) -> tuple[Points, Array, Array]:
    """Measured rows, what the scales leave of each, and how far its device strays."""
    evidence = learned.evidence
    strays = [learned.dispersion.get(e.device, 1.0) for e in evidence]
    return points_of(evidence), np.array([e.residual for e in evidence]), np.array(strays)
