"""The same models through every front end: operators, CPU seconds, peak memory, agreement with the capture by PyTorch.

Every row is a process of its own with an empty cache. Seconds are user and system time of that process and of
the one that it captures in, imports included; memory is that of the larger of the two. FLOPs are those of
inference at 4 samples of 128 tokens, or of the model's own image side; a front end that is not installed, or
does not take the model, prints why.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = {"b": 4, "s": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model through one front end.

    Attributes:
        model: What it is called in the table.
        front_end: How it is given.
        word: The MODEL word, or what stands for it.
        reference: Front end of the row that it is compared with.
    """

    model: str
    front_end: str
    word: str
    reference: str = "config, torch"


def rows() -> list[Row]:
    """All rows; the one that others of its model are compared with comes first."""
    from front_end_models import CONFIGS

    found = []
    for name in CONFIGS:
        found += [Row(model=name, front_end=kind, word=name) for kind in ("config, torch", "config, no torch")]
        if name in ("llama", "gpt2", "bert", "resnet"):
            found.append(Row(model=name, front_end="factory", word=f"front_end_models:{name}"))
        if name in ("llama", "gpt2", "bert", "vit", "resnet"):
            found += [Row(model=name, front_end=kind, word=name) for kind in ("exported", "onnx")]
    for name, zoo in (
        ("resnet18", "resnet18"), ("resnet50", "resnet50"), ("vgg16", "vgg16"), ("densenet121", "densenet121"),
        ("vit_base_patch16_224", "vit-b-16"), ("efficientnet_b0", "efficientnet-b0"),
    ):  # fmt: skip
        found.append(Row(model=name, front_end="timm", word=f"timm:{name}", reference="timm"))
        found.append(Row(model=name, front_end="zoo", word=zoo, reference="timm"))
    for name in ("perceptron", "convolutions", "blocks"):
        found.append(Row(model=name, front_end="factory", word=f"front_end_models:{name}", reference="factory"))
        found.append(Row(model=name, front_end="jax", word=f"front_end_models:{name}_jax", reference="factory"))
    return found


# One row, in its own process.


def captured(row: Row, folder: Path) -> Any:
    """The model of a row."""
    from front_end_models import CONFIGS

    from rigwise.graph.capture.run import capture_hf
    from rigwise.graph.load import load_model

    if row.front_end == "config, torch":
        return capture_hf(CONFIGS[row.word], "config.json")
    if row.front_end == "config, no torch":
        from rigwise.graph.families.resolve import model_of

        return model_of(CONFIGS[row.word], "config.json")
    if row.front_end in ("exported", "onnx"):
        return load_model(str(folder / f"{row.word}{SUFFIX[row.front_end]}"))
    return load_model(row.word)


SUFFIX = {"exported": ".pt2", "onnx": ".onnx"}


def answer(row: Row, folder: Path) -> dict[str, Any]:
    """What the table says of a row, or why there is nothing to say."""
    start = _cpu_s()
    try:
        model = captured(row, folder)
    except Exception as error:  # a row that fails is part of the table
        return {"why": " ".join(str(error).split()) or type(error).__name__}
    from rigwise.graph.count import work

    graph = model.graphs["infer"]
    sizes = {symbol: SIZES.get(symbol, usual) for symbol, usual in graph.symbols.items()}
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "operators": sum(op.repeat for op in graph.ops),
        "cpu_s": _cpu_s() - start,
        "peak_bytes": max(peaks) * 1024,
        "flops": float(sum(work(op, sizes).flops * op.repeat for op in graph.ops)) / sizes.get("b", SIZES["b"]),
        "parameters": model.parameter_count,
        "free": sorted(graph.symbols),
    }


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


# The table.


def measured(index: int, row: Row, folder: Path) -> dict[str, Any]:
    """The answer of a process of its own."""
    if row.front_end in SUFFIX:
        path = folder / f"{row.word}{SUFFIX[row.front_end]}"
        code = f"import front_end_models as m; m.write({row.word!r}, {row.front_end!r}, {str(path)!r})"
        made = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=False)
        if made.returncode:
            return {"why": f"could not be written: {made.stderr.strip().splitlines()[-1][:120]}"}
    with tempfile.TemporaryDirectory() as cache:
        ran = subprocess.run(
            [sys.executable, __file__, "--row", str(index), "--folder", str(folder)],
            cwd=HERE,
            env={**os.environ, "RIGWISE_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode:
        return {"why": f"ended with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}"}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def line(row: Row, found: Mapping[str, Any], reference: Mapping[str, Any] | None) -> str:
    """One line of the table."""
    head = f"{row.model:<22} {row.front_end:<17}"
    if "why" in found:
        return f"{head} not available: {found['why'][:150]}"
    same = "reference"
    if reference and "why" not in reference and row.front_end != row.reference:
        apart = [found[key] / reference[key] - 1 for key in ("flops", "parameters")]
        same = f"{apart[0]:+8.2%} {apart[1]:+8.2%}"
    return (
        f"{head} {found['operators']:9,} {found['cpu_s']:7.2f} {found['peak_bytes'] / 2**20:8,.0f} "
        f"{found['flops'] / 1e9:9.3f} {found['parameters'] / 1e6:9.2f}  {same}  {','.join(found['free'])}"
    )


def main(only: str) -> None:
    print(
        f"{'model':<22} {'front end':<17} {'operators':>9} {'CPU s':>7} {'peak MiB':>8} {'GFLOP':>9} {'M params':>9}  "
        f"{'FLOPs':>8} {'params':>8}  free"
    )
    answers: dict[tuple[str, str], Mapping[str, Any]] = {}
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, row in enumerate(rows()):
            if only and only not in (row.model, row.front_end):
                continue
            found = answers[row.model, row.front_end] = measured(index, row, Path(folder))
            good += "why" not in found
            print(line(row, found, answers.get((row.model, row.reference))), flush=True)
    print(f"{good} rows of {len(answers)} captured")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows of this model, or of this front end")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=HERE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row is None:
        main(given.only)
    else:
        print(json.dumps(answer(rows()[given.row], given.folder)))
