"""Whole networks, forward and in training, whose steps the catalogue predicts.

Images follow the protocol of cnn-benchmarks: batches of 16 random images of 224 x 224, forward, and forward with
backward; the language model takes one sequence of 128 tokens. The networks are written out here and in ``images.py``,
so that no model library is needed. On a CPU with less than a second for a figure only those are run that take a few
seconds a step.

Source: Johnson, "cnn-benchmarks", 2017, for the protocol; Radford et al., "Language Models are Unsupervised Multitask
Learners", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.images import image_network
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure, quantile
from rigwise.bench.types import ITEMS, Context, Raw

IMAGES, PIXELS, TOKENS = 16, 224, 128
#: What a CPU does in seconds; and the whole protocol.
_SMALL = ("alexnet", "resnet18", "gpt2")
_ALL = ("alexnet", "googlenet", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "gpt2")
#: Less time for a figure is too little for the whole protocol on a CPU.
_WHOLE_S = 1.0
#: Longer steps of training are left out; they take about so many times the forward pass, and on a busy machine more.
_MOST_STEP_S, _PASSES = 30.0, 4.0
#: Bytes of training a batch in fp32, at most: weights, gradients, activations. The deep ones keep more of the latter.
_NEEDED_BYTES = 3e9
_NEEDED_BYTES_OF = {"vgg16": 4e9, "vgg19": 4e9, "resnet50": 4e9, "resnet101": 5e9, "resnet152": 7e9}


def run(context: Context) -> Iterator[Raw]:
    """Samples a second, forward and in training, for each network."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="networks", unit=ITEMS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    for model in chosen(context):
        wanted = [part for part in ("forward", "training") if is_wanted(context, f"networks.{model}.{part}")]
        if wanted and context.memory_bytes < _NEEDED_BYTES_OF.get(model, _NEEDED_BYTES):
            yield Raw(name=f"networks.{model}", unit=ITEMS, skipped="too little memory")
            continue
        try:
            yield from _both(torch, context, model, wanted)
        except RuntimeError as error:
            yield Raw(name=f"networks.{model}", unit=ITEMS, skipped=why_not(error))


def _both(torch: Any, context: Context, model: str, wanted: list[str]) -> Iterator[Raw]:
    """Forward, then training unless the forward pass told that nobody would wait for it."""
    net, inputs = made(torch, context, model) if wanted else (None, None)
    training_s = 0.0
    for part in wanted:
        if training_s > _MOST_STEP_S:
            skipped = f"a step would take about {training_s:.0f} s"
            yield Raw(name=f"networks.{model}.{part}", unit=ITEMS, skipped=skipped)
            continue
        found = _one(torch, context, (model, part), step(torch, net, inputs, training=part == "training"))
        training_s = _PASSES * quantile(found.timing.samples_s, 0.5) if found.timing else 0.0
        yield found


def chosen(context: Context) -> tuple[str, ...]:
    """The networks that there is time for, and those that were asked for by name."""
    named = {word.split(".")[1] for word in context.wanted if word.startswith("networks.")}
    quick = context.target == "cpu" and context.each_s < _WHOLE_S
    return tuple(model for model in _ALL if not quick or model in _SMALL or model in named)


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
    net = image_network(torch, model)
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
