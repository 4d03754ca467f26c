"""Capture every model of the zoo anew: ``python tools/build_zoo.py [NAME...]``.

Needs PyTorch, transformers and diffusers (``pip install --no-deps diffusers``); no GPU, no network and no
weights. Equal versions give equal files.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}

from rigwise.errors import RigwiseError, near_matches
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.hf_config import subject
from rigwise.graph.graph import Card, Model
from rigwise.graph.rwg import write_model
from zoo import classic, diffusion, inception, mobile, others, resnet, workloads
from zoo.language import SHAPES
from zoo.subjects import image_classifier

logging.disable(logging.CRITICAL)  # PyTorch logs every size that a model turns out not to take

ZOO = Path(__file__).parents[1] / "src" / "rigwise" / "graph" / "zoo"

_RESNET = "arXiv:1512.03385, table 1; stride in the 3x3 convolution (v1.5)"
_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}

#: name: builder, title, family, source, side
CLASSIFIERS: Mapping[str, tuple[Callable[[], object], str, str, str, int]] = {
    "alexnet": (classic.alexnet, "AlexNet, one column", "alexnet", "arXiv:1404.5997", 224),
    "vgg16": (lambda: classic.vgg((2, 2, 3, 3, 3)), "VGG-16", "vgg", "arXiv:1409.1556, table 1, column D", 224),
    "vgg19": (lambda: classic.vgg((2, 2, 4, 4, 4)), "VGG-19", "vgg", "arXiv:1409.1556, table 1, column E", 224),
    "squeezenet": (classic.squeezenet, "SqueezeNet 1.1", "squeezenet", "arXiv:1602.07360", 224),
    "densenet121": (
        lambda: classic.densenet((6, 12, 24, 16)),
        "DenseNet-121",
        "densenet",
        "arXiv:1608.06993, table 1",
        224,
    ),
    "googlenet": (
        inception.googlenet,
        "GoogLeNet, no auxiliary heads",
        "inception",
        "arXiv:1409.4842, table 1, with batch normalisation",
        224,
    ),
    "inception-v3": (
        inception.inception_v3,
        "Inception-v3, no auxiliary head",
        "inception",
        "arXiv:1512.00567, table 1",
        299,
    ),
    "resnet18": (lambda: resnet.ResNet((2, 2, 2, 2), deep=False), "ResNet-18", "resnet", _RESNET, 224),
    "resnet34": (lambda: resnet.ResNet((3, 4, 6, 3), deep=False), "ResNet-34", "resnet", _RESNET, 224),
    **{
        f"resnet{depth}": (
            lambda depths=depths: resnet.ResNet(depths, deep=True),
            f"ResNet-{depth} v1.5",
            "resnet",
            _RESNET,
            224,
        )
        for depth, depths in _DEPTHS.items()
    },
    "resnext50-32x4d": (
        lambda: resnet.ResNet(_DEPTHS[50], deep=True, groups=32, group_width=4),
        "ResNeXt-50 32x4d",
        "resnet",
        "arXiv:1611.05431, table 1",
        224,
    ),
    "se-resnet50": (
        lambda: resnet.ResNet(_DEPTHS[50], deep=True, gates=True),
        "SE-ResNet-50",
        "resnet",
        "arXiv:1709.01507, table 1",
        224,
    ),
    "mobilenet-v2": (mobile.mobilenet_v2, "MobileNet-v2", "mobilenet", "arXiv:1801.04381, table 2", 224),
    "mobilenet-v3-large": (
        mobile.mobilenet_v3_large,
        "MobileNet-v3 large",
        "mobilenet",
        "arXiv:1905.02244, table 1",
        224,
    ),
    **{
        f"efficientnet-b{index}": (
            lambda scales=scales: mobile.efficientnet(*scales),
            f"EfficientNet-B{index}",
            "efficientnet",
            "arXiv:1905.11946",
            side,
        )
        for index, (scales, side) in enumerate(
            (
                ((1.0, 1.0, 0.2), 224),
                ((1.0, 1.1, 0.2), 240),
                ((1.1, 1.2, 0.3), 260),
                ((1.2, 1.4, 0.3), 300),
                ((1.4, 1.8, 0.4), 380),
            )
        )
    },
}

SUBJECTS = {
    "unet": others.unet,
    "lstm-large": others.lstm,
    "graphsage": others.graphsage,
    "dlrm": others.dlrm,
    "sd-1.5-unet": diffusion.stable_diffusion,
    "sdxl-unet": diffusion.stable_diffusion_xl,
}

WORKLOADS = {
    "sgemm": lambda: workloads.gemm("sgemm", "float32", "SGEMM, square"),
    "dgemm": lambda: workloads.gemm("dgemm", "float64", "DGEMM, square"),
    "lennard-jones": workloads.lennard_jones,
}

NAMES = (*CLASSIFIERS, *SHAPES, *SUBJECTS, *WORKLOADS)


def build(name: str) -> Model:
    """One model of the zoo, captured."""
    if name in WORKLOADS:
        return WORKLOADS[name]()
    with fake_tensors():
        if name in SUBJECTS:
            return capture(SUBJECTS[name]())
        if name in CLASSIFIERS:
            make, title, family, source, side = CLASSIFIERS[name]
            card = Card(title=title, family=family, source=source, reference_batch=64)
            return capture(image_classifier(name, make(), card, side=side))
        shape = SHAPES[name]
        model = capture(subject(shape.config, name=name, where=name))
    card = replace(
        model.card,
        title=shape.title,
        family=shape.family,
        source=shape.source,
        reference_batch=shape.reference_batch,
        assumed=(*model.card.assumed, *shape.assumed),
    )
    return replace(model, card=card)


def main() -> None:
    wanted = sys.argv[1:] or NAMES
    for name in wanted:
        if name not in NAMES:
            sys.exit(f"the zoo has no {name!r}; {near_matches(name, NAMES)}")
    ZOO.mkdir(exist_ok=True)
    for name in wanted:
        start = time.perf_counter()
        try:
            model = build(name)
        except RigwiseError as error:
            sys.exit(f"{name}: {error}")
        path = ZOO / f"{name}.rwg"
        write_model(path, model)
        ops = {task: len(graph.ops) for task, graph in model.graphs.items()}
        took = time.perf_counter() - start
        print(f"{name:20} {model.parameter_count / 1e6:12,.3f} M {path.stat().st_size:8,} B {took:6.1f} s  {ops}")


if __name__ == "__main__":
    main()
