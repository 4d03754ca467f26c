"""One network under each runtime of inference: latency, throughput, and what the runtime changes in the answer.

ResNet-18 on a CPU and ResNet-50 on a GPU, in fp32, with random weights: the answers of eager PyTorch are the reference.
``int8`` is ONNX Runtime's dynamic quantisation: weights once, activations as they come. An engine of TensorRT serves
the one kind of GPU that it was built on; that part has never run on a GPU.

Source: the documentation of each runtime: ONNX Runtime, "Quantize ONNX Models" (dynamic quantisation); OpenVINO,
"High-level Performance Hints"; NVIDIA, "TensorRT Documentation", Python API (version 10).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.bench.engines import ENGINES, Exported
from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.images import resnet
from rigwise.bench.matmul import is_wanted
from rigwise.bench.networks import PIXELS
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, TIME, Context, Parameter, Raw
from rigwise.units import GB

#: Images in a batch where throughput counts; and of the comparison with eager PyTorch.
BATCH, COMPARED = 16, 8
#: What the file of the network needs free on the disk, with a margin.
_FREE_BYTES = 1 * GB

Answer = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """What all runtimes are tried on.

    Attributes:
        torch: The module.
        context: How the suite measures.
        model: Name of the network in the zoo.
        net: The network, with random weights, on the target.
        images: A batch of random images on the target.
        expected: What eager PyTorch answers for the first of them.
    """

    torch: Any
    context: Context
    model: str
    net: Any
    images: Any
    expected: Any


def run(context: Context) -> Iterator[Raw]:
    """Latency of one image, and images a second, for each runtime that is here."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="runtimes", unit=TIME, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    bed = bed_of(torch, context, "resnet18" if context.target == "cpu" else "resnet50")
    exported = Exported(torch=torch, net=bed.net, image=bed.images[:1], context=context)
    makers: dict[str, Callable[[], Answer]] = {"eager": lambda: eager(bed)}
    makers |= {name: lambda make=make: make(exported) for name, make in ENGINES.items()}  # type: ignore[misc]
    makers["compiled"] = lambda: compiled(bed)  # the last: it may take minutes to compile
    for name, make in makers.items():
        if any(is_wanted(context, f"runtimes.{name}.{part}") for part in ("latency", "images")):
            with _caches_in(context.folder, context.threads):
                yield from _of_runtime(bed, name, make, needs_file=name != "eager")


def bed_of(torch: Any, context: Context, model: str) -> Bed:
    """The network and its images, the same for one seed."""
    torch.manual_seed(context.seed)
    net = resnet(torch, model).eval().to(context.target)
    images = torch.randn(BATCH, 3, PIXELS, PIXELS).to(context.target)
    with torch.no_grad():
        expected = net(images[:COMPARED])
    return Bed(torch=torch, context=context, model=model, net=net, images=images, expected=expected)


def _of_runtime(bed: Bed, name: str, make: Callable[[], Answer], *, needs_file: bool) -> Iterator[Raw]:
    """Its figures, or why there are none."""
    context = bed.context
    if needs_file and (reason := no_file(context)):
        yield Raw(name=f"runtimes.{name}", unit=TIME, skipped=reason)
        return
    begun_s = time.perf_counter()
    try:
        answer = make()
        shown = {**compared(bed, answer), "setup_s": round(time.perf_counter() - begun_s, 2)}
        for part, batch in (("images", BATCH), ("latency", 1)):  # the batch is compiled for by now
            if is_wanted(context, f"runtimes.{name}.{part}"):
                yield _figure(bed, (name, part, batch), answer, shown)
    except ImportError as error:
        yield Raw(name=f"runtimes.{name}", unit=TIME, skipped=why_not(error))
    except Exception as error:  # whatever a runtime raises, the others go on
        yield Raw(name=f"runtimes.{name}", unit=TIME, skipped=f"{type(error).__name__}: {why_not(error)}")


def _figure(bed: Bed, called: tuple[str, str, int], answer: Answer, shown: Mapping[str, Parameter]) -> Raw:
    name, part, batch = called
    images, context = bed.images[:batch], bed.context
    answer(images)  # compiles for this batch, which is no part of its time
    work: dict[str, Parameter] = {"law": "step", "model": bed.model, "task": "infer", "batch": batch}
    work |= {"image_size": PIXELS, **_as_predicted(name)}
    return Raw(
        name=f"runtimes.{name}.{part}",
        unit=TIME if part == "latency" else ITEMS,
        amount=1.0 if part == "latency" else float(batch),
        timing=measure(lambda: answer(images), context.each_s, waiting(bed.torch, context.target)),
        parameters={"beside": f"runtimes.eager.{part}", "model": bed.model, "batch": batch, **shown}
        | {"threads": context.threads},
        work={} if name.endswith("int8") else work,
        note="one image at a time" if part == "latency" else "",
    )


def _as_predicted(name: str) -> dict[str, Parameter]:
    """What the catalogue calls the runtime."""
    if name == "eager":
        return {}
    runtime = {"compiled": "torch", "onnx": "onnxruntime"}.get(name, name)
    return {"mode": "compiled", "runtime": runtime}


def eager(bed: Bed) -> Answer:
    """PyTorch, operator by operator."""

    def answer(images: Any) -> Any:
        with bed.torch.no_grad():
            return bed.net(images)

    return answer


def compiled(bed: Bed) -> Answer:
    """PyTorch's compiler, once for each shape."""
    quick = bed.torch.compile(bed.net, dynamic=False)

    def answer(images: Any) -> Any:
        with bed.torch.no_grad():
            return quick(images)

    return answer


def compared(bed: Bed, answer: Answer) -> dict[str, Parameter]:
    """The relative error against eager fp32, and the share of images whose highest class stays."""
    torch = bed.torch
    found = torch.as_tensor(answer(bed.images)).to("cpu", torch.float64)[:COMPARED]
    expected = bed.expected.to("cpu", torch.float64)
    error = (found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt()
    same = (found.argmax(1) == expected.argmax(1)).double().mean()
    return {"error": float(error), "same_class_frac": float(same)}


def no_file(context: Context) -> str:
    """Why nothing can be written for the other runtimes, which read or compile files; empty where it can."""
    if not context.folder:
        return "no folder can be written for the exported network, or for what is compiled"
    free = shutil.disk_usage(context.folder).free
    return f"{free / GB:.1f} GB are free, {_FREE_BYTES / GB:.0f} GB are needed" if free < _FREE_BYTES else ""


@contextmanager
def _caches_in(folder: str, threads: int) -> Iterator[None]:
    """What the compiler keeps goes with the folder of the test, and it takes no more cores than the suite."""
    if not folder:
        yield
        return
    names = {"TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "compiled"), "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
