"""Step times predicted for this machine, before and after ``rigwise bench`` and ``rigwise calibrate``.

    python benchmarks/bench_this.py                    all cores, seconds of the wall clock
    python benchmarks/bench_this.py --busy             one core, seconds of the processor: beside other work
    python benchmarks/bench_this.py --keep FOLDER      measured times and calibrations stay, and are used again

Ten workloads that no constant was fitted on and that the suite does not run: small networks of each kind. Each is
measured with PyTorch in processes of its own, warmed up first; the least median of all processes counts, and how far
the others lie from it is printed. Then the same machine is measured by the suite, calibrated, and predicted again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import this_models

HERE = Path(__file__).parent
#: Benchmarks that say something of steps.
_NETWORKS = ("networks.alexnet", "networks.resnet18", "networks.gpt2")
_OF_STEPS = ("matmul", "convolution", "attention", "transformer", *_NETWORKS)
#: Calls are timed for this long in each process, and at least so many of them.
SECONDS, LEAST_CALLS = 2.0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One of the ten.

    Attributes:
        name: In the table.
        model: A function of ``this_models``, or the name of a configuration there.
        task, batch: As in a case.
        sizes: ``seq``, ``context`` or ``image_size``.
        optimizer: When it trains.
    """

    name: str
    model: str
    task: str
    batch: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    optimizer: str = "none"

    def case(self, folder: Path) -> dict[str, Any]:
        """The question, as a line of ``--cases``."""
        is_text = self.model in this_models.CONFIGS
        word = str(folder / self.model) if is_text else f"this_models:{self.model}"
        base = {"model": word, "device": "this", "task": self.task, "batch": self.batch, "dtype": "fp32"}
        version = __import__("importlib.metadata").metadata.version("torch").partition("+")[0]
        return {**base, **self.sizes, "optimizer": self.optimizer, "software": {"torch": version}}


WORKLOADS = (
    Workload(name="MLP", model="mlp", task="infer", batch=256),
    Workload(name="MLP, training", model="mlp", task="train", batch=128, optimizer="adamw"),
    Workload(name="convnet 32 px, training", model="convnet", task="train", batch=64, optimizer="momentum"),
    Workload(name="ResNet-18 96 px", model="resnet18", task="infer", batch=8),
    Workload(name="ResNet-18 96 px, training", model="resnet18", task="train", batch=8, optimizer="momentum"),
    Workload(name="BERT of 4 layers", model="bert-small", task="infer", batch=4, sizes={"seq": 128}),
    Workload(name="GPT of 6 layers, prefill", model="gpt-small", task="prefill", batch=1, sizes={"seq": 256}),
    Workload(name="GPT of 6 layers, decode", model="gpt-small", task="decode", batch=4, sizes={"context": 256}),
    Workload(name="GPT of 6 layers, training", model="gpt-small", task="train", batch=2, sizes={"seq": 128},
             optimizer="adamw"),
    Workload(name="LSTM of 2 layers", model="lstm", task="infer", batch=16),
)  # fmt: skip


# Measuring, in a process of its own


def call_of(torch: Any, workload: Workload) -> Callable[[], Any]:
    """One step of a workload as a user writes it."""
    is_text = workload.model in this_models.CONFIGS
    net, example = this_models.built(workload.model) if is_text else getattr(this_models, workload.model)(), None
    if not is_text:
        net, example = net
    training = workload.task == "train"
    net.train(training)
    if is_text:
        return _text_call(torch, net, workload)
    if example.dtype == torch.long:
        inputs = torch.randint(8192, (workload.batch, *example.shape[1:]))
    else:
        inputs = torch.randn(workload.batch, *example.shape[1:])
    if not training:
        return _without_grad(torch, lambda: net(inputs))
    labels = torch.randint(10, (workload.batch,))
    return _training(torch, net, workload, lambda: torch.nn.functional.cross_entropy(net(inputs), labels))


def _text_call(torch: Any, net: Any, workload: Workload) -> Callable[[], Any]:
    tokens = torch.randint(8192, (workload.batch, workload.sizes.get("seq", 1)))
    if workload.task == "train":
        return _training(torch, net, workload, lambda: net(tokens, labels=tokens).loss)
    if workload.task != "decode":
        return _without_grad(torch, lambda: net(tokens))
    length = workload.sizes["context"] - 1

    def decode() -> Any:
        out = net(tokens, past_key_values=cache, use_cache=True)
        cache.crop(-1)
        return out

    with torch.no_grad():
        cache = net(torch.randint(8192, (workload.batch, length)), use_cache=True).past_key_values
    return _without_grad(torch, decode)


def _without_grad(torch: Any, call: Callable[[], Any]) -> Callable[[], Any]:
    def forward() -> Any:
        with torch.inference_mode():
            return call()

    return forward


def _training(torch: Any, net: Any, workload: Workload, loss: Callable[[], Any]) -> Callable[[], Any]:
    kinds = {"adamw": lambda w: torch.optim.AdamW(w, lr=1e-4), "momentum": lambda w: torch.optim.SGD(w, 1e-3, 0.9)}
    optimizer = kinds[workload.optimizer](net.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def measured(workload: Workload, *, busy: bool) -> float:
    """Median seconds of a call in this process, after calls that warm up."""
    import torch

    torch.manual_seed(0)
    if busy:
        torch.set_num_threads(1)
    call, clock = call_of(torch, workload), time.process_time if busy else time.perf_counter
    samples: list[float] = []
    for wanted_s, least in ((SECONDS / 4, 2), (SECONDS, LEAST_CALLS)):
        samples, begun_s = [], time.perf_counter()
        while len(samples) < least or time.perf_counter() - begun_s < wanted_s:
            before_s = clock()
            call()
            samples.append(clock() - before_s)
    return statistics.median(samples)


# The loop


def run(*words: str, **environment: str) -> str:
    """The output of a command of rigwise."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "rigwise", *words], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"rigwise {' '.join(words)}: {done.stderr}")
    return done.stdout


def measure_all(runs: int, *, busy: bool) -> dict[str, list[float]]:
    """Medians of each workload, one for each process."""
    found: dict[str, list[float]] = {one.name: [] for one in WORKLOADS}
    for _ in range(runs):
        for index, one in enumerate(WORKLOADS):
            words = [sys.executable, __file__, "--measure", str(index), *(["--busy"] if busy else [])]
            found[one.name].append(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    return found


def predict_all(folder: Path, calibration: str) -> list[dict[str, float]]:
    """Quantiles of the step time of each workload."""
    cases = folder / "cases.jsonl"
    cases.write_text("".join(json.dumps(one.case(folder)) + "\n" for one in WORKLOADS))
    out = run("predict", "--cases", str(cases), "--json", "--calibration", calibration)
    answers = [json.loads(line) for line in out.splitlines()]
    for one in answers:
        if "error" in one:
            raise SystemExit(one["error"]["message"])
    return [one["step_time_s"] for one in answers]


def calibrated(folder: Path, *, busy: bool) -> str:
    """Measure this machine by the suite, and learn from it: the calibration file."""
    store, path, answer = folder / "store.db", folder / "calibration.toml", folder / "bench.json"
    if busy:
        words, kept = [*_OF_STEPS, "--each", "600ms"], folder / "unused.db"
    else:
        words, kept = ["--quick"], store
    if not answer.exists():
        answer.write_text(run("bench", *words, "--device", "cpu", "--json", RIGWISE_STORE=str(kept)))
        if busy:
            keep_processor_time(json.loads(answer.read_text()), store)
    path.unlink(missing_ok=True)
    print(run("calibrate", "--from-store", "--output", str(path), RIGWISE_STORE=str(store)))
    return str(path)


def keep_processor_time(document: Mapping[str, Any], store: Path) -> None:
    """What the suite found on one thread, with the processor's seconds in the place of the clock's."""
    from rigwise.measurement.records import Record
    from rigwise.measurement.store import open_store

    found = []
    for figure in document["figures"]:
        if not figure["samples_s"] or figure["unit"] not in ("FLOP/s", "1/s"):
            continue
        call_s = figure["cpu_s"] / (figure["calls"] * len(figure["samples_s"]))
        tags = {**figure["parameters"], "device": document["device"], "threads": document["threads"]}
        found.append(
            Record(kind="bench", name=figure["name"], value=figure["amount"] / call_s, unit=figure["unit"], tags=tags,
                   n=len(figure["samples_s"]), machine_id="here", when=document["started"],
                   software=json.dumps(document["software"]))
        )  # fmt: skip
    with open_store(str(store)) as into:
        into.add(found)


def table(times_s: Mapping[str, list[float]], answers: Mapping[str, list[dict[str, float]]]) -> None:
    """Measured and predicted, with the error of each and the mean of all."""
    heads = "".join(f"{name:>12}{'error':>8}" for name in answers)
    print(f"{'':26}{'measured':>10}{'spread':>8}{heads}")
    errors: dict[str, list[float]] = {name: [] for name in answers}
    inside = dict.fromkeys(answers, 0)
    for row, one in enumerate(WORKLOADS):
        least_s, most_s = min(times_s[one.name]), max(times_s[one.name])
        line = f"{one.name:26}{1e3 * least_s:7.2f} ms{most_s / least_s - 1:8.0%}"
        for name, of in answers.items():
            errors[name].append(math.log(of[row]["p50"] / least_s))
            inside[name] += of[row]["p10"] <= least_s <= of[row]["p90"]
            line += f"{1e3 * of[row]['p50']:9.2f} ms{of[row]['p50'] / least_s - 1:+8.0%}"
        print(line)
    for name, of in errors.items():
        size = sorted(map(abs, of))
        geo, mape = math.expm1(statistics.mean(size)), statistics.mean(abs(math.expm1(e)) for e in of)
        print(f"{name}: geo-err {geo:.1%}, MAPE {mape:.1%}, median {math.expm1(statistics.median(size)):.1%}, worst"
              f" {math.expm1(size[-1]):.0%}, bias {math.expm1(statistics.mean(of)):+.1%},"
              f" in the 80 % interval {inside[name]} of {len(of)}")  # fmt: skip


def main() -> None:
    """Measure, predict, calibrate, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="one core, seconds of the processor")
    parser.add_argument("--runs", type=int, default=3, help="processes of each workload")
    parser.add_argument("--keep", type=Path, help="a folder for measured times, store and calibration")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.busy and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.measure is not None:
        print(measured(WORKLOADS[options.measure], busy=options.busy))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name, config in this_models.CONFIGS.items():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "config.json").write_text(json.dumps(config))
        kept = folder / "times.json"
        times_s = json.loads(kept.read_text()) if kept.exists() else measure_all(options.runs, busy=options.busy)
        kept.write_text(json.dumps(times_s))
        answers = {"before": predict_all(folder, "none")}
        answers["after"] = predict_all(folder, calibrated(folder, busy=options.busy))
        table(times_s, answers)


if __name__ == "__main__":
    main()
