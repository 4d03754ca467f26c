"""Small models that ``bench_this.py`` measures and predicts, as a user writes them; none is in the zoo or the suite."""

from __future__ import annotations

from typing import Any

TEXT = {"vocab_size": 8192}
#: Name -> content of a ``config.json``.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert-small": {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], **TEXT, "hidden_size": 512,
        "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 8, "max_position_embeddings": 512,
    },
    "gpt-small": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **TEXT, "n_positions": 1024, "n_embd": 384,
        "n_layer": 6, "n_head": 6, "bos_token_id": 0, "eos_token_id": 0,
    },
}  # fmt: skip


def mlp() -> Any:
    """Three linear layers over 784 numbers."""
    import torch
    from torch import nn

    layers = nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    return nn.Sequential(*layers), torch.zeros(2, 784)


def convnet() -> Any:
    """Convolutions with batch normalisation over images of 32 x 32."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for inner, outer in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10)), torch.zeros(2, 3, 32, 32)


def resnet18() -> Any:
    """ResNet-18 over images of 96 x 96."""
    import torch
    from torch import nn

    def conv(inner: int, outer: int, kernel: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer)]

    class Block(nn.Module):
        """Two convolutions beside a way around them."""

        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            self.main = nn.Sequential(*conv(inner, outer, 3, stride), nn.ReLU(), *conv(outer, outer, 3, 1))
            self.around = nn.Sequential(*conv(inner, outer, 1, stride)) if stride > 1 else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.main(x) + self.around(x))

    layers = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for inner, outer in ((64, 64), (64, 128), (128, 256), (256, 512)):
        layers += [Block(inner, outer, 1 if inner == outer else 2), Block(outer, outer, 1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return net, torch.zeros(2, 3, 96, 96)


def lstm() -> Any:
    """Two layers of 256 over 64 steps, and a linear layer over the last."""
    import torch
    from torch import nn

    class Tagger(nn.Module):
        """Words in, one class for each sequence out."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.cells = nn.Embedding(8192, 256), nn.LSTM(256, 256, num_layers=2, batch_first=True)
            self.head = nn.Linear(256, 16)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.head(self.cells(self.words(words))[0][:, -1])

    return Tagger(), torch.zeros(2, 64, dtype=torch.long)


def built(name: str) -> Any:
    """The transformers model of a configuration."""
    import transformers

    config = CONFIGS[name]
    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    made = transformers.CONFIG_MAPPING[config["model_type"]](**settings)
    return getattr(transformers, config["architectures"][0])(made)
