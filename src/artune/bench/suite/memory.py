"""One iteration on cards of 80 and 40 GB, which a ballast tensor makes of a larger one: slices, and that it fits."""

import gc

import torch

from artune.bench.random_weights import random_trainer
from artune.bench.suite.iteration import GB, iterate
from artune.bench.suite.parts import BACKBONE, SHARE, Row, Suite
from artune.bench.suite.worker import LeftOutError
from artune.errors import ArtuneError

CONTEXT = 1.5  # GB by which the free memory of a card lies below its name: 79.2 GB of 80, and CUDA's own
CARDS = {80: ("llamagen_xl", "vqgan"), 40: (BACKBONE, "llamagen_xl")}  # GB -> backbones that such a card serves


def run(suite: Suite) -> None:
    """Note slices and memory of each backbone on each card.

    Raises:
        ArtuneError: an iteration did not fit.
        LeftOutError: this card is smaller than all of them.
    """
    total = torch.cuda.mem_get_info(suite.device)[1] / GB if not suite.small else None
    lacking = []
    for card, backbones in CARDS.items():
        for backbone in backbones:
            head: Row = {"card GB": None if suite.small else card, "backbone": backbone}
            if total is not None and total < card - 2:  # a card of 80 GB has 79
                suite.note({"case": "left out", **head, "reason": f"this card has {total:.0f} GB"})
            elif reason := fits(suite, card, head):
                lacking.append(f"{backbone} on {card} GB: {reason}")
                suite.note({"case": "does not fit", **head, "reason": reason})
    if lacking:
        raise ArtuneError("; ".join(lacking))
    if all(row["case"] == "left out" for row in suite.rows):
        raise LeftOutError(f"this card has {total:.0f} GB")


def fits(suite: Suite, card: int, head: Row) -> str:
    """Note one iteration behind the ballast; returns why there is none, an empty string if there is.

    Args:
        suite: notes the row.
        card: GB that the ballast leaves.
        head: first cells of the row, with the backbone.
    """
    ballast = hold_all_but(card, suite.device)
    try:
        request = suite.request(head["backbone"], SHARE, repeats=1)
        lines, memory = iterate(suite, request, random_trainer(request.run, suite.device))
        held = ballast.numel() / GB
        less = {key: memory[key] - held for key in ("allocated between iterations GB", "peak GB", "reserved GB")
                if memory[key] is not None}  # fmt: skip
        rest = {key: value for key, value in memory.items() if key != "case"}
        suite.note({"case": "fits", **head, "iteration s": lines[0]["time/iteration"], **rest, **less})
    except (torch.OutOfMemoryError, ArtuneError) as error:
        return " ".join(str(error).split(". ")[0].split())
    finally:
        del ballast
        gc.collect()
        if not suite.small:
            torch.cuda.empty_cache()
    return ""


def hold_all_but(card: int, device: torch.device) -> torch.Tensor:
    """A tensor that leaves as much free memory as a card of ``card`` GB has; an empty one on a CPU."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    return torch.empty(max(int(free - (card - CONTEXT) * GB), 0), dtype=torch.uint8, device=device)
