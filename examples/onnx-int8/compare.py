"""Train a small encoder, export it, make it int8, and run it eager, by ONNX Runtime and by OpenVINO."""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from encoder import CLASSES, LENGTH, WORDS, net
from torch import nn

from rigwise import monitor

Run = Callable[[torch.Tensor], torch.Tensor]
FULL, SMALL = Path("net.onnx"), Path("net.int8.onnx")


def texts(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random words, three in ten of them from the eighth of all words that is the text's class."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=chance)
    words = torch.randint(WORDS, (count, LENGTH), generator=chance)
    own = labels[:, None] * (WORDS // CLASSES) + words % (WORDS // CLASSES)
    return torch.where(torch.rand(count, LENGTH, generator=chance) < 0.3, own, words), labels


def trained(steps: int) -> nn.Module:
    """The encoder after a short training."""
    torch.manual_seed(0)
    module, _ = net()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-4)
    for step in range(steps):
        words, labels = texts(32, step)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(module(words), labels).backward()
        optimizer.step()
    return module.eval()


def exported(module: nn.Module) -> None:
    """The network as ONNX, its batch free, and the same with weights in int8 and activations made int8 as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(2, LENGTH, dtype=torch.long),)
        batch = torch.export.Dim("batch", max=1024)
        torch.onnx.export(
            module, example, str(FULL), dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False
        )
    proto = onnx.load(str(FULL))
    del proto.graph.value_info[:]  # shapes that the quantiser would hold against weights it has turned
    quantize_dynamic(proto, str(SMALL), weight_type=QuantType.QInt8)


def onnx_runtime(path: Path, threads: int) -> Run:
    """A function that runs a file by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda words: torch.from_numpy(session.run(None, {name: words.numpy()})[0])


def open_vino(path: Path, threads: int) -> Run:
    """A function that runs a file by OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled: Any = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda words: torch.from_numpy(compiled(words.numpy())[0].copy())


def runtimes(module: nn.Module, threads: int) -> dict[str, Run]:
    """All that are installed, by name."""
    found: dict[str, Run] = {"eager": module}
    if not (find_spec("onnxruntime") and find_spec("onnx") and find_spec("onnxscript")):
        print("onnx, onnxscript and onnxruntime are not all installed: eager alone")
        return found
    exported(module)
    for name, make in {"onnxruntime": onnx_runtime, "openvino": open_vino}.items():
        if find_spec(name):
            found |= {name: make(FULL, threads), f"{name} int8": make(SMALL, threads)}
        else:
            print(f"{name} is not installed: left out")
    return found


def seconds(run: Run, words: torch.Tensor, calls: int) -> float:
    """Median of some calls, after three."""
    taken = []
    for call in range(calls + 3):
        before = time.perf_counter()
        run(words)
        taken.append(time.perf_counter() - before)
        del taken[: call < 3]
    return statistics.median(taken)


def main() -> None:
    """Print the table, then do the steps that are compared with the prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runtime", default="eager", help="what does the steps")
    parser.add_argument("--train", type=int, default=60, help="steps of training")
    options = parser.parse_args()
    module, (words, labels) = trained(options.train), texts(256, 99_999)
    with torch.inference_mode():
        found = runtimes(module, torch.get_num_threads())
        right = module(words)
        print(f"{'':17}{'latency of 1':>14}{f'texts/s at {options.batch}':>16}{'right':>8}{'largest difference':>20}")
        for name, run in found.items():
            latency_s, batch_s = (seconds(run, words[:size], options.steps // 3) for size in (1, options.batch))
            scores = run(words)
            part = float((scores.argmax(1) == labels).float().mean())
            difference = float((scores - right).abs().max() / right.abs().max())
            rate = options.batch / batch_s
            print(f"{name:17}{1e3 * latency_s:11.2f} ms{rate:16,.0f}{part:8.1%}{difference:20.2%}")
        if options.runtime not in found:
            parser.error(f"--runtime {options.runtime}: there is {', '.join(found)}")
        with monitor(samples=options.batch) as m:
            for _ in range(options.steps):
                found[options.runtime](words[: options.batch])
                m.step()
                if m.stopping:
                    break


if __name__ == "__main__":
    main()
