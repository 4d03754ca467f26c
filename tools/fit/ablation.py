"""What each mechanism of the estimate is worth: switched off one at a time, nothing refitted.

    python tools/fit/ablation.py FOLDER --graphs DIR [--every 8]

FOLDER holds measured tables (docs/reference/measurements.md), DIR captured graphs by the name the tables use. Of timm's
steps every n-th is taken, of other steps all, of single operators those over 200 us. Printed is the geometric error
of each group of rows in per cent, with everything on and with one mechanism off. Constants of the others stay as they were fitted beside
it, so a row says how much an answer leans on a mechanism, not what the best model without it would lose.

Source: the tables in FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from rigwise.calibrate.question import Question, measured_s, question
from rigwise.calibrate.rows import SHORT_S
from rigwise.calibrate.score import OPERAND_SETS, call_s
from rigwise.calibrate.shelf import Shelf, check_same_network
from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration, packaged
from rigwise.estimate.columns import columns
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import best_format_of, groups_of, lowering_of, machine_of, work_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import StepWork, step_times, step_work
from rigwise.measurement.tables import read_tables
from rigwise.workload.lower import lower_model
from rigwise.workload.resolve import resolve
from rigwise.workload.table import tabulate

Errors = dict[str, dict[str, list[float]]]
STEPS = ("timm", "neusight_e2e", "cnn-benchmarks", "nvidia-dle", "llm-foundry")
OPERATORS = ("neusight_ops", "vidur", "aiconfigurator_gemm", "deepbench")
ENGINES = ("vector", "synchronous", "asynchronous")
ONE = [1.0, 1.0, 1.0]
#: A smaller change of an error, in percentage points, is not told.
LEAST_POINTS = 0.2
NO_GROUPS = {"group_width": 0.0, "group_frac": ONE}
NO_FIRST = {"first_cycles": dict.fromkeys(ENGINES, 0.0), "memory_cycles": dict.fromkeys(ENGINES, 0.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """How a mechanism is switched off: constants by table, functions of ``estimate.conv``, fusion."""

    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    functions: Mapping[str, Any] = field(default_factory=dict)
    unfused: bool = False
    channels_last: bool = False


def off(**constants: Mapping[str, Any]) -> Off:
    return Off(constants=constants)


def as_small(layout: str) -> Mapping[str, Any]:
    """Depthwise windows of every size and shape at the speed of small square ones."""
    small = getattr(packaged().conv, layout)["depthwise_vector_frac"]
    return {"wide_vector_frac": small, "large_vector_frac": small, "oblong_vector_frac": small[0], "oblong_frac": 1.0}


MECHANISMS = {
    "everything": off(),
    "waves of tiles": off(
        gemm={"wave_frac": dict.fromkeys(ENGINES, 0.0), "lanes": {"wave_frac": 0.0}},
        conv={"vector": {"wave_frac": 0.0}},
    ),
    "split of the inner dimension": off(gemm={"splits": [1]}),
    "choice of tile": off(gemm={"tiles": [128]}),
    "ramp along the inner dimension": off(
        gemm={"ramp_steps": 0.0, "lanes": {"ramp_steps": 0.0}},
        conv={"vector": {"ramp_steps": 0.0, "wgrad_ramp_steps": 0.0, "fused_ramp_steps": 0.0}},
    ),
    "cost of narrow tiles": off(
        gemm={"tile_edge": dict.fromkeys(ENGINES, 0.0), "lanes": {"tile_edge": 0.0, "batched_tile_edge": 0.0}},
        conv={"vector": {"tile_edge": 0.0}},
    ),
    "rounding before products of 8 bits": off(
        gemm={
            f"rounding_{what}_of_format": dict.fromkeys(("fp8", "int8"), 0.0)
            for what in ("cycles", "bytes", "element_cycles")
        }
    ),
    "start of a product": off(gemm=NO_FIRST),
    "imperfect overlap": off(gemm={"norm_exponent": 200.0}),
    "layout rewritten around convolutions": off(conv={"nchw": {"transform_passes": 0.0}}),
    "thin groups": off(conv={"vector": {"group_width": 0.0}, "nchw": NO_GROUPS, "nhwc": NO_GROUPS}),
    "taps wasted by strided gradients": off(conv={"vector": {"taps_exponent": 0.0}}),
    "large and oblong depthwise windows": off(conv={layout: as_small(layout) for layout in ("nchw", "nhwc")}),
    "depthwise convolutions' own law": Off(functions={"_depthwise": lambda *known: known[-1]}),
    "Winograd's transforms": Off(functions={"transformed": lambda table, *_: np.zeros(len(table.kind), dtype=bool)}),
    "exponentials of attention": off(attention={"exponential_cost": 0.0}),
    "blocks and waves of attention": off(
        attention={"wave_frac": 0.0, "block_cycles": 0.0, "edge_keys": 0.0, "head_step": 1, "floor_cycles": 0.0}
    ),
    "slower kernels of attention": off(attention={"efficient_frac": 1.0, "first_flash_frac": 1.0}),
    "passes over operands": off(memory={"passes": dict.fromkeys(packaged().memory.passes, 1.0)}),
    "rows read again": off(memory={"read_again": dict.fromkeys(packaged().memory.read_again, 0.0)}),
    "results found in the cache": off(memory={"reuse_gain": 0.0, "cache_gain": 1.0}),
    "power limit": off(power={"usable_frac": 1e9}),
    "dispatch by the host": off(
        launch={name: 0.0 for name in packaged().launch.values if name.startswith("host_") and name.endswith("_s")}
    ),
    "gap between kernels": off(launch={"kernel_s": 0.0}),
    "age of the software": off(
        launch={"host_slower_per_year": 0.0}, memory={"slower_per_year": 0.0}, gemm={"gain_per_year": 0.0}
    ),
    "fusion by the compiler": Off(unfused=True),
    "layout that the compiler picks": Off(channels_last=True),
    "sums over pixels in compiled kernels": off(memory={"pixel_sums": {"slowdown_per_pixel": 0.0}}),
    "start of CPU operators": off(cpu={f"{kind}_cycles": 0.0 for kind in ("conv", "grouped", "gemm", "other")}),
    "start grows with the cores": off(cpu={"fork_factor": 0.0}),
    "weights laid out anew on CPUs": off(cpu={"relayout_bytes_per_cycle": 1e9}),
    "new pages on CPUs": off(cpu={"mapped_bytes_per_cycle": 1e9}),
}


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, **{k: merged(values[k], v) if isinstance(v, Mapping) else v for k, v in changes.items()}}


def without(mechanism: Off, calibration: Calibration) -> Calibration:
    tables: dict[str, Any] = {}
    for name, changes in mechanism.constants.items():
        constants = getattr(calibration, name)
        tables[name] = replace(constants, values=merged(constants.values, changes))
    return replace(calibration, **tables)


@contextlib.contextmanager
def switched(mechanism: Off, calibration: Calibration) -> Iterator[Calibration]:
    with contextlib.ExitStack() as stack:
        for name, function in mechanism.functions.items():
            stack.enter_context(patch(f"rigwise.estimate.conv.{name}", function))
        yield without(mechanism, calibration)


def questions(folder: Path, names: Sequence[str], shelf: Shelf, every: int) -> list[Question]:
    found = []
    for m in read_tables([folder / f"{name}.csv" for name in names])[0]:
        digest = int(hashlib.sha256(f"{m.model}{m.framework}{m.layout}{m.task}{m.batch}".encode()).hexdigest(), 16)
        if m.source == "timm" and digest % every:
            continue
        with contextlib.suppress(RigwiseError):
            asked = question(m, shelf.names)
            if asked.is_step or (asked.op is not None and measured_s(m) > SHORT_S):
                found.append(asked)
    return found


def group_of(asked: Question) -> str:
    """Steps by table, timm's by task and layout; operators by table and kind."""
    source, case = asked.measurement.source, asked.case
    if asked.op is not None:
        return f"{source} {asked.op.kind.value}"
    if source != "timm":
        return source
    if asked.device.kind == "cpu":
        return "timm cpu"
    return f"timm {'compiled' if case.mode == 'compiled' else f'{case.task} {case.layout}'}"


def steps(asked: Sequence[Question], shelf: Shelf, errors: Errors) -> None:
    for one in sorted(asked, key=lambda q: q.case.model):
        with contextlib.suppress(RigwiseError):
            model = shelf.model(one.case.model)
            check_same_network(one.measurement, model)
            resolved = resolve(one.case, model)
            step = work_of(model, resolved, one.device)
            eager = replace(lowering_of(resolved.case, best_format_of(one.device)), mode="eager")
            unfused = step_work(resolved.case, lower_model(model, eager), resolved.sizes)
            for name, mechanism in MECHANISMS.items():
                taken = unfused if mechanism.unfused else step
                if mechanism.channels_last and resolved.case.mode == "compiled":
                    taken = replace(step, case=replace(step.case, layout="nhwc"))
                with switched(mechanism, packaged()) as calibration:
                    predicted_s = step_s(one, taken, calibration)
                errors[group_of(one)][name].append(math.log(predicted_s / measured_s(one.measurement)))


def step_s(asked: Question, step: StepWork, calibration: Calibration) -> float:
    on_device = columns([asked.device], calibration, [None])
    micro, _ = micro_step(step.table, on_device, calibration, setting_of(step.case))
    groups = groups_of(step.case, machine_of(step.case, asked.device))
    times = step_times(step, micro.pick(), groups, on_device, calibration)
    return float({"forward": times.forward_s, "backward": times.backward_s}.get(asked.part, times.total_s)[0])


def operators(asked: Sequence[Question], errors: Errors) -> None:
    alike: dict[tuple[object, ...], list[Question]] = defaultdict(list)
    for one in asked:
        alike[one.device.id, one.measurement.source, one.case.layout, one.case.runtime, one.case.software].append(one)
    for members in alike.values():
        device = members[0].device
        table = tabulate([one.op for one in members if one.op], {"b": 1})
        sets = OPERAND_SETS.get(members[0].measurement.source, 1)
        setting = replace(setting_of(members[0].case), operand_sets=sets)
        for name, mechanism in MECHANISMS.items():
            with switched(mechanism, packaged()) as calibration:
                times = op_times(table, columns([device], calibration, [None]), calibration, setting).total_s[0, :, 0]
            for one, predicted_s in zip(members, times, strict=True):
                if np.isfinite(predicted_s):
                    whole_s = predicted_s + call_s(one)
                    errors[group_of(one)][name].append(math.log(whole_s / measured_s(one.measurement)))


def main() -> None:
    """Print a table in Markdown: groups of rows, their error, and the error without each mechanism that matters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--every", type=int, default=8, help="take every n-th of timm's steps")
    options = parser.parse_args()
    shelf = Shelf(options.graphs)
    errors: Errors = defaultdict(lambda: defaultdict(list))
    steps(questions(options.folder, STEPS, shelf, options.every), shelf, errors)
    operators(questions(options.folder, OPERATORS, shelf, 1), errors)
    for sources in (STEPS, OPERATORS):
        print_tables({group: errors[group] for group in sorted(errors) if group.startswith(sources)})


def print_tables(errors: Errors) -> None:
    """The groups with everything on, then each mechanism with the groups that it matters to, those it hurts last."""
    off = {name: {g: 100 * math.expm1(np.abs(of[name]).mean()) for g, of in errors.items()} for name in MECHANISMS}
    whole = off.pop("everything")
    print("\n| rows | n | error |\n|---|---:|---:|")
    for group, error in whole.items():
        print(f"| {group} | {len(errors[group]['everything']):,} | {error:.1f} |")
    print("\n| without | error | error that is less |\n|---|---|---|")
    for name, changed in off.items():
        more = {group: error for group, error in changed.items() if error - whole[group] >= LEAST_POINTS}
        less = {group: error for group, error in changed.items() if whole[group] - error >= LEAST_POINTS}
        if more or less:
            cells = (ranked({group: found[group] / whole[group] for group in found}, found) for found in (more, less))
            print(f"| {name} | " + " | ".join(cells) + " |")


def ranked(ratio: Mapping[str, float], errors: Mapping[str, float]) -> str:
    """The errors, those that changed most first."""
    order = sorted(ratio, key=lambda group: -abs(math.log(ratio[group])))
    return ", ".join(f"{group} {errors[group]:.1f}" for group in order)


if __name__ == "__main__":
    main()
