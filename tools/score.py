"""Score the estimate against published measurements, row by row.

    python tools/score.py FOLDER [--source neusight_e2e] [--worst 10]

FOLDER holds CSV tables with the columns device, device_variant, count, model, task, precision,
layout, batch, input_shape_or_seq, framework, metric, value. Only rows whose model is in the
zoo, or which time one matrix product, can be scored; the others are counted. Printed for each
source, device and mode: rows, geometric error exp(mean |ln(predicted/measured)|) - 1, its 90th
percentile, bias, and how many rows lie inside the 80 % interval. Rows quicker than the bound are counted at the end: there
should be none.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import predict
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.load import load_model, zoo_names
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.case import Case, Software
from rigwise.workload.table import tabulate

DEVICES = {
    ("A100", "PCIe 40GB"): "a100-pcie-40gb", ("A100", "SXM4"): "a100-sxm4-80gb", ("A100", "SXM 80GB"): "a100-sxm4-80gb",
    ("A100", "SXM4 40GB"): "a100-sxm4-40gb", ("A100", "SXM4 80GB"): "a100-sxm4-80gb", ("A40", "48GB"): "a40",
    ("V100", "PCIe 32GB"): "v100-pcie-32gb", ("V100", "SXM2 16GB"): "v100-sxm2-16gb", ("V100", "SXM2"): "v100-sxm2-16gb",
    ("V100", "SXM2 32GB"): "v100-sxm2-32gb", ("V100", "SXM2 (DGX-1)"): "v100-sxm2-16gb", ("P100", "PCIe 16GB"): "p100-pcie-16gb",
    ("P100", "PCIe?"): "p100-pcie-16gb", ("H100", "SXM5 80GB"): "h100-sxm5-80gb", ("Titan X (Maxwell)", ""): "gtx-titan-x-maxwell",
    ("Titan X (Pascal)", ""): "titan-x-pascal", ("Core i9-10940X", "CPU 14c AVX512"): "core-i9-10940x",
}  # fmt: skip
MODELS = {
    "vit_base_patch16_224": "vit-b-16", "vit_large_patch16_224": "vit-l-16", "gpt3_xl": "gpt3-xl", "resnet50 v1.5": "resnet50",
    "mobilenetv2_100": "mobilenet-v2", "mobilenetv3_large_100": "mobilenet-v3-large", "bert_large": "bert-large",
    "gpt2_large": "gpt2-large", "vgg-16": "vgg16", "vgg-19": "vgg19", "VGG-A": "vgg11", "efficientnet_b0": "efficientnet-b0",
    "convnext_tiny": "convnext-tiny", "convnext_base": "convnext-base", "BERT-Large": "bert-large",
}  # fmt: skip
DTYPES = {
    "fp32": "fp32",
    "fp32 (TF32 off)": "fp32",
    "amp_fp16": "amp-fp16",
    "amp_bf16": "amp-bf16",
    "fp16": "fp16",
    "fp64": "fp64",
    "bf16": "bf16",
}
GEMM_DTYPES = {
    "fp32": "fp32",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "fp32 (TF32 off)": "fp32",
}


class Scored(NamedTuple):
    """One row with its prediction, in seconds."""

    group: tuple[str, str, str]
    name: str
    predicted_s: float
    measured_s: float
    inside: bool
    bound_s: float = 0.0


def rows_of(folder: Path, only: str) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob(f"{only or '*'}.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            yield from csv.DictReader(stream)


def zoo_name(model: str) -> str:
    plain = MODELS.get(model, model).lower()
    known = zoo_names()
    for guess in (plain, plain.replace("_", "-"), plain.replace("-", ""), plain.replace("_", "")):
        if guess in known:
            return guess
    return ""


def case_of(row: dict[str, str]) -> Case | None:
    """The case a row measured, or None if the zoo lacks the model or the row is no whole step."""
    model = zoo_name(row["model"])
    task = {"infer": "infer", "fwd": "infer", "train": "train"}.get(row["task"])
    dtype = DTYPES.get(row["precision"])
    if not model or task is None or dtype is None or not row["batch"].isdigit() or row["count"] != "1":
        return None
    if model.startswith("resnet") and row["source"] == "cnn-benchmarks" and task == "infer":
        return None  # timed in training mode
    text, shape = row["framework"], row["input_shape_or_seq"]
    if not shape:
        return None  # nobody says what sequence or image it was timed with
    version = re.search(r"PyTorch (\d+\.\d+)", text)
    torch, year = (version.group(1), None) if version else (None, 2016)
    image, sequence = re.search(r"3x(\d+)x", shape), re.fullmatch(r"(?:seq )?(\d+)", shape)
    no_optimizer = any(word in row["notes"] for word in ("no optimizer", "layers="))
    return Case(
        model=model,
        device=DEVICES.get((row["device"], row["device_variant"]), row["device"]),
        task=task,
        batch=int(row["batch"]),
        image_size=int(image.group(1)) if image else None,
        seq=int(sequence.group(1)) if sequence else None,
        dtype=dtype,
        layout=row["layout"] or "nchw",
        mode="compiled" if "compile" in text else "eager",
        optimizer="none" if no_optimizer else "sgd" if task == "train" else None,
        software=Software(torch=torch, year=year, attention="math" if "HF" in text else None),
    )


def seconds(row: dict[str, str]) -> float:
    value = float(row["value"])
    return value / 1e3 if row["metric"] == "ms_per_step" else int(row["batch"]) / value


def score_step(row: dict[str, str]) -> Scored | None:
    case = case_of(row)
    if case is None:
        return None
    p = predict(case, load_model(case.model))
    measured = seconds(row)
    inside = p.step_time_s["p10"] <= measured <= p.step_time_s["p90"]
    group = (
        row["source"],
        p.device.id,
        f"{case.task} {case.dtype} {case.layout} {case.mode} {case.software.torch or ''}",
    )
    return Scored(group, f"{case.model} b{case.batch}", p.step_time_s["p50"], measured, inside, p.bound_s)


def score_gemm(row: dict[str, str]) -> Scored | None:
    """A row that timed one matrix product."""
    number_format = GEMM_DTYPES.get(row["precision"])
    sizes = {key: int(n) for key, n in re.findall(r"\b([BMNK])(\d+)", row["input_shape_or_seq"])}
    if (
        number_format is None
        or not {"M", "N", "K"} <= sizes.keys()
        or not re.match(r"op:(gemm|bmm|linear)", row["model"])
    ):
        return None
    if "linear" in row["model"]:
        sizes["M"] *= sizes.pop("B", 1)
    width = {"fp32": "float32", "fp8": "float8"}.get(number_format, "bfloat16")
    batch = (sizes["B"],) if "B" in sizes else ()
    a, b = (
        Tensor((*batch, sizes["M"], sizes["K"]), width),
        Tensor((*batch, sizes["K"], sizes["N"]), width, Role.ACTIVATION if batch else Role.PARAMETER),
    )
    out = Tensor((*batch, sizes["M"], sizes["N"]), width if width != "float8" else "bfloat16")
    op = Op(
        name="aten.bmm",
        kind=Kind.GEMM,
        phase=Phase.FORWARD,
        inputs=(a, b),
        outputs=(out,),
        attrs={"format": number_format},
    )
    device = resolve_device(DEVICES.get((row["device"], row["device_variant"]), row["device"]))
    calibration = load_calibration()
    setting = Setting(operand_sets=5 if row["source"] == "aiconfigurator_gemm" else 1)
    times = op_times(tabulate([op], {"b": 1}), columns([device], calibration), calibration, setting)
    return Scored(
        (row["source"], device.id, number_format),
        row["input_shape_or_seq"],
        float(times.total_s[0, 0, 0]),
        seconds(row),
        False,
    )


def report(scored: list[Scored], worst: int) -> None:
    groups: dict[tuple[str, str, str], list[Scored]] = defaultdict(list)
    for one in scored:
        groups[one.group].append(one)
    print(f"{'source':<18} {'device':<20} {'what':<38} {'rows':>5} {'geo':>6} {'p90':>6} {'bias':>6} {'in80':>5}")
    for group, members in sorted(groups.items()):
        logs = [math.log(m.predicted_s / m.measured_s) for m in members]
        errors = sorted(abs(e) for e in logs)
        geo, p90 = math.exp(statistics.mean(errors)) - 1, math.exp(errors[int(0.9 * (len(errors) - 1))]) - 1
        bias = math.exp(statistics.mean(logs)) - 1
        inside = statistics.mean(m.inside for m in members)
        print(
            f"{group[0]:<18.18} {group[1]:<20.20} {group[2]:<38.38} {len(members):>5} {geo:>6.1%} {p90:>6.1%} {bias:>+6.1%} {inside:>5.0%}"
        )
    for one in sorted(scored, key=lambda s: -abs(math.log(s.predicted_s / s.measured_s)))[:worst]:
        print(
            f"  {one.predicted_s / one.measured_s:6.2f}x  {' '.join(one.group)}  {one.name}  measured {one.measured_s * 1e3:.3f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--worst", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="score every n-th row only")
    options = parser.parse_args()
    scored, skipped = [], Counter()
    for number, row in enumerate(rows_of(options.folder, options.source)):
        if number % options.every:
            continue
        try:
            one = score_gemm(row) if row["model"].startswith("op:") else score_step(row)
        except RigwiseError as error:
            skipped[str(error)[:90]] += 1
            continue
        if one is None:
            skipped[f"{row['source']}: no such model here, or no whole step"] += 1
        else:
            scored.append(one)
    report(scored, options.worst)
    print(f"quicker than the bound: {sum(one.measured_s < one.bound_s for one in scored)} of {len(scored)}")
    print(f"not scored: {sum(skipped.values())}")
    for reason, rows in skipped.most_common(8):
        print(f"  {rows:>6}  {reason}")


if __name__ == "__main__":
    main()
