"""ResNet-18 with a head for ten classes.

Source: K. He et al., Deep Residual Learning for Image Recognition, 2016, table 1.
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES, SIDE = 10, 64


def conv(inner: int, outer: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution and its normalisation."""
    return [nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer)]


class Block(nn.Module):
    """Two convolutions beside a way around them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*conv(inner, outer, 3, stride), nn.ReLU(), *conv(outer, outer, 3, 1))
        self.around = nn.Sequential(*conv(inner, outer, 1, stride)) if stride > 1 else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of the same or half the side."""
        return torch.relu(self.main(images) + self.around(images))


class ResNet18(nn.Sequential):
    """A stem, eight blocks, the mean of each feature, one linear layer."""

    def __init__(self) -> None:
        layers = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for inner, outer in ((64, 64), (64, 128), (128, 256), (256, 512)):
            layers += [Block(inner, outer, 1 if inner == outer else 2), Block(outer, outer, 1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def net(image_size: int = SIDE) -> tuple[nn.Module, torch.Tensor]:
    """What rigwise captures: the module and example inputs."""
    return ResNet18(), torch.zeros(2, 3, image_size, image_size)
