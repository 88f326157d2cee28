"""The automatic judge of Table 3: a network that no reward used compares the two images of every pair."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artune.config.run import Evaluation
from artune.config.tables import MATCH, VOTES
from artune.data.reading.images import decode
from artune.metrics.realism import realism_score
from artune.results.study.pairs import Item, PairFile
from artune.runtime.files import write_json

HOW = {
    "Realism": "realism score (Kynkäänniemi et al., 2019) among all reference images",
    "Ref. Match": "cosine with the mean embedding of the pair's reference images",
}


@torch.no_grad()
def embed(study: PairFile, names: list[str], network: nn.Module, batch: int, device: torch.device) -> Tensor:
    """Unit embeddings [n, E] of the images called ``names``, on the CPU."""
    parts = []
    for at in range(0, len(names), batch):
        pixels = [np.asarray(decode(f"{study.path}: {name}", study.png(name))) for name in names[at : at + batch]]
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        parts.append(network.embed_images(images.to(device)).float().cpu())
    return torch.cat(parts)


def judge_pairs(
    pairs: Path, name: str, network: nn.Module, evaluation: Evaluation, output: Path, device: torch.device
) -> str:
    """Write the judge's choices: ``rows`` maps setting -> task -> {"ours", "tie", "pretrained"} -> number of pairs.

    For Ref. Match the judge prefers the image whose embedding has the higher cosine with the mean of the five
    references. For Realism it prefers the image with the higher realism score; the real images are all references of
    the study. Equal scores are a tie.
    """
    study = PairFile(pairs)
    items = study.pairs.of_kind("pair")
    real = sorted({reference for item in items for reference in item.references})
    names = sorted({image for item in items for image in item.images.values()} | set(real))
    place = {name: at for at, name in enumerate(names)}
    embedded = embed(study, names, network, evaluation.batch, device)
    realism = realism_score(embedded[[place[name] for name in real]], embedded, evaluation.neighbours)

    def score(item: Item, side: str) -> float:
        at = place[item.images[side]]
        if item.task != MATCH:
            return realism[at].item()
        return (embedded[at] * embedded[[place[reference] for reference in item.references]].mean(0)).sum().item()

    rows: dict[str, dict[str, Counter[str]]] = {}
    for item in items:
        difference = score(item, "ours") - score(item, "pretrained")
        choice = "ours" if difference > 0 else "pretrained" if difference < 0 else "tie"
        rows.setdefault(item.setting, {}).setdefault(item.task, Counter(dict.fromkeys(VOTES, 0)))[choice] += 1
    write_json(output, {"judge": name, "how": HOW, "study": study.digest, "rows": rows})
    return f"{output}: {name} judged {len(items)} pairs"
