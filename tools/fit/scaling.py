"""Score predictions at scale: FSDP rows of llm-foundry, data-parallel rows of DeepLearningExamples.

Prints step-time errors by group, and scaling efficiency in points. ``--spread`` scans the spread of equal devices'
step times, the one constant that is chosen here: each source is scored under the value that the other prefers.

The MPT models of llm-foundry are GPT-2 with another vocabulary and no dropout: parameter counts agree to the last
digit with learned positions and with biases.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.predict import Prediction, predict
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.workload.case import Case, Parallel, Software

HERE = Path(__file__).parent
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", HERE.parent.parent.parent / "shared/data/measured"))
CONFIGS = json.loads((HERE / "mpt.json").read_text(encoding="utf-8"))
V100 = "v100-sxm2-16gb"
#: Model, dtype, batch of one GPU, samples/s of 8 over 8 times that of 1. Batches are those of the scripts' defaults.
DATA_PARALLEL: tuple[tuple[str, str, int, dict[str, Any], str, str], ...] = (
    ("resnet50", "fp32", 128, {}, "resnet50 v1.5", "3x224x224"),
    ("resnet50", "amp-fp16", 256, {}, "resnet50 v1.5", "3x224x224"),
    ("efficientnet-b0", "fp32", 128, {}, "efficientnet-b0", "native (b0 224, b4 380)"),
    ("efficientnet-b0", "amp-fp16", 256, {}, "efficientnet-b0", "native (b0 224, b4 380)"),
    ("efficientnet-b4", "fp32", 32, {}, "efficientnet-b4", "native (b0 224, b4 380)"),
    ("efficientnet-b4", "amp-fp16", 64, {}, "efficientnet-b4", "native (b0 224, b4 380)"),
    ("bert-large", "fp32", 8, {"seq": 384}, "bert-large", "seq ?"),
    ("bert-large", "amp-fp16", 16, {"seq": 384}, "bert-large", "seq ?"),
)


@dataclass(frozen=True)
class Scored:
    """One row of llm-foundry."""

    device: str
    count: int
    model: str
    seq: int
    recompute: bool
    prediction: Prediction
    measured_s: float

    @property
    def error(self) -> float:
        return float(np.log(self.prediction.step_time_s["p50"] / self.measured_s))

    def rate(self, *, measured: bool) -> float:
        """Samples a second of one device."""
        step_s = self.measured_s if measured else self.prediction.step_time_s["p50"]
        return self.prediction.case.batch / step_s / self.count


def models() -> dict[str, Model]:
    """Graphs of the MPT sizes, captured from their configurations."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, config in CONFIGS["models"].items():
            path = Path(folder) / f"{name}.json"
            path.write_text(json.dumps({**CONFIGS["shared"], **config}), encoding="utf-8")
            found[name] = load_model(str(path))
    return found


def rows(name: str) -> list[dict[str, str]]:
    with (MEASURED / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def score_foundry(graphs: Mapping[str, Model]) -> list[Scored]:
    found = []
    for row in rows("llm-foundry.csv"):
        notes = dict(re.findall(r"(\w+)=([^;]+)", row["notes"]))
        count, batch, seq = int(row["count"]), int(row["batch"]), int(row["input_shape_or_seq"])
        recompute = notes["act_ckpt"] == "True"
        case = Case(
            model=row["model"],
            device="a100-sxm4-80gb" if "80" in row["device_variant"] else "a100-sxm4-40gb",
            count=count,
            nodes=max(1, count // 8),
            batch=batch,
            seq=seq,
            dtype=row["precision"].replace("_", "-"),
            recompute="full" if recompute else "none",
            parallel=Parallel(zero=3, micro_batch=int(notes["microbatch"])),
            inter_node_gbps=1600.0,
            software=Software(year=2023),
        )
        measured_s = batch * seq / float(row["value"])
        answer = predict(case, graphs[row["model"]])
        found.append(Scored(case.device, count, row["model"], seq, recompute, answer, measured_s))
    return found


def efficiency_errors(found: Iterable[Scored]) -> dict[tuple[str, int], float]:
    """Predicted less measured throughput of a device against that on 16, by model and count."""
    many = [s for s in found if s.count >= 16]
    base = {s.model: s for s in many if s.count == 16}
    return {
        (s.model, s.count): s.rate(measured=False) / base[s.model].rate(measured=False)
        - s.rate(measured=True) / base[s.model].rate(measured=True)
        for s in many
        if s.count > 16
    }


def data_parallel_errors() -> dict[tuple[str, str], float]:
    """The same from one to eight V100."""
    table = rows("nvidia-dle.csv")
    found = {}
    for model, dtype, batch, more, name, shape in DATA_PARALLEL:
        rate: dict[int, float] = {}
        for row in table:
            same = row["model"] == name and row["input_shape_or_seq"] == shape and row["task"] == "train"
            same = same and row["precision"] == dtype.replace("-", "_") and "SUSPECT" not in row["notes"]
            if same and row["device"] == "V100" and row["device_variant"] in ("SXM2 16GB", "SXM2"):
                rate.setdefault(int(row["count"]), float(row["value"]))
        graph = load_model(model)
        layout = "nchw" if dtype == "fp32" else "nhwc"
        alone, eight = (
            predict(
                Case(model=model, device=V100, count=n, batch=batch * n, dtype=dtype, layout=layout, **more), graph
            ).throughput_per_s
            for n in (1, 8)
        )
        found[model, dtype] = eight / alone / 8 - rate[8] / rate[1] / 8
    return found


def summary(title: str, errors: Iterable[float]) -> None:
    values = np.array(list(errors))
    geo, p90 = np.expm1(np.abs(values).mean()), np.expm1(np.quantile(np.abs(values), 0.9))
    mape = np.abs(np.expm1(values)).mean()
    print(f"{title:34} n {len(values):3d} geo-err {geo:.3f} MAPE {mape:.3f} p90 {p90:.3f} bias {values.mean():+.3f}")


def points(title: str, errors: Mapping[Any, float]) -> None:
    values = 100 * np.array(list(errors.values()))
    inside = int((np.abs(values) <= 5).sum())
    print(
        f"{title:34} n {len(values):3d} mean {np.abs(values).mean():.1f} bias {values.mean():+.1f} points,"
        f" within 5: {inside}"
    )


def by_group(found: list[Scored], title: str, key: Callable[[Scored], object]) -> None:
    groups = defaultdict(list)
    for scored in found:
        groups[key(scored)].append(scored.error)
    for name, errors in sorted(groups.items(), key=lambda item: str(item[0])):
        summary(f"{title} {name}", errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spread", action="store_true", help="scan the spread of equal devices")
    chosen = parser.parse_args()
    graphs = models()
    if chosen.spread:
        constants = load_calibration().collective.values
        for spread in (0.01, 0.02, 0.03, 0.04, 0.05, 0.07):
            constants["step_spread"] = spread  # type: ignore[index]
            points(f"spread {spread} FSDP", efficiency_errors(score_foundry(graphs)))
            points(f"spread {spread} data parallel", data_parallel_errors())
        return
    found = score_foundry(graphs)
    summary("llm-foundry", [s.error for s in found])
    by_group(found, "device", lambda s: s.device)
    by_group(found, "model", lambda s: s.model)
    by_group(found, "seq", lambda s: s.seq)
    by_group(found, "count", lambda s: s.count)
    by_group(found, "recompute", lambda s: s.recompute)
    points("FSDP against 16 devices", efficiency_errors(found))
    points("data parallel against 1 device", data_parallel_errors())


if __name__ == "__main__":
    main()
