"""Operators on a CPU: cores that share a memory bus, and libraries that lay data out anew.

An operator takes its arithmetic, its traffic and a start of its threads, one after the other: all cores wait
for the slowest between two operators. Arithmetic runs at a share of the peak at the clock that the cores
hold; traffic at what the bus gives, or at what the cores can ask for, which is less on few cores. A part of
the activations never leaves the caches. A convolution wider than 1x1 first lays its weights out anew, on one
core, as oneDNN does when nobody packed them beforehand. What takes over 32 MiB lies in pages that are new each time.

Ranks that run on one CPU each have their part of its cores, its bus and its caches (``machine.part_of_cpu``), and
send each other messages by the same cores.

Left out: NUMA, huge pages, thread pinning, the order of hybrid cores.

Source: constants fitted by ``tools/fit/cpu.py``; Georganas et al., "Anatomy of High-Performance Deep
Learning Convolutions on SIMD Architectures", 2018, for the kernels and their layouts; Intel, "oneAPI Math
Kernel Library Developer Guide", on the code paths of other makers' CPUs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration, Constants, load_calibration
from rigwise.estimate.collective import Network, alone
from rigwise.estimate.columns import DeviceColumns, columns, held_hz
from rigwise.estimate.setting import Setting
from rigwise.facts.device import Device
from rigwise.graph.op import Kind
from rigwise.machine.machine import Machine
from rigwise.workload.table import FORMATS, Array, OpTable

#: PyTorch's CPU builds compute convolutions by oneDNN since version 1.0; before, each image was unfolded.
ONEDNN_YEAR = 2018.9
#: Runtimes that lay weights out once, when they load a model.
_PACKING_RUNTIMES = frozenset({"onnxruntime", "openvino", "llama.cpp"})
#: Kinds of work that the constants tell apart, in this order.
_CLASSES = ("conv", "wide_conv", "grouped", "depthwise", "gemm", "other")
_OTHER = _CLASSES.index("other")
#: Of a number, by ``FORMATS``; formats that no CPU multiplies in count as bytes.
_BYTES = np.array(
    [{"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0}.get(name, 1.0) for name in FORMATS]
)
#: The C library gives back what takes more, and asks for it anew: ``DEFAULT_MMAP_THRESHOLD_MAX``.
_MAPPED_BYTES = 32 * 2.0**20
#: Smaller shares of a step are not worth a word.
_SAID_FRAC = 0.1
#: Cores beyond which more of them get no more pages.
_MOST_AT_ONCE = 16.0
#: Keys that fused attention takes at a time.
_BLOCK_OF_KEYS = 512.0
#: Bytes moved for each byte of gradients that goes into a bucket and comes back: read and written twice.
_BUCKET_PASSES = 4.0


def cpu_times(
    table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting
) -> tuple[Array, Array, Array]:
    """Compute, memory and whole time of every operator of a table on CPUs ``[devices, operators, sizes]``.

    Source: see the module.
    """
    constants, classes = calibration.cpu, _classes(table)
    flops = table.flops * _computed_again(table)
    compute = flops[None] / _rate_flops_per_s(table, classes, device, constants, setting)
    memory = _memory_s(table, classes, device, constants, setting)
    memory = memory + new_pages_s(table, device, constants, setting)
    return compute, memory, compute + memory + _start_s(table, classes, device, constants)


def _computed_again(table: OpTable) -> Array | float:
    """What causal attention computes over what its mask leaves ``[operators, sizes]``.

    Keys are taken in blocks: each row of queries meets whole blocks up to its own.

    Source: PyTorch's ``FlashAttentionKernel.cpp``, ``kvSplitSize``; of 512 tokens the causal product takes as long as
    the whole one on an EPYC 9005, of 1,024 three quarters.
    """
    attention = table.of_kind(Kind.ATTENTION)
    if not attention.any():
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(attention[:, None], table.flops / (2.0 * table.macs), 1.0)
    is_causal = attention[:, None] & (left < 1.0) & (table.m == table.n)
    blocks = np.minimum(1.0, 0.5 * (1.0 + _BLOCK_OF_KEYS / np.maximum(table.n, 1.0)))
    return np.asarray(np.where(is_causal, np.maximum(blocks / np.maximum(left, 1e-12), 1.0), 1.0))


def _classes(table: OpTable) -> NDArray[np.int64]:
    """Index into ``_CLASSES`` ``[operators]``."""
    conv, products = table.of_kind(Kind.CONV), table.of_kind(Kind.GEMM, Kind.RNN, Kind.ATTENTION)
    groups, inner = table.batch[:, 0], table.k[:, 0] / table.window
    thin = np.minimum(table.n[:, 0], inner) <= 2
    of_conv = np.where(groups > 1, np.where(thin, 3, 2), np.where(table.window > 1, 1, 0))
    return np.where(conv, of_conv, np.where(products, _CLASSES.index("gemm"), _OTHER))


def _rate_flops_per_s(
    table: OpTable, classes: NDArray[np.int64], device: DeviceColumns, constants: Constants, setting: Setting
) -> Array:
    """FLOP/s in each operator's format ``[devices, operators, 1]``, never above the peak at the rated clock.

    A core without arithmetic in fp16 converts each number: products with rows of a weight, and attention, do so a
    vector at a time, anything else one by one.
    """
    fracs = [constants.conv_frac, constants.conv_frac, constants.grouped_frac, constants.depthwise_frac]
    frac = np.array([*fracs, constants.gemm_frac, constants.gemm_frac])[classes]
    if _unfolds(setting):
        frac = np.where(classes < _CLASSES.index("gemm"), constants.unfolded_frac, frac)
    is_wide = np.isin(table.number_format, [FORMATS.index("fp32"), FORMATS.index("fp64")])
    lstm = table.of_kind(Kind.RNN) & (table.cell_steps[:, 0] == 1.0)  # oneDNN's
    by_mkl = is_wide & (classes == _CLASSES.index("gemm")) & ~lstm
    by_library = np.where(by_mkl, device.mkl_frac[:, :, 0], 1.0)
    whole = np.minimum(1.0, device.even_frac[:, :, 0] * frac * by_library)
    rate = device.peak_flops_per_s[:, table.number_format] * whole
    emulated = device.lacks_fp16[:, :, 0] & (table.number_format == FORMATS.index("fp16"))
    by_rows = (classes == _CLASSES.index("gemm")) & ((table.weight_bytes[:, 0] > 0) | table.of_kind(Kind.ATTENTION))
    cycles = np.where(by_rows, constants.emulated_row_flop_per_cycle, constants.emulated_flop_per_cycle)
    by_cores = cycles * (device.core_hz * device.units)[:, :, 0]
    return np.asarray(np.where(emulated, np.minimum(rate, by_cores), rate)[:, :, None])


def _memory_s(
    table: OpTable, classes: NDArray[np.int64], device: DeviceColumns, constants: Constants, setting: Setting
) -> Array:
    """Weights and activations over the bus, and weights laid out anew.

    A convolution fetches its activations while it computes. What exceeds the last-level cache crosses the bus
    in any case. A recurrent layer that is walked through step by step fetches the weights of its state, about half of
    all, in each.
    """
    bytes_per_s = _bus_or_cores(device, constants, constants.core_bytes_per_cycle)
    fetched_per_s = _bus_or_cores(device, constants, constants.core_fetched_bytes_per_cycle)
    passes = np.array([0.0] * 4 + [constants.gemm_passes, constants.other_passes])[classes][None, :, None]
    weights = table.weight_bytes[None]
    activations = (table.read_bytes + table.write_bytes)[None] - weights
    if _unfolds(setting):
        is_conv = (classes < _CLASSES.index("gemm"))[None, :, None]
        passes = np.where(is_conv, 1.0 + table.window[None, :, None], passes * constants.plain_passes_factor)
    products = (classes == _CLASSES.index("gemm"))[None, :, None]
    kept = table.of_kind(Kind.ATTENTION)[None, :, None]
    again = 0.5 * (table.cell_steps - 1.0) * table.n * table.k * _BYTES[table.number_format][:, None]
    streamed = (weights + again[None]) / np.where(products, fetched_per_s, bytes_per_s)
    streamed = streamed + activations * passes / np.where(kept, fetched_per_s, bytes_per_s)
    wide = (classes == _CLASSES.index("wide_conv"))[None, :, None] & (setting.runtime not in _PACKING_RUNTIMES)
    relaid = np.where(wide, weights / (constants.relayout_bytes_per_cycle * device.core_hz), 0.0)
    hidden = np.minimum(relaid, weights / bytes_per_s)
    uncached = np.maximum(0.0, weights + activations - device.l2_bytes) / device.bytes_per_s
    return np.asarray(np.maximum(streamed + relaid - hidden, uncached))


def new_pages_s(table: OpTable, device: DeviceColumns, constants: Constants, setting: Setting) -> Array:
    """What the kernel takes to hand out zeroed pages for large arrays ``[devices, operators, sizes]``.

    Results of operators, whose cores ask for pages at once and wait for each other, and weights of a convolution that
    one core lays out anew. Compiled code keeps results for later ones of their size, as frameworks did until 2018.

    Left out: other C libraries and allocators, huge pages.

    Source: glibc 2.35, ``malloc/malloc.c``; the ``[cpu]`` table; the square root: two cores got pages 1.5 times as
    fast as one, and that it ends at 16 is a judgement.
    """
    if setting.runtime != "torch" or _unfolds(setting):
        return np.zeros((len(device.devices), *table.write_bytes.shape))
    together = np.sqrt(np.minimum(device.units, _MOST_AT_ONCE))
    results = np.where(table.result_bytes > _MAPPED_BYTES, table.write_bytes, 0.0) * (setting.mode == "eager")
    wide = (_classes(table) == _CLASSES.index("wide_conv"))[:, None]
    relaid = np.where(wide & (table.weight_bytes > _MAPPED_BYTES), table.weight_bytes, 0.0)
    return np.asarray((results[None] / together + relaid[None]) / (constants.mapped_bytes_per_cycle * device.core_hz))


def said_of_pages(table: OpTable, device: Device, total_s: Array, setting: Setting) -> list[str]:
    """How much of a step is for memory that another allocator would have kept, if it is worth a word.

    Args:
        table: The operators of one step.
        device: A CPU; of anything else nothing is said.
        total_s: Time of each operator ``[operators]``.
        setting: How a framework runs them.
    """
    if device.kind != "cpu":
        return []
    calibration = load_calibration()
    pages_s = new_pages_s(table, columns([device], calibration), calibration.cpu, setting)[0, :, 0]
    share = float(pages_s @ table.repeat) / max(float(total_s @ table.repeat), 1e-300)
    return [f"{share:.0%} of the time is new memory for arrays over 32 MiB"] if share >= _SAID_FRAC else []


def updated_bytes_per_s(device: DeviceColumns, constants: Constants) -> Array:
    """Rate of an optimizer step, which writes where it read: the lines of a rule meet a small tensor in the cache.

    Left out: new pages for the temporaries of a large tensor, with which AdamW takes twice as long.

    Source: the ``[cpu]`` table.
    """
    return _bus_or_cores(device, constants, constants.core_updated_bytes_per_cycle)


def network_on_cores(machine: Machine, calibration: Calibration) -> Network:
    """Links between ranks that share a CPU: sockets of its own, at the pace of one core of a rank.

    What is sent is copied into the kernel and out of it, and summed, by the cores that compute; a bucket of gradients
    is filled and emptied by them too. Rings are the only algorithm of gloo.

    Left out: MPI and other libraries, which pass messages through shared memory without a socket.

    Args:
        machine: Its device is the part of one rank.
        calibration: The ``[cpu]`` and ``[collective]`` tables.

    Source: the ``[cpu]`` table; PyTorch, "Distributed communication package", for gloo; Li et al., "PyTorch
    Distributed", 2020, section 3.2, for buckets.
    """
    constants, hz = calibration.cpu, held_hz(machine.device)
    device = columns([machine.device], calibration)
    hop_s = constants.rank_hop_cycles / hz
    usual = calibration.collective
    inter = (machine.inter_node_bytes_per_s or usual.usual_inter_node_bytes_per_s) * usual.network_frac
    return replace(
        alone(usual),
        per_node=machine.devices_per_node,
        nodes=machine.nodes,
        intra_bytes_per_s=min(constants.rank_bytes_per_cycle * hz, float(device.bytes_per_s[0, 0, 0])),
        inter_bytes_per_s=inter,
        intra_latency_s=hop_s,
        tree_latency_s=hop_s * machine.count,
        ramp_frac=0.0,
        spread=usual.link_spread if machine.nodes == 1 or machine.inter_node_bytes_per_s else usual.assumed_link_spread,
        on_cores=True,
        staging_s_per_byte=_BUCKET_PASSES / float(updated_bytes_per_s(device, constants)[0, 0, 0]),
    )


def _bus_or_cores(device: DeviceColumns, constants: Constants, core_bytes_per_cycle: float) -> Array:
    asked = core_bytes_per_cycle * device.core_hz * device.units
    return np.asarray(np.minimum(device.bytes_per_s * constants.memory_frac, asked))


def _start_s(table: OpTable, classes: NDArray[np.int64], device: DeviceColumns, constants: Constants) -> Array:
    """Cycles to start an operator and to meet at its end, more with each doubling of the cores."""
    grouped = [constants.grouped_cycles] * 2
    cycles = np.array([constants.conv_cycles] * 2 + grouped + [constants.gemm_cycles, constants.other_cycles])[classes]
    meetings = 1.0 + constants.fork_factor * np.log2(np.maximum(device.units, 1.0))
    return np.asarray(cycles[None, :, None] * table.launches[None, :, None] * meetings / device.core_hz)


def _unfolds(setting: Setting) -> bool:
    return setting.year is not None and setting.year < ONEDNN_YEAR
