"""Networks of inverted residuals: MobileNet-v2, MobileNet-v3 and EfficientNet.

Source: Sandler et al., arXiv:1801.04381, table 2; Howard et al., arXiv:1905.02244, tables 1 and 2;
Tan & Le, arXiv:1905.11946, table 1 and the scaling factors of its code.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


def round_channels(channels: float) -> int:
    """To a multiple of 8, never down by over a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int, activation: type[nn.Module] | None) -> list:
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, activation(inplace=True)] if activation else layers


class Gates(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, squeezed: int, inner: type[nn.Module], outer: type[nn.Module]) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), inner(inplace=True),
            nn.Conv2d(squeezed, channels, 1), outer(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.net(x)


class DropPath(nn.Module):
    """Whole branches dropped sample by sample while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)


class Inverted(nn.Module):
    """Expand by 1x1, filter by channel, gate, project back."""

    def __init__(self, inputs: int, inner: int, outputs: int, kernel: int, stride: int, **parts: object) -> None:
        super().__init__()
        activation: type[nn.Module] = parts["activation"]  # type: ignore[assignment]
        layers = unit(inputs, inner, 1, 1, 1, activation) if inner != inputs else []
        layers += unit(inner, inner, kernel, stride, inner, activation)
        if parts.get("gates") is not None:
            layers.append(parts["gates"])
        self.branch = nn.Sequential(*layers, *unit(inner, outputs, 1, 1, 1, None))
        self.drop = DropPath(float(parts.get("drop", 0.0)))  # type: ignore[arg-type]
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.branch(x)) if self.same else self.branch(x)


def head(inputs: int, last: int, activation: type[nn.Module], dropout: float) -> list[nn.Module]:
    return [
        *unit(inputs, last, 1, 1, 1, activation),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(last, 1000),
    ]  # fmt: skip


def mobilenet_v2() -> nn.Module:
    layers, inputs = unit(3, 32, 3, 2, 1, nn.ReLU6), 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, outputs, count, stride in rows:
        for index in range(count):
            step = 1 if index else stride
            layers.append(Inverted(inputs, inputs * expansion, outputs, 3, step, activation=nn.ReLU6))
            inputs = outputs
    return nn.Sequential(*layers, *head(inputs, 1280, nn.ReLU6, 0.2))


#: kernel, inner channels, outputs, gates, hard swish, stride
_V3_LARGE = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1),
    (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1),
    (5, 960, 160, 1, 1, 1),
)  # fmt: skip


def mobilenet_v3_large() -> nn.Module:
    layers, inputs = unit(3, 16, 3, 2, 1, nn.Hardswish), 16
    for kernel, inner, outputs, gated, swish, stride in _V3_LARGE:
        gates = Gates(inner, round_channels(inner / 4), nn.ReLU, nn.Hardsigmoid) if gated else None
        activation = nn.Hardswish if swish else nn.ReLU
        layers.append(Inverted(inputs, inner, outputs, kernel, stride, activation=activation, gates=gates))
        inputs = outputs
    layers += unit(inputs, 960, 1, 1, 1, nn.Hardswish)
    tail = [nn.Linear(960, 1280), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *tail)


def efficientnet(width: float, depth: float, dropout: float) -> nn.Module:
    """B0 is (1.0, 1.0, 0.2); B1 to B4 scale width and depth."""
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
            (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    inputs = round_channels(32 * width)
    layers = unit(3, inputs, 3, 2, 1, nn.SiLU)
    blocks = sum(math.ceil(row[2] * depth) for row in rows)
    for expansion, outputs, count, stride, kernel in rows:
        for index in range(math.ceil(count * depth)):
            inner, step = inputs * expansion, 1 if index else stride
            gates = Gates(inner, max(1, inputs // 4), nn.SiLU, nn.Sigmoid)
            drop = 0.2 * (len(layers) - 3) / blocks
            chosen = round_channels(outputs * width)
            layers.append(Inverted(inputs, inner, chosen, kernel, step, activation=nn.SiLU, gates=gates, drop=drop))
            inputs = chosen
    return nn.Sequential(*layers, *head(inputs, round_channels(1280 * width), nn.SiLU, dropout))
