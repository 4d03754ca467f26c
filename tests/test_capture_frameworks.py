"""The same model through PyTorch and through JAX is the same work."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

from flax import linen

from rigwise.graph.capture.factory import model_of
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.count import work
from rigwise.graph.op import Phase

torch = pytest.importorskip("torch")
jnp = pytest.importorskip("jax.numpy")
nn, functional = torch.nn, torch.nn.functional

WIDTH, HEADS, LAYERS, WORDS = 128, 4, 2, 1009


class TorchAttention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.causal = causal

    def forward(self, x):
        b, s, _ = x.shape
        q, k, v = (f(x).view(b, s, HEADS, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        done = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(done.transpose(1, 2).reshape(b, s, WIDTH))


class TorchLayer(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal, self.attention = causal, TorchAttention(causal)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x):
        if self.causal:  # GPT normalises before, BERT after
            x = x + self.attention(self.before(x))
            return x + self.down(functional.gelu(self.up(self.after(x))))
        x = self.before(x + self.attention(x))
        return self.after(x + self.down(functional.gelu(self.up(x))))


class TorchText(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.layers = nn.ModuleList(TorchLayer(causal) for _ in range(LAYERS))

    def forward(self, words):
        x = self.words(words)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class JaxLayer(linen.Module):
    causal: bool

    @linen.compact
    def __call__(self, x):
        attention = linen.MultiHeadDotProductAttention(HEADS, qkv_features=WIDTH)
        mask = linen.make_causal_mask(x[..., 0]) if self.causal else None
        before, after = linen.LayerNorm(), linen.LayerNorm()
        up, down = linen.Dense(4 * WIDTH), linen.Dense(WIDTH)
        if self.causal:
            x = x + attention(before(x), mask=mask)
            return x + down(linen.gelu(up(after(x))))
        x = before(x + attention(x))
        return after(x + down(linen.gelu(up(x))))


class JaxText(linen.Module):
    causal: bool

    @linen.compact
    def __call__(self, words):
        x = linen.Embed(WORDS, WIDTH)(words)
        for _ in range(LAYERS):
            x = JaxLayer(self.causal)(x)
        return linen.Dense(WORDS)(x)


class TorchBlock(nn.Module):
    def __init__(self, taken, made, stride):
        super().__init__()
        self.first = nn.Conv2d(taken, made, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(made) for _ in range(3 if stride > 1 else 2))
        self.short = nn.Conv2d(taken, made, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x):
        y = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
        return functional.relu(y + (self.norms[2](self.short(x)) if self.short else x))


class TorchResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        widths = (16, 32, 64)
        strides = (1, 2, 2)
        taken = (16, *widths[:-1])
        self.blocks = nn.ModuleList(TorchBlock(*row) for row in zip(taken, widths, strides, strict=True))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.norm(self.stem(x))), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class JaxBlock(linen.Module):
    made: int
    stride: int

    @linen.compact
    def __call__(self, x, train):
        def norm(y):
            return linen.BatchNorm(use_running_average=not train)(y)

        y = linen.relu(norm(linen.Conv(self.made, (3, 3), self.stride, use_bias=False)(x)))
        y = norm(linen.Conv(self.made, (3, 3), use_bias=False)(y))
        if self.stride > 1:
            x = norm(linen.Conv(self.made, (1, 1), self.stride, use_bias=False)(x))
        return linen.relu(x + y)


class JaxResNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(16, (7, 7), 2, use_bias=False)(x))
        x = linen.max_pool(linen.relu(x), (3, 3), (2, 2), "SAME")
        for made, stride in ((16, 1), (32, 2), (64, 2)):
            x = JaxBlock(made, stride)(x, train)
        return linen.Dense(10)(x.mean((1, 2)))


def torch_text(causal):
    return lambda batch=4, seq=64: (TorchText(causal), torch.zeros(batch, seq, dtype=torch.long))


def jax_text(causal):
    return lambda batch=4, seq=64: (JaxText(causal), jnp.zeros((batch, seq), "int32"))


def torch_images(batch=4, image_size=64):
    return TorchResNet(), torch.zeros(batch, 3, image_size, image_size)


def jax_images(batch=4, image_size=64):
    return JaxResNet(), jnp.zeros((batch, image_size, image_size, 3))


def both(torch_factory, jax_factory):
    with fake_tensors():
        return [model_of(f, spec="nets:net", name="net") for f in (torch_factory, jax_factory)]


def flops(model, task, sizes):
    found = Counter()
    for op in model.graphs[task].ops:
        found[op.phase] += op.repeat * work(op, sizes).flops
    return found


@pytest.mark.parametrize("causal", [False, True], ids=["bert", "gpt"])
def test_a_language_model_is_the_same_work(causal):
    ours, theirs = both(torch_text(causal), jax_text(causal))
    assert ours.parameter_count == theirs.parameter_count
    sizes = {"b": 6, "s": 96}
    assert flops(ours, "infer", sizes) == flops(theirs, "infer", sizes)
    left, right = flops(ours, "train", sizes), flops(theirs, "train", sizes)
    assert left[Phase.FORWARD] == right[Phase.FORWARD]
    # PyTorch's kernel makes the scores again in its backward pass; JAX keeps them.
    scores = LAYERS * 2 * sizes["b"] * sizes["s"] ** 2 * WIDTH
    assert left[Phase.BACKWARD] - right[Phase.BACKWARD] == scores
    assert scores < 0.02 * left.total()


def test_an_image_network_is_the_same_work():
    ours, theirs = both(torch_images, jax_images)
    assert ours.parameter_count == theirs.parameter_count
    for sizes in ({"b": 4, "p": 64}, {"b": 3, "p": 224}):
        assert flops(ours, "infer", sizes) == flops(theirs, "infer", sizes)
        assert flops(ours, "train", sizes) == flops(theirs, "train", sizes)
