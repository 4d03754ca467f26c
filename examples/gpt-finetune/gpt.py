"""A small GPT over characters, as GPT-2 is built: learned positions, normalisation before each part, tied words."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

LETTERS = "\n abcdefghijklmnopqrstuvwxyz.,0123456789+="
LAYERS, HEADS, WIDTH, CONTEXT = 3, 4, 128, 128


class Block(nn.Module):
    """Attention, then two linear layers, each beside a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape: batch, place in the text, feature."""
        batch, seq, width = x.shape
        heads = self.qkv(self.before_attention(x)).view(batch, seq, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))
        return x + self.mlp(self.before_mlp(x))


class Gpt(nn.Module):
    """Letters in, for each place a score of every letter that may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(len(LETTERS), WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.last = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.LayerNorm(WIDTH)
        for table in (self.letters, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        """Scores: batch, place in the text, letter."""
        x = self.letters(letters) + self.places(torch.arange(letters.shape[1], device=letters.device))
        return functional.linear(self.last(self.blocks(x)), self.letters.weight)


def net(batch: int = 2) -> tuple[nn.Module, torch.Tensor]:
    """What rigwise captures: the module and example inputs."""
    return Gpt(), torch.zeros(batch, CONTEXT, dtype=torch.long)
