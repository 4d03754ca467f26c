"""Fits or not, against the batches of timm's benchmark: it takes the next smaller one when a run fails."""

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from rigwise.estimate.predict import predict
from rigwise.graph.load import read_zoo
from rigwise.workload.case import Case, Software

MEASURED = Path(os.environ.get("RIGWISE_MEASURED", Path(__file__).parents[1] / "../shared/data/measured"))
LADDER = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32)
FILES = ("nchw-pt112", "nhwc-pt112", "nchw-pt240", "nhwc-pt240")
DEVICES = {"RTX 3090": "rtx-3090", "RTX 4090": "rtx-4090"}
#: Networks of timm that the zoo has, of the same number of parameters.
NAMES = {
    "resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101",
    "resnet152": "resnet152", "resnext50_32x4d": "resnext50-32x4d", "seresnet50": "se-resnet50", "vgg16": "vgg16",
    "vgg19": "vgg19", "densenet121": "densenet121", "mobilenetv2_100": "mobilenet-v2",
    "mobilenetv3_large_100": "mobilenet-v3-large", "efficientnet_b0": "efficientnet-b0",
    "convnext_tiny": "convnext-tiny", "convnext_base": "convnext-base", "vit_base_patch16_224": "vit-b-16",
    "vit_large_patch16_224": "vit-l-16", "swin_tiny_patch4_window7_224": "swin-t",
}  # fmt: skip


def rows():
    with (MEASURED / "timm.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["device"] in DEVICES]


def answers(row, first):
    """Whether a step of this row's batch, and of the failed one before it, is said to fit; what is known."""
    batch = int(row["batch"])
    known = {batch: True}
    if batch < first and batch in LADDER:
        known[LADDER[LADDER.index(batch) - 1]] = False
    for size, fitted in known.items():
        case = Case(
            model=NAMES[row["model"]], device=DEVICES[row["device"]], task=row["task"], batch=size, dtype="amp-fp16",
            layout=row["layout"], mode="compiled" if "compile" in row["framework"] else "eager",
            image_size=int(row["input_shape_or_seq"].split("x")[1]),
            optimizer="momentum" if row["task"] == "train" else None,
            software=Software(torch=row["framework"].split()[1]),
        )  # fmt: skip
        yield predict(case, MODELS[case.model]).fits == fitted


MODELS = {name: read_zoo(name) for name in NAMES.values()}


def test_most_batches_are_judged_rightly():
    if not (MEASURED / "timm.csv").exists():
        print(f"skipped: no timm.csv in {MEASURED}; set RIGWISE_MEASURED")
        pytest.skip("no measured tables")
    every, first, right = rows(), Counter(), []
    for row in every:
        first[row["repo_path"]] = max(first[row["repo_path"]], int(row["batch"]))
    for row in every:
        if row["model"] in NAMES and any(name in row["repo_path"] for name in FILES):
            right += answers(row, first[row["repo_path"]])
    assert len(right) > 100
    assert sum(right) / len(right) >= 0.94
    print(f"{sum(right) / len(right):.3f} of {len(right)}")
