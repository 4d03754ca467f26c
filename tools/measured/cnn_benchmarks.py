"""cnn-benchmarks' ``outputs/*/*.json``: forward, backward and both of ten networks under Torch7, in seconds."""

from __future__ import annotations

import json
import statistics
from typing import Any

from measured.row import Row, number

_DEVICES = {
    "GeForce GTX TITAN X": "Titan X (Maxwell)",
    "TITAN X": "Titan X (Pascal)",
    "GeForce GTX 1080": "GTX 1080",
    "GeForce GTX 1080 Ti": "GTX 1080 Ti",
}


def rows_of(path: str, text: str) -> list[Row]:
    """The three rows of one file.

    Raises:
        ValueError: It is no such document, or from a device that nobody named.
    """
    try:
        document = json.loads(text)
        options = document["opt"]
        device = _DEVICES[document["gpu_name"]]
        times = {task: document[key] for task, key in _KEYS.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks {error}") from None
    model = options["model_t7"].rpartition("/")[2].removesuffix(".t7").lower().replace("_", "-")
    return [
        {
            "source": "cnn-benchmarks",
            "device": device,
            "device_variant": "",
            "count": "1",
            "model": model,
            "task": task,
            "precision": "fp32",
            "layout": "nchw",
            "batch": str(options["batch_size"]),
            "input_shape_or_seq": f"3x{options['image_height']}x{options['image_width']}",
            "framework": f"Torch7 {_library(document)} CUDA 8.0",
            "metric": "ms_per_step",
            "value": number(1e3 * statistics.mean(seconds)),
            "notes": f"mean of {len(seconds)}; std_ms={1e3 * statistics.pstdev(seconds):.3f}; no optimizer step",
        }
        for task, seconds in times.items()
    ]


_KEYS = {"fwd": "forward_times", "bwd": "backward_times", "train": "total_times"}


def _library(document: dict[str, Any]) -> str:
    """``cuDNN 5.1.05``; 4007 is 4.0.07."""
    if not document["opt"].get("use_cudnn"):
        return "no cuDNN (torch/nn)"
    version = int(document["cudnn_version"])
    return f"cuDNN {version // 1000}.{version // 100 % 10}.{version % 100:02}"
