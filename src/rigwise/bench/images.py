"""Networks over images in plain PyTorch: AlexNet, GoogLeNet, VGG, ResNet. Weights are random.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (AlexNet of one column);
Szegedy et al., "Going Deeper with Convolutions", 2015, table 1 (GoogLeNet); Simonyan & Zisserman, "Very Deep
Convolutional Networks", 2015, table 1 (VGG D and E); He et al., "Deep Residual Learning", 2016, table 1 (ResNet).
"""

from __future__ import annotations

from typing import Any

#: Convolutions of 3x3 in each stage of VGG.
_VGG = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
#: Blocks in each stage of ResNet, and how many times wider a block ends.
_RESNET = {
    "resnet18": ((2, 2, 2, 2), 1),
    "resnet34": ((3, 4, 6, 3), 1),
    "resnet50": ((3, 4, 6, 3), 4),
    "resnet101": ((3, 4, 23, 3), 4),
    "resnet152": ((3, 8, 36, 3), 4),
}
#: Channels of each inception block: 1x1; 3x3 behind its reduction; 5x5 behind its; behind the pool.
_INCEPTION = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
#: Blocks of inception after which the images are halved.
_HALVED_AFTER = (1, 6)


def image_network(torch: Any, model: str) -> Any:
    """A network by its name in the zoo, for 1000 classes."""
    if model in _VGG:
        return vgg(torch, model)
    if model in _RESNET:
        return resnet(torch, model)
    return googlenet(torch) if model == "googlenet" else alexnet(torch)


def alexnet(torch: Any) -> Any:
    """AlexNet of one column."""
    nn: Any = torch.nn
    sizes = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    layers: list[Any] = []
    for place, (inner, outer, kernel, stride, padding) in enumerate(sizes):
        layers += [nn.Conv2d(inner, outer, kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if place in (0, 1, 4) else []
    layers += [nn.Flatten(), nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1000))


def resnet(torch: Any, model: str) -> Any:
    """ResNet, with the stride in the 3x3 convolution."""
    nn: Any = torch.nn
    counts, wide = _RESNET[model]

    class Block(nn.Module):  # type: ignore[misc]
        """Two or three convolutions beside a way around them."""

        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            shapes = [(inner, outer, 3, stride), (outer, outer, 3, 1)]
            if wide > 1:
                shapes = [(inner, outer, 1, 1), (outer, outer, 3, stride), (outer, wide * outer, 1, 1)]
            layers: list[Any] = []
            for a, b, kernel, step_ in shapes:
                layers += [nn.Conv2d(a, b, kernel, step_, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
            self.main = nn.Sequential(*layers[:-1])
            around = nn.Conv2d(inner, wide * outer, 1, stride, bias=False), nn.BatchNorm2d(wide * outer)
            self.around = nn.Sequential(*around) if stride > 1 or inner != wide * outer else nn.Identity()

        def forward(self, x: Any) -> Any:
            return torch.relu(self.main(x) + self.around(x))

    layers: list[Any] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inner = 64
    for stage, count in enumerate(counts):
        for place in range(count):
            layers.append(Block(inner, 64 << stage, 2 if stage and not place else 1))
            inner = wide * (64 << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, 1000))


def vgg(torch: Any, model: str) -> Any:
    """VGG with 16 or 19 layers that have weights, without normalisation."""
    nn: Any = torch.nn
    layers: list[Any] = []
    inner = 3
    for stage, count in enumerate(_VGG[model]):
        outer = min(64 << stage, 512)
        for _ in range(count):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(inplace=True)]
            inner = outer
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000))


def googlenet(torch: Any) -> Any:
    """GoogLeNet with normalisation behind each convolution and without the two outputs on the way."""
    nn: Any = torch.nn

    def conv(inner: int, outer: int, kernel: int, stride: int = 1) -> Any:
        layer = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))

    class Inception(nn.Module):  # type: ignore[misc]
        """Four ways beside each other, put together by channels."""

        def __init__(self, inner: int, sizes: tuple[int, ...]) -> None:
            super().__init__()
            one, before, three, before_wider, wider, pooled = sizes
            self.ways = nn.ModuleList([
                conv(inner, one, 1),
                nn.Sequential(conv(inner, before, 1), conv(before, three, 3)),
                nn.Sequential(conv(inner, before_wider, 1), conv(before_wider, wider, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inner, pooled, 1)),
            ])  # fmt: skip

        def forward(self, x: Any) -> Any:
            return torch.cat([way(x) for way in self.ways], 1)

    layers: list[Any] = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), conv(64, 64, 1), conv(64, 192, 3)]
    layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    inner = 192
    for place, sizes in enumerate(_INCEPTION):
        layers.append(Inception(inner, sizes))
        inner = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if place in _HALVED_AFTER else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(inner, 1000))
