"""Residual networks as plain modules.

The stride of a bottleneck sits in its 3x3 convolution ("v1.5"), as frameworks train it; the paper has
it in the first 1x1. ResNeXt and SE-ResNet are the same network with groups and with gates.

Source: He et al., arXiv:1512.03385 (table 1); Xie et al., arXiv:1611.05431; Hu et al., arXiv:1709.01507;
v1.5: NVIDIA Deep Learning Examples, ResNet-50 v1.5 model description. ResNet-200: He et al., arXiv:1603.05027.
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class SqueezeExcite(nn.Module):
    """Channel gates from the mean of each channel."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.gates = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(self.squeeze(x))


class Block(nn.Module):
    """A residual block around ``branch``, with a projection where the shape changes."""

    def __init__(self, branch: list[nn.Module], inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Sequential(*conv_norm(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.branch(x) + shortcut)


def basic(inputs: int, width: int, stride: int) -> Block:
    branch = [*conv_norm(inputs, width, 3, stride), nn.ReLU(inplace=True), *conv_norm(width, width, 3)]
    return Block(branch, inputs, width, stride)


def bottleneck(
    inputs: int, width: int, stride: int, *, groups: int = 1, group_width: int = 64, gates: bool = False
) -> Block:
    outputs, inner = 4 * width, width * group_width // 64 * groups
    branch = [
        *conv_norm(inputs, inner, 1),
        nn.ReLU(inplace=True),
        *conv_norm(inner, inner, 3, stride, groups),
        nn.ReLU(inplace=True),
        *conv_norm(inner, outputs, 1),
    ]
    if gates:
        branch.append(SqueezeExcite(outputs, outputs // 16))
    return Block(branch, inputs, outputs, stride)


class ResNet(nn.Module):
    """Stem, four stages, classifier.

    Args:
        depths: Blocks of each stage.
        deep: Bottlenecks instead of pairs of 3x3 convolutions.
        options: Passed to every bottleneck.
    """

    def __init__(self, depths: tuple[int, ...], *, deep: bool, **options: object) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1))
        stages, inputs = [], 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 * 2**stage, []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(bottleneck(inputs, width, stride, **options) if deep else basic(inputs, width, stride))
                inputs = 4 * width if deep else width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))
