"""CLIP at the embedded scales: open_clip's own class in small sizes, with a vocabulary of a few words.

The preference network (HPS) is the same model trained on preferences.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.config.run import Data
from artune.data.pixels import to_pixels
from artune.data.prompts import class_names
from artune.errors import ArtuneError

TEMPLATES = (  # unless data.templates has others
    "a photo of {}",
    "a photo of the digit {}",
    "a picture of the number {}",
    "the digit {}",
    "the number {}",
    "a handwritten {}",
    "an image of {}",
    "{}",
)
PATCH = 6  # pixels
CONTEXT = 8  # ids per prompt: its words and the end token
EMBEDDING = 32
VISION = {  # settings of open_clip's image towers
    "transformer": {
        "layers": 2,
        "width": 64,
        "head_width": 16,
        "patch_size": PATCH,
        "mlp_ratio": 2.0,
        "pool_type": "avg",
    },
    "residual": {"layers": (1, 1, 1, 1), "width": 8, "head_width": 64},
}
TEXT = {  # settings of the text towers of the same architectures
    "transformer": {"width": 32, "heads": 2, "layers": 1},
    "residual": {"width": 48, "heads": 4, "layers": 2},
}


@contextmanager
def unseen(*packages: str) -> Iterator[None]:
    """Import as if the optional ``packages`` were not installed, except those that are already imported.

    Modules imported in this context stay without the packages for good. No other thread may import meanwhile.
    """
    hidden = [name for name in packages if name not in sys.modules]
    blocked: dict[str, Any] = dict.fromkeys(hidden)  # None in place of a module makes its import fail
    sys.modules.update(blocked)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


class MnistCLIP(nn.Module):
    """Two towers and the cosine between them.

    Args:
        architecture: a key of ``VISION`` and ``TEXT``.
        data: image size, class names, prompt and templates; the words of all texts form the vocabulary.
    """

    def __init__(self, architecture: str, data: Data) -> None:
        super().__init__()
        with unseen("transformers", "timm"):  # both serve towers that are not used here, and double the import time
            from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        templates = (data.prompt, *(data.templates or TEMPLATES))
        words = {word for text in (*templates, *class_names(data)) for word in text.replace("{}", " ").split()}
        self.vocabulary = {word: index for index, word in enumerate(sorted(words), start=1)}  # 0 is the padding
        self.templates = tuple(dict.fromkeys(templates))
        # The residual tower halves the grid five times, so images are padded to a multiple of 32 pixels, and those of
        # the transformer to whole patches, which open_clip would cut off without a word.
        step = 32 if architecture == "residual" else PATCH
        side = -(-data.image_size // step) * step
        before = (side - data.image_size) // 2
        self.margins = [before, side - data.image_size - before] * 2
        # open_clip pools the text at the largest token id, so the end token must have that id
        self.end = len(self.vocabulary) + 1
        self.model = CLIP(
            EMBEDDING,
            CLIPVisionCfg(image_size=side, **VISION[architecture]),
            CLIPTextCfg(context_length=CONTEXT, vocab_size=self.end + 1, **TEXT[architecture]),
        )

    def tokenize(self, texts: list[str]) -> Tensor:
        """Word ids [C, 8] of ``texts``, each followed by the end token and padded with 0.

        Raises:
            ArtuneError: a word that the network was not trained on, or too many words.
        """
        ids = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
        for row, text in enumerate(texts):
            words = text.split()
            if unknown := [word for word in words if word not in self.vocabulary]:
                raise ArtuneError(f"prompt {text!r}: {unknown[0]!r} is not among the words that this CLIP learnt")
            if len(words) >= CONTEXT:
                raise ArtuneError(f"prompt {text!r}: has {len(words)} words; this CLIP reads {CONTEXT - 1}")
            ids[row, : len(words) + 1] = torch.tensor([*(self.vocabulary[word] for word in words), self.end])
        return ids.to(self.model.logit_scale.device)

    def images(self, pixels: Tensor) -> Tensor:
        """Float pixels [B, 3, H, W] -> unit embeddings [B, E]."""
        return self.model.encode_image(F.pad(pixels, self.margins, value=-1.0), normalize=True)

    def texts(self, ids: Tensor) -> Tensor:
        """Word ids [C, 8] -> unit embeddings [C, E]."""
        return self.model.encode_text(ids, normalize=True)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> unit embeddings [B, E]."""
        return self.images(to_pixels(images).to(self.model.logit_scale.dtype))

    @torch.no_grad()
    def embed_texts(self, texts: list[str] | tuple[str, ...]) -> Tensor:
        """Prompts -> unit embeddings float32 [C, E]. Raises ArtuneError on a word outside the vocabulary."""
        return self.texts(self.tokenize(list(texts)))
