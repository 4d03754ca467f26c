"""A small encoder that says what a text of numbers is about: its linear layers are what int8 is for."""

from __future__ import annotations

import torch
from torch import nn

WORDS, CLASSES, WIDTH, LAYERS, LENGTH = 1000, 8, 256, 4, 64


class Block(nn.Module):
    """Attention of four heads, then two linear layers, each beside a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape: batch, place, feature."""
        query, key, value = self.qkv(self.before_attention(x)).unflatten(-1, (3, 4, WIDTH // 4)).unbind(2)
        heads = (one.transpose(1, 2) for one in (query, key, value))
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class Encoder(nn.Module):
    """Words in, a score of each class out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks, self.head = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.Linear(WIDTH, CLASSES)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Scores of each text."""
        return self.head(self.blocks(self.words(words)).mean(1))


def net() -> tuple[nn.Module, torch.Tensor]:
    """What rigwise captures: the module and example inputs."""
    return Encoder(), torch.zeros(2, LENGTH, dtype=torch.long)
