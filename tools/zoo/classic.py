"""The first large convolutional networks: AlexNet, VGG, SqueezeNet, DenseNet.

Source: AlexNet in its one-column form, Krizhevsky, arXiv:1404.5997; VGG: Simonyan & Zisserman,
arXiv:1409.1556, table 1 (D and E); SqueezeNet 1.1: Iandola et al., arXiv:1602.07360 and its release notes;
DenseNet: Huang et al., arXiv:1608.06993, table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def alexnet() -> nn.Module:
    def conv(inputs: int, outputs: int, kernel: int, **options: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, **options), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *conv(3, 64, 11, stride=4, padding=2),
        nn.MaxPool2d(3, 2),
        *conv(64, 192, 5, padding=2),
        nn.MaxPool2d(3, 2),
        *conv(192, 384, 3, padding=1),
        *conv(384, 256, 3, padding=1),
        *conv(256, 256, 3, padding=1),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 1000),
    )


def vgg(depths: tuple[int, ...]) -> nn.Module:
    """VGG-16 has depths (2, 2, 3, 3, 3), VGG-19 (2, 2, 4, 4, 4)."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    for width_in in (512 * 7 * 7, 4096):
        head += [nn.Linear(width_in, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(nn.Sequential(*layers), nn.Sequential(*head, nn.Linear(4096, 1000)))


class Fire(nn.Module):
    """SqueezeNet's block: squeeze to few channels, expand by 1x1 and 3x3."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.one(x)), self.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)  # noqa: E731
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), pool(),
        Fire(64, 16, 64), Fire(128, 16, 64), pool(),
        Fire(128, 32, 128), Fire(256, 32, 128), pool(),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class DenseLayer(nn.Module):
    """A bottleneck whose output is appended to its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(inplace=True), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], 1)


def densenet(depths: tuple[int, ...], growth: int = 32) -> nn.Module:
    channels = 2 * growth
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    for index, depth in enumerate(depths):
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        if index < len(depths) - 1:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
