"""Teach a small GPT sentences, then tune it on sums: does the loss on sums fall from where the sentences left it?"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from gpt import CONTEXT, LETTERS, Gpt
from torch.nn import functional

from rigwise import monitor

BASE, SAVED = Path("base.pt"), Path("tuned.pt")
WHO, DOES, WHAT = "a bird,the old man,my sister,one child", "sees,finds,draws,likes", "the sea,a house,two stones,bread"


def sentences(count: int, chance: random.Random) -> str:
    """Who does what, a line for each."""
    words = [part.split(",") for part in (WHO, DOES, WHAT)]
    return "".join(" ".join(chance.choice(part) for part in words) + ".\n" for _ in range(count))


def sums(count: int, chance: random.Random) -> str:
    """Two numbers of one digit and their sum, a line for each."""
    pairs = [(chance.randrange(10), chance.randrange(10)) for _ in range(count)]
    return "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)


def coded(text: str) -> torch.Tensor:
    """Numbers of the letters."""
    return torch.tensor([LETTERS.index(letter) for letter in text])


def some(text: torch.Tensor, batch: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces of a text, and the same a letter later."""
    starts = torch.randint(len(text) - CONTEXT, (batch, 1), generator=chance)
    places = starts + torch.arange(CONTEXT)
    return text[places], text[places + 1]


def loss_of(net: Gpt, inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over all letters, in nats."""
    return functional.cross_entropy(net(inputs).flatten(0, 1), wanted.flatten())


def base(batch: int, steps: int) -> Gpt:
    """The network that is tuned: trained on sentences once, then read from its file."""
    net = Gpt()
    if BASE.exists():
        net.load_state_dict(torch.load(BASE, weights_only=True))
        return net
    text, chance = coded(sentences(2000, random.Random(1))), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss_of(net, *some(text, batch, chance)).backward()
        optimizer.step()
    torch.save(net.state_dict(), BASE)
    return net


def main() -> None:
    """Tune the network, save when it is due, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    net, first = base(options.batch, max(5, options.steps // 4)), 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    if SAVED.exists():
        saved = torch.load(SAVED, weights_only=True)
        first = saved["step"]
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
    text, test = coded(sums(5000, random.Random(2))), coded(sums(1000, random.Random(3)))
    trial = some(test, 16, torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before = float(loss_of(net, *trial))
    chance, done = torch.Generator().manual_seed(first), first
    with monitor(samples=options.batch, first_step=first) as m:
        while done < options.steps and not m.stopping:
            optimizer.zero_grad(set_to_none=True)
            loss_of(net, *some(text, options.batch, chance)).backward()
            optimizer.step()
            done += 1
            m.step()
            if m.checkpoint_due():
                with m.checkpoint():
                    state = {"step": done, "net": net.state_dict(), "optimizer": optimizer.state_dict()}
                    torch.save(state, SAVED.with_suffix(".new"))
                    SAVED.with_suffix(".new").replace(SAVED)
    with torch.inference_mode():
        print(f"step {done}: loss on new sums {before:.2f} -> {float(loss_of(net, *trial)):.2f} nats a letter")


if __name__ == "__main__":
    main()
