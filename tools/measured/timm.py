"""timm's ``results/benchmark-*.csv``: images per second of about a thousand networks.

The name of a file says what was run: ``benchmark-infer-amp-nchw-pt240-cu124-rtx4090-dynamo.csv``.
"""

from __future__ import annotations

import csv
import re

from measured.row import Row, number

_NAME = re.compile(r"benchmark-(infer|train)-(amp|fp32)-(nchw|nhwc)-pt(\d+)-(cu\d+|cpu)-(.+?)(-dynamo)?\.csv")
_DEVICES = {
    "rtx3090": ("RTX 3090", ""),
    "rtx4090": ("RTX 4090", ""),
    "rtx5090": ("RTX 5090", ""),
    "i9_10940x": ("Core i9-10940X", "CPU 14c AVX512"),
    "i7_12700h": ("Core i7-12700H", ""),
}


def rows_of(path: str, text: str) -> list[Row]:
    """The rows of one file.

    Raises:
        ValueError: The name of the file, or a cell, is not of the known form.
    """
    match = _NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        raise ValueError(f"{path} is not named as expected")
    task, precision, layout, torch, build, device, compiled = match.groups()
    name, variant = _DEVICES.get(device, (device, ""))
    mode = "torch.compile" if compiled else "eager"
    return [
        {
            "source": "timm",
            "device": name,
            "device_variant": variant,
            "count": "1",
            "model": cells["model"],
            "task": task,
            "precision": "amp_fp16" if precision == "amp" else precision,
            "layout": layout,
            "batch": str(int(float(cells[f"{task}_batch_size"]))),
            "input_shape_or_seq": "3x{0}x{0}".format(int(float(cells[f"{task}_img_size"]))),
            "framework": f"PyTorch {_version(torch)} {build} {mode}",
            "metric": "samples_per_s",
            "value": number(float(cells[f"{task}_samples_per_sec"])),
            "notes": _notes(cells, task),
        }
        for cells in csv.DictReader(text.splitlines())
        if cells.get(f"{task}_samples_per_sec") and float(cells[f"{task}_samples_per_sec"]) > 0
    ]


def _version(digits: str) -> str:
    """``113`` is 1.13, ``240`` is 2.4.0."""
    return f"1.{digits[1:]}" if digits.startswith("1") else ".".join(digits)


def _notes(cells: Row, task: str) -> str:
    pairs = {
        "step_ms": cells.get(f"{task}_step_time"),
        "params_M": cells.get("param_count"),
        "gmacs": cells.get(f"{task}_gmacs"),
        "macts_M": cells.get(f"{task}_macts"),
    }
    return "; ".join(f"{key}={value}" for key, value in pairs.items() if value)
