"""Inception networks: GoogLeNet and Inception-v3, both without their auxiliary classifiers.

Source: Szegedy et al., arXiv:1409.4842, table 1 (with batch normalisation instead of bias and local response
normalisation, as it is trained today); Szegedy et al., arXiv:1512.00567, table 1 and figures 5 to 7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Kernel = int | tuple[int, int]


class Unit(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(outputs, eps=0.001),
            nn.ReLU(inplace=True),
        )


class Branches(nn.Module):
    """Several paths from one input, joined channel by channel."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def googlenet() -> nn.Module:
    def block(inputs: int, one: int, three_in: int, three: int, five_in: int, five: int, pooled: int) -> nn.Module:
        return Branches(
            Unit(inputs, one, 1),
            nn.Sequential(Unit(inputs, three_in, 1), Unit(three_in, three, 3, padding=1)),
            nn.Sequential(Unit(inputs, five_in, 1), Unit(five_in, five, 5, padding=2)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Unit(inputs, pooled, 1)),
        )

    def pool(kernel: int = 3) -> nn.Module:
        return nn.MaxPool2d(kernel, 2, ceil_mode=True)

    return nn.Sequential(
        Unit(3, 64, 7, 2, 3), pool(), Unit(64, 64, 1), Unit(64, 192, 3, padding=1), pool(),
        block(192, 64, 96, 128, 16, 32, 32), block(256, 128, 128, 192, 32, 96, 64), pool(),
        block(480, 192, 96, 208, 16, 48, 64), block(512, 160, 112, 224, 24, 64, 64),
        block(512, 128, 128, 256, 24, 64, 64), block(512, 112, 144, 288, 32, 64, 64),
        block(528, 256, 160, 320, 32, 128, 128), pool(),
        block(832, 256, 160, 320, 32, 128, 128), block(832, 384, 192, 384, 48, 128, 128),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 1000),
    )  # fmt: skip


def inception_v3() -> nn.Module:
    return nn.Sequential(
        Unit(3, 32, 3, 2), Unit(32, 32, 3), Unit(32, 64, 3, padding=1), nn.MaxPool2d(3, 2),
        Unit(64, 80, 1), Unit(80, 192, 3), nn.MaxPool2d(3, 2),
        _grid_35(192, 32), _grid_35(256, 64), _grid_35(288, 64), _to_grid_17(288),
        _grid_17(128), _grid_17(160), _grid_17(160), _grid_17(192), _to_grid_8(768),
        _grid_8(1280), _grid_8(2048),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(2048, 1000),
    )  # fmt: skip


def _grid_35(inputs: int, pooled: int) -> nn.Module:
    return Branches(
        Unit(inputs, 64, 1),
        nn.Sequential(Unit(inputs, 48, 1), Unit(48, 64, 5, padding=2)),
        nn.Sequential(Unit(inputs, 64, 1), Unit(64, 96, 3, padding=1), Unit(96, 96, 3, padding=1)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Unit(inputs, pooled, 1)),
    )


def _to_grid_17(inputs: int) -> nn.Module:
    return Branches(
        Unit(inputs, 384, 3, 2),
        nn.Sequential(Unit(inputs, 64, 1), Unit(64, 96, 3, padding=1), Unit(96, 96, 3, 2)),
        nn.MaxPool2d(3, 2),
    )


def _grid_17(inner: int) -> nn.Module:
    def row(a: int, b: int) -> nn.Module:
        return Unit(a, b, (1, 7), padding=(0, 3))

    def column(a: int, b: int) -> nn.Module:
        return Unit(a, b, (7, 1), padding=(3, 0))

    return Branches(
        Unit(768, 192, 1),
        nn.Sequential(Unit(768, inner, 1), row(inner, inner), column(inner, 192)),
        nn.Sequential(
            Unit(768, inner, 1), column(inner, inner), row(inner, inner), column(inner, inner), row(inner, 192)
        ),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Unit(768, 192, 1)),
    )


def _to_grid_8(inputs: int) -> nn.Module:
    seven = [Unit(192, 192, (1, 7), padding=(0, 3)), Unit(192, 192, (7, 1), padding=(3, 0))]
    return Branches(
        nn.Sequential(Unit(inputs, 192, 1), Unit(192, 320, 3, 2)),
        nn.Sequential(Unit(inputs, 192, 1), *seven, Unit(192, 192, 3, 2)),
        nn.MaxPool2d(3, 2),
    )


def _grid_8(inputs: int) -> nn.Module:
    def split() -> nn.Module:
        return Branches(Unit(384, 384, (1, 3), padding=(0, 1)), Unit(384, 384, (3, 1), padding=(1, 0)))

    return Branches(
        Unit(inputs, 320, 1),
        nn.Sequential(Unit(inputs, 384, 1), split()),
        nn.Sequential(Unit(inputs, 448, 1), Unit(448, 384, 3, padding=1), split()),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), Unit(inputs, 192, 1)),
    )
