"""How long it takes to turn a model into a graph, and how much memory: whole processes, cold cache.

Each run captures every graph of the model (training, inference and, for language models,
prefill and decode) at as many sizes as its symbols need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
CONFIGS = {
    "ResNet-50": {"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "num_labels": 1000},
    "Llama-3.1-8B": LLAMA,
    "Llama-3.1-405B": {
        **LLAMA,
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
    },
}


def capture_s(config: dict[str, object], folder: Path) -> float:
    """Seconds of one ``rigwise capture`` with an empty cache."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "rigwise", "capture", str(folder / "config.json"), "-o", str(folder / "m.rwg")]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--quiet"], check=True, env={**os.environ, "RIGWISE_CACHE": cache}, capture_output=True
        )
        return time.perf_counter() - start


def main(repeats: int) -> None:
    print(f"{'':<18} {'min':>7} {'median':>7} {'max':>7}")
    for name, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder:
            times = [capture_s(config, Path(folder)) for _ in range(repeats)]
        print(f"{name:<18} {min(times):7.2f} {statistics.median(times):7.2f} {max(times):7.2f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"largest process {peak / 2**30:.2f} GiB resident")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args().repeats)
