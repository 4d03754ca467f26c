"""The denoising networks of Stable Diffusion, from the diffusers library.

Images have 8 times the side of the latents that the network sees; the symbol ``p`` is the image's.

Source: Rombach et al., arXiv:2112.10752, and the config.json of the unet of stable-diffusion-v1-5; Podell et al.,
arXiv:2307.01952, table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rigwise.graph.capture.from_torch.fake import BuildingModules
from rigwise.graph.capture.subject import REFERENCE_BATCH, ROUND_SIDES, Subject
from rigwise.graph.graph import Card

_TEXT = "a text of 77 tokens, already encoded"
_LATENTS = "the network alone: latents have an eighth of the image's side"


def stable_diffusion() -> Subject:
    down, cross = "DownBlock2D", "CrossAttnDownBlock2D"
    config = {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (cross, cross, cross, down),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    }
    card = Card(
        title="Stable Diffusion 1.5, UNet",
        family="diffusion",
        source="arXiv:2112.10752",
        reference_batch=4,
        assumed=(_TEXT, _LATENTS),
    )
    return _unet("sd-1.5-unet", config, card, side=512)


def stable_diffusion_xl() -> Subject:
    cross = "CrossAttnDownBlock2D"
    config = {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", cross, cross),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    card = Card(
        title="Stable Diffusion XL, UNet",
        family="diffusion",
        source="arXiv:2307.01952",
        reference_batch=2,
        assumed=(_TEXT, _LATENTS),
    )
    return _unet("sdxl-unet", config, card, side=1024)


def _unet(name: str, config: Mapping[str, Any], card: Card, *, side: int) -> Subject:
    from diffusers import UNet2DConditionModel

    with BuildingModules():
        module = UNet2DConditionModel(in_channels=4, out_channels=4, layers_per_block=2, **config)

    def inputs(_task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        batch, latent = sizes["b"], sizes["p"] // 8
        arguments: dict[str, Any] = {
            "sample": torch.empty(batch, 4, latent, latent),
            "timestep": torch.zeros(batch, dtype=torch.long),
            "encoder_hidden_states": torch.empty(batch, 77, config["cross_attention_dim"]),
        }
        if "addition_embed_type" in config:
            arguments["added_cond_kwargs"] = {
                "text_embeds": torch.empty(batch, 1280),
                "time_ids": torch.empty(batch, 6),
            }
        return arguments

    def loss(output: Any, _arguments: Any) -> torch.Tensor:
        return torch.nn.functional.mse_loss(output.sample, torch.zeros_like(output.sample))

    symbols = {task: {"b": REFERENCE_BATCH, "p": side} for task in ("train", "infer")}
    samples = {"p": ROUND_SIDES}
    return Subject(name=name, module=module, inputs=inputs, loss=loss, symbols=symbols, samples=samples, card=card)
