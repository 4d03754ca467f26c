"""Whole networks, forward and in training, whose steps the catalogue predicts.

Images follow the protocol of cnn-benchmarks: batches of 16 random images of 224 x 224, forward, and forward with
backward; the language model takes one sequence of 128 tokens. The networks are written out here, so that no model
library is needed.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (AlexNet); He et al.,
"Deep Residual Learning", 2016; Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Johnson,
"cnn-benchmarks", 2017, for the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, Context, Raw

IMAGES, PIXELS, TOKENS = 16, 224, 128
#: Networks by target: what a CPU does in seconds, and what keeps a GPU busy.
_OF_CPU = ("alexnet", "resnet18", "gpt2")
_OF_GPU = ("alexnet", "resnet18", "resnet50", "gpt2")
#: Bytes of training a batch in fp32, at most: weights, gradients, activations.
_NEEDED_BYTES = 3e9


def run(context: Context) -> Iterator[Raw]:
    """Samples a second, forward and in training, for each network."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="networks", unit=ITEMS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    if context.memory_bytes < _NEEDED_BYTES:
        yield Raw(name="networks", unit=ITEMS, skipped="too little memory")
        return
    for model in _OF_CPU if context.target == "cpu" else _OF_GPU:
        wanted = [part for part in ("forward", "training") if is_wanted(context, f"networks.{model}.{part}")]
        try:
            net, inputs = made(torch, context, model) if wanted else (None, None)
            for part in wanted:
                yield _one(torch, context, (model, part), step(torch, net, inputs, training=part == "training"))
        except RuntimeError as error:
            yield Raw(name=f"networks.{model}", unit=ITEMS, skipped=why_not(error))


def _one(torch: Any, context: Context, called: tuple[str, str], call: Callable[[], Any]) -> Raw:
    model, part = called
    batch = 1 if model == "gpt2" else IMAGES
    sizes: dict[str, str | int] = {"seq": TOKENS} if model == "gpt2" else {"image_size": PIXELS}
    task = "train" if part == "training" else "infer"
    return Raw(
        name=f"networks.{model}.{part}",
        unit=ITEMS,
        amount=float(batch),
        timing=measure(call, context.each_s, waiting(torch, context.target)),
        parameters={"batch": batch, **sizes, "format": "fp32", "threads": context.threads},
        work={"law": "step", "model": model, "task": task, "batch": batch, **sizes},
        note="forward and backward, without the optimizer" if part == "training" else "",
    )


def made(torch: Any, context: Context, model: str) -> tuple[Any, Any]:
    """A network with random weights, and a batch for it."""
    torch.manual_seed(context.seed)
    if model == "gpt2":
        return gpt2(torch).to(context.target), torch.randint(50257, (1, TOKENS), device=context.target)
    net = alexnet(torch) if model == "alexnet" else resnet(torch, model)
    return net.to(context.target), torch.randn(IMAGES, 3, PIXELS, PIXELS).to(context.target)


def step(torch: Any, net: Any, inputs: Any, *, training: bool) -> Callable[[], Any]:
    """A call of one forward pass, or of one with loss and backward pass."""
    net.train(training)
    if not training:

        def forward() -> Any:
            with torch.no_grad():
                return net(inputs)

        return forward
    labels = inputs.flatten() if inputs.dim() == 2 else torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)

    def both() -> None:
        net.zero_grad(set_to_none=True)
        out = net(inputs)
        torch.nn.functional.cross_entropy(out.flatten(0, -2), labels).backward()

    return both


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
    """ResNet-18 or -50, with the stride in the 3x3 convolution."""
    nn: Any = torch.nn
    counts, wide = {"resnet18": ((2, 2, 2, 2), 1), "resnet50": ((3, 4, 6, 3), 4)}[model]

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


def gpt2(torch: Any, layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 50257) -> Any:
    """GPT-2 with the head tied to the embedding; logits of all tokens."""
    nn: Any = torch.nn
    functional = nn.functional

    class Block(nn.Module):  # type: ignore[misc]
        """Attention and two linear layers, each behind a normalisation and beside a way around."""

        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, tokens, _ = x.shape
            parts = self.qkv(self.before(x)).view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(*parts.unbind(), is_causal=True)
            x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.down(functional.gelu(self.up(self.between(x)), approximate="tanh"))

    class Model(nn.Module):  # type: ignore[misc]
        """Embeddings, blocks, head."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(1024, width)
            self.blocks, self.last = nn.Sequential(*(Block() for _ in range(layers))), nn.LayerNorm(width)

        def forward(self, tokens: Any) -> Any:
            x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
            return functional.linear(self.last(self.blocks(x)), self.words.weight)

    return Model()
