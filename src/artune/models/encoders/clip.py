"""CLIP and HPSv2 at full size: open_clip's model, with the reference's preprocessing in batches on the device."""

import contextlib
import difflib
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from artune.data.pixels import normalise, resize_8_bit
from artune.errors import ArtuneError
from artune.models.precision import wide
from artune.runtime.files import read_json

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's values, which HPSv2 also uses
STD = (0.26862954, 0.26130258, 0.27577711)
TEXTS_AT_ONCE = 128  # bounds the memory of the 1,000 class prompts
PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}  # keys that a model configuration may have


class OpenCLIP(CLIP):
    """A CLIP of open_clip; it gives unit embeddings of images and prompts, whose product is the raw cosine.

    Parameter names are open_clip's and OpenAI's, so that official files load as they are.

    Args:
        architecture: a name of open_clip such as ViT-L-14-quickgelu (OpenAI's weights need ``-quickgelu``), or the
            path of a JSON file of open_clip's model configuration.
        empty: leave the weights unset, for a checkpoint to fill; for ViT-H-14 this takes 0.2 s instead of 20 s.

    Raises:
        ArtuneError: an unknown architecture, or one that is not the plain CLIP with OpenAI's vocabulary.
    """

    def __init__(self, architecture: str, empty: bool = False) -> None:
        config = model_config(architecture)
        with torch.device("meta") if empty else contextlib.nullcontext():
            super().__init__(**config)
        if empty:
            self.to_empty(device="cpu")
            self.attn_mask.fill_(-torch.inf).triu_(1)  # no checkpoint contains it
        self.quick_gelu = bool(config.get("quick_gelu", False))
        self.side: int = self.visual.image_size[0]
        self.tokenizer = SimpleTokenizer(context_length=self.context_length)

    def pixels(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> the network's input, float32 [B, 3, side, side]."""
        return clip_pixels(images, self.side)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> unit embeddings [B, E], at least float32."""
        return F.normalize(wide(self.encode_image(self.pixels(images).to(self.logit_scale.dtype))), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: list[str] | tuple[str, ...]) -> Tensor:
        """Prompts -> unit embeddings [C, E], at least float32; more than 77 tokens are cut, as in the reference."""
        ids = self.tokenizer(list(texts)).to(self.logit_scale.device)
        parts = [wide(self.encode_text(part)) for part in ids.split(TEXTS_AT_ONCE)]
        return F.normalize(torch.cat(parts), dim=-1)


class HPSv2(OpenCLIP):
    """HPSv2, a ViT-H-14 tuned on human preferences; v2.0 and v2.1 are two checkpoints of it.

    Its score is the raw cosine, about 0.2-0.3; only the preprocessing differs from CLIP's.
    """

    def pixels(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> the network's input, float32 [B, 3, side, side]."""
        return hps_pixels(images, self.side)


def model_config(architecture: str) -> dict[str, Any]:
    """open_clip's configuration of a plain CLIP; nothing is fetched from a hub.

    Raises:
        ArtuneError: as :class:`OpenCLIP`.
    """
    if architecture.endswith(".json"):
        config = read_json(architecture)
    elif architecture in (known := open_clip.list_models()):
        config = open_clip.get_model_config(architecture)
    else:
        near = difflib.get_close_matches(architecture, known, 3) or ["ViT-L-14-quickgelu", "ViT-H-14"]
        raise ArtuneError(f"networks: architecture {architecture!r} is unknown; open_clip has {', '.join(near)}")
    text = config.get("text_cfg") if isinstance(config, dict) else None
    if not isinstance(text, dict) or not {"embed_dim", "vision_cfg"} <= set(config) or set(config) - PLAIN:
        raise ArtuneError(f"networks: architecture {architecture!r} is not a plain CLIP; use the keys {sorted(PLAIN)}")
    if any(key.startswith("hf_") for key in text) or text.get("vocab_size", 49408) < 49408:
        raise ArtuneError(f"networks: architecture {architecture!r} does not have CLIP's vocabulary of 49408 tokens")
    return config


def clip_pixels(images: Tensor, side: int) -> Tensor:
    """CLIP's preprocessing: shortest side to ``side`` in 8 bits, centre crop, OpenAI's mean and standard deviation.

    Images uint8 [B, 3, H, W] -> float32 [B, 3, side, side]; the resize equals the reference's on PIL images.
    """
    height, width = images.shape[-2:]
    shortest = min(height, width)
    resized = resize_8_bit(images, (side * height // shortest, side * width // shortest))
    top, left = (round((length - side) / 2) for length in resized.shape[-2:])
    return normalise(resized[..., top : top + side, left : left + side] / 255, MEAN, STD)


def hps_pixels(images: Tensor, side: int) -> Tensor:
    """HPSv2's preprocessing: longest side to ``side`` in float, no clamp, black margins.

    Then OpenAI's mean and standard deviation are applied. Images uint8 [B, 3, H, W] -> float32 [B, 3, side, side].
    Antialias is on, as in torchvision since 0.17.
    """
    pixels = images.float() / 255
    height, width = pixels.shape[-2:]
    scale = side / max(height, width)
    size = (round(height * scale), round(width * scale))
    if scale != 1.0:
        pixels = F.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
    down, right = side - size[0], side - size[1]
    padded = F.pad(pixels, [right // 2, right - right // 2, down // 2, down - down // 2])
    return normalise(padded, MEAN, STD)
