"""Run the examples, predict them before and after calibration, and write what came out beside each of them.

    python tools/run_examples.py                 all cores, seconds of the wall clock: on a machine that is idle
    python tools/run_examples.py --busy          one core, seconds of the processor: beside other work
    python tools/run_examples.py --keep FOLDER   runs stay there, and are not repeated

Each example runs at the batch of its README and at twice that. The first runs of all examples are learned from; the
second ones are not, so that they say what calibration is worth. Of two ranks on one CPU nothing is learned: a step of
one process is what calibrate fits. A figure of the processor is the mean over all steps, the
first ones included, summed over ranks; one of the wall clock is the median over the later steps.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NAMES = ("resnet18-ddp", "gpt-finetune", "onnx-int8", "lennard-jones", "ray-sweep")
COMMAND = re.compile(r"^rigwise run .*(?:\\\n.*)*", re.MULTILINE)
BATCH = re.compile(r"(--batch )(\d+)")
MODEL = re.compile(r"(--model )(\w+):(\w+)")
QUANTILES = ("p10", "p50", "p90")


def command_of(name: str) -> str:
    """The command of an example, as its README shows it."""
    match = COMMAND.search((ROOT / "examples" / name / "README.md").read_text(encoding="utf-8"))
    if match is None:
        raise SystemExit(f"examples/{name}/README.md shows no rigwise run")
    return match.group().replace("\\\n", " ").partition("#")[0].strip()


def batch_of(name: str) -> int:
    """Samples of a step in the README."""
    match = BATCH.search(command_of(name))
    return int(match.group(2)) if match else 1


def rigwise(words: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """The document that a command prints."""
    paths = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": paths.replace("src", str(ROOT / "src"), 1), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "rigwise", *words, "--json"] if "--" not in words else
        [sys.executable, "-m", "rigwise", *words[: words.index("--")], "--json", *words[words.index("--") :]],
        cwd=folder, capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"rigwise {' '.join(words)}: {done.stderr[-2000:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def run(name: str, batch: int, steps: int | None, keep: Path) -> dict[str, Any]:
    """One run in a folder of its own, of the example's captured graph; an earlier one if it was kept."""
    kept = keep / f"{name}-{batch}.json"
    if kept.exists():
        document: dict[str, Any] = json.loads(kept.read_text())
        return document
    graph = keep / "graphs" / f"{name}.rwg"
    command, found = command_of(name), MODEL.search(command_of(name))
    example = ROOT / "examples" / name
    if found is not None and not graph.exists():
        graph.parent.mkdir(parents=True, exist_ok=True)
        rigwise(["capture", f"{found[2]}:{found[3]}", "-o", str(graph)], example)
    command = MODEL.sub(f"--model {shlex.quote(str(graph))}", BATCH.sub(rf"\g<1>{batch}", command))
    words = [sys.executable if word == "python" else word for word in shlex.split(command)[1:]]
    words += [*(["--steps", str(steps)] if steps else [])]
    with tempfile.TemporaryDirectory() as scratch:
        for path in example.glob("*.py"):
            (Path(scratch) / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        document = rigwise(words, Path(scratch), RIGWISE_STORE="none", RIGWISE_RUNS=scratch, RIGWISE_CALIBRATION="none")
    kept.write_text(json.dumps(document))
    print(f"{name}, batch {batch}: {document['wall_s']:.1f} s", file=sys.stderr, flush=True)
    return document


def step_s(document: Mapping[str, Any], *, busy: bool) -> float:
    """The step: of the wall clock, or of the processor over all ranks."""
    found = document["measured"]
    return float(found["cpu_step_s"] * found["ranks"] if busy else found["step_time_s"]["p50"])


def row(name: str, document: Mapping[str, Any], *, busy: bool) -> dict[str, Any]:
    """A line of the table that ``rigwise calibrate`` reads."""
    case, torch = document["predicted"]["case"], str(document["measured"]["facts"]["torch"]).partition("+")[0]
    side = case.get("image_size")
    return {
        "device": document["predicted"]["device"], "model": name, "task": case["task"], "precision": "fp32",
        "layout": "nchw", "batch": case["batch"], "input_shape_or_seq": f"3x{side}x{side}" if side else "",
        "framework": f"PyTorch {torch} eager", "metric": "s_per_step", "value": step_s(document, busy=busy),
        "notes": f"optimizer={case['optimizer']}" if case["optimizer"] != "none" else "no optimizer",
    }  # fmt: skip


def calibrated(rows: list[dict[str, Any]], keep: Path) -> Path:
    """The calibration that the rows give."""
    table, path = keep / "steps.csv", keep / "calibration.toml"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = ["calibrate", str(table), "--graphs", str(keep / "graphs"), "--fresh", "--output", str(path)]
    document = rigwise(words, keep)
    for one in document.get("left_out", []):
        print(f"left out: {one}", file=sys.stderr)
    return path


def predicted(document: Mapping[str, Any], calibration: Path | None) -> dict[str, float]:
    """Quantiles of the step time, with a calibration or as packaged."""
    with tempfile.TemporaryDirectory() as scratch:
        cases = Path(scratch) / "cases.jsonl"
        torch = str(document["measured"]["facts"]["torch"]).partition("+")[0].rpartition(".")[0]
        case = {key: value for key, value in document["predicted"]["case"].items() if value is not None}
        cases.write_text(json.dumps({**case, "software": {"torch": torch}}))
        answer = rigwise(["predict", "--cases", str(cases), "--calibration", str(calibration or "none")], Path(scratch))
    return {name: float(answer["step_time_s"][name]) for name in QUANTILES}


def text_of(name: str, runs: list[dict[str, Any]], *, busy: bool) -> str:
    """The file beside an example."""
    facts = runs[0]["document"]["measured"]["facts"]
    lines = [
        "# Written by tools/run_examples.py. Seconds of one step.", "",
        f'date = "{datetime.datetime.now(datetime.UTC).date()}"',
        f'machine = "{runs[0]["document"]["predicted"]["device"]}"',
        f'software = "Python {facts["python"]}, PyTorch {facts["torch"]}"',
        f'clock = "{"of the processor, mean of all steps, on one core beside other work" if busy else "of the wall, median"}"',
        f"command = {json.dumps(command_of(name))}",
    ]  # fmt: skip
    for one in runs:
        found = one["document"]["measured"]
        lines += ["", "[[run]]", f"batch = {one['batch']}", f"steps = {found['steps']}", f"measured_s = {one['s']:.4g}"]
        for key in ("before", "after"):
            lines += [f"predicted_{key}_s = {{ {', '.join(f'{q} = {one[key][q]:.4g}' for q in QUANTILES)} }}"]
        lines += [f"learned_from = {str(one['learned']).lower()}"]
        lines += [f"wall_s = {one['document']['wall_s']:.3g}  # of the whole run", f"cores = {found['cores']:.2f}"]
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Measured and predicted, and the mean error."""
    print(f"{'':15}{'batch':>6}{'measured':>12}{'before':>11}{'ratio':>7}{'after':>11}{'ratio':>7}")
    for name, runs in found.items():
        for one in runs:
            cells = "".join(
                f"{1e3 * one[k]['p50']:8.2f} ms{one[k]['p50'] / one['s']:7.2f}" for k in ("before", "after")
            )
            print(f"{name:15}{one['batch']:6}{1e3 * one['s']:9.2f} ms{cells}  {'learned' if one['learned'] else ''}")
    for learned in (True, False):
        picked = [one for runs in found.values() for one in runs if one["learned"] == learned]
        for key in ("before", "after"):
            errors = [abs(math.log(one[key]["p50"] / one["s"])) for one in picked]
            inside = sum(one[key]["p10"] <= one["s"] <= one[key]["p90"] for one in picked)
            print(f"{'learned from' if learned else 'not learned from'}, {key}: geometric error"
                  f" {math.expm1(statistics.mean(errors)):.1%}, worst {math.expm1(max(errors)):.0%},"
                  f" {inside} of {len(picked)} in the 80 % interval")  # fmt: skip


def main() -> None:
    """Run, learn, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="one core, seconds of the processor")
    parser.add_argument("--keep", type=Path, help="a folder for runs, graphs and the calibration")
    parser.add_argument("--steps", type=int, help="of each run; as the examples have them if not given")
    options = parser.parse_args()
    if options.busy:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        keep = (options.keep or Path(scratch)).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        found: dict[str, list[dict[str, Any]]] = {}
        for name in NAMES:
            for factor in (1, 2):
                document = run(name, batch_of(name) * factor, options.steps, keep)
                learned = factor == 1 and document["measured"]["ranks"] == 1
                one = {"batch": batch_of(name) * factor, "document": document, "learned": learned}
                found.setdefault(name, []).append({**one, "s": step_s(document, busy=options.busy)})
        rows = [row(name, runs[0]["document"], busy=options.busy) for name, runs in found.items() if runs[0]["learned"]]
        calibration = calibrated(rows, keep)
        for name, runs in found.items():
            for one in runs:
                one |= {"before": predicted(one["document"], None), "after": predicted(one["document"], calibration)}
            (ROOT / "examples" / name / "result.toml").write_text(text_of(name, runs, busy=options.busy))
        table(found)


if __name__ == "__main__":
    main()
