"""Three convolutions over pictures of 32 x 32."""

from __future__ import annotations

import torch
from torch import nn

CLASSES, SIDE = 10, 32


def net() -> tuple[nn.Module, torch.Tensor]:
    """What rigwise captures: the module and example inputs."""
    layers: list[nn.Module] = []
    for inner, outer in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, CLASSES)), torch.zeros(2, 1, SIDE, SIDE)
