"""One network each of kinds that are neither image classifiers nor transformers.

Source: U-Net: Ronneberger et al., arXiv:1505.04597, figure 1, with padded convolutions; LSTM language model:
Zaremba et al., arXiv:1409.2329, section 4.1 ("large"); GraphSAGE: Hamilton et al., arXiv:1706.02216, on the
Reddit graph (602 features, 41 classes) with fan-outs 25 and 10; DLRM: Naumov et al., arXiv:1906.00091, with
the table sizes of the Criteo Kaggle data set as its code reports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rigwise.graph.capture.subject import REFERENCE_BATCH, Subject
from rigwise.graph.graph import Card
from zoo.subjects import cross_entropy


def _double(inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four halvings, four doublings, a skip at every level."""

    def __init__(self, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.stem = _double(3, width)
        self.down = nn.ModuleList(_double(a, b) for a, b in pairwise(widths))
        backwards = widths[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(backwards))
        self.merge = nn.ModuleList(_double(a, b) for a, b in pairwise(backwards))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


def unet() -> Subject:
    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Tensor]:
        return (torch.empty(sizes["b"], 3, sizes["p"], sizes["p"]),)

    def loss(output: Tensor, _arguments: Any) -> Tensor:
        labels = torch.zeros(output.shape[0], *output.shape[2:], dtype=torch.long)
        return functional.cross_entropy(output, labels)

    symbols = {task: {"b": REFERENCE_BATCH, "p": 512} for task in ("train", "infer")}
    card = Card(title="U-Net", family="unet", source="arXiv:1505.04597", reference_batch=16)
    return Subject(name="unet", module=UNet(), inputs=inputs, loss=loss, symbols=symbols, card=card)


class LstmLanguageModel(nn.Module):
    """Embedding, two LSTM layers, scores over the vocabulary."""

    def __init__(self, vocabulary: int = 10_000, width: int = 1500, layers: int = 2, dropout: float = 0.65) -> None:
        super().__init__()
        self.embed, self.dropout = nn.Embedding(vocabulary, width), nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, width, layers, dropout=dropout, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.dropout(self.lstm(self.dropout(self.embed(ids)))[0])).flatten(0, 1)


def lstm() -> Subject:
    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Tensor]:
        return (torch.zeros(sizes["b"], sizes["s"], dtype=torch.long),)

    symbols = {task: {"b": REFERENCE_BATCH, "s": 35} for task in ("train", "infer")}
    card = Card(title="LSTM language model, large", family="lstm", source="arXiv:1409.2329", reference_batch=20)
    return Subject(
        name="lstm-large", module=LstmLanguageModel(), inputs=inputs, loss=cross_entropy, symbols=symbols, card=card
    )


class GraphSage(nn.Module):
    """Two layers of mean aggregation over sampled neighbours, as edge lists."""

    def __init__(self, features: int = 602, hidden: int = 256, classes: int = 41) -> None:
        super().__init__()
        sizes = (features, hidden, classes)
        pairs = list(pairwise(sizes))
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.neighbours = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)

    def forward(self, x: Tensor, *edges: Tensor) -> Tensor:
        counts = [e.shape[1] for e in edges]
        for layer, (sources, targets) in enumerate(edges):
            nodes = x.shape[0] - counts[layer]  # every sampled edge brings a node of its own
            total = x.new_zeros(nodes, x.shape[1]).index_add_(0, targets, x[sources])
            degree = x.new_zeros(nodes, 1).index_add_(0, targets, x.new_ones(counts[layer], 1))
            x = self.own[layer](x[:nodes]) + self.neighbours[layer](total / degree)
            x = x if layer else functional.relu(x)
        return x


def graphsage() -> Subject:
    first, second = 25, 10

    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
        seeds = sizes["b"]
        inner = seeds * first
        nodes = seeds + inner + (seeds + inner) * second
        outer_edges = torch.zeros(2, (seeds + inner) * second, dtype=torch.long)
        return torch.empty(nodes, 602), outer_edges, torch.zeros(2, inner, dtype=torch.long)

    symbols = {task: {"b": 512} for task in ("train", "infer")}
    assumed = ("a batch is that many seed nodes; every node has 25 neighbours, each of them 10",)
    card = Card(
        title="GraphSAGE on Reddit", family="gnn", source="arXiv:1706.02216", reference_batch=512, assumed=assumed
    )
    return Subject(name="graphsage", module=GraphSage(), inputs=inputs, loss=cross_entropy, symbols=symbols, card=card)


_CRITEO_ROWS = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip


class Dlrm(nn.Module):
    """Dense features and embeddings, all pairs of dot products, a classifier."""

    def __init__(self, rows: tuple[int, ...] = _CRITEO_ROWS, width: int = 16) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in rows)
        self.bottom = self._stack(13, 512, 256, 64, width)
        pairs = (len(rows) + 1) * len(rows) // 2
        self.top = self._stack(pairs + width, 512, 256)
        self.click = nn.Linear(256, 1)
        self.register_buffer("pairs", torch.zeros(2, pairs, dtype=torch.long))

    @staticmethod
    def _stack(*sizes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        bottom = self.bottom(dense)
        vectors = [table(sparse[:, column]) for column, table in enumerate(self.tables)]
        features = torch.stack([bottom, *vectors], 1)
        products = torch.bmm(features, features.transpose(1, 2))
        crossed = products[:, self.pairs[0], self.pairs[1]]
        return self.click(self.top(torch.cat([bottom, crossed], 1)))


def dlrm() -> Subject:
    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        return torch.empty(sizes["b"], 13), torch.zeros(sizes["b"], len(_CRITEO_ROWS), dtype=torch.long)

    def loss(output: Tensor, _arguments: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, torch.zeros_like(output))

    symbols = {task: {"b": 2048} for task in ("train", "infer")}
    assumed = ("one index for every table; gradients of the tables are dense",)
    card = Card(
        title="DLRM on Criteo Kaggle", family="dlrm", source="arXiv:1906.00091", reference_batch=2048, assumed=assumed
    )
    return Subject(name="dlrm", module=Dlrm(), inputs=inputs, loss=loss, symbols=symbols, card=card)
