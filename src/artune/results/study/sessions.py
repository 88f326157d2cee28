"""The items that a rater is given next, and their order: a pure, seeded function, the same on every machine."""

import random
from collections.abc import Mapping, Set

from artune.config.tables import TASKS
from artune.results.study.pairs import Item, Pairs


def next_session(
    pairs: Pairs, rater: int, given: Set[str], votes: Mapping[str, int], shown: Mapping[str, int]
) -> list[Item]:
    """A session of at most ``pairs.session`` pairs, one task after the other, with one attention check per block.

    Pairs that every rater sees are chosen first, then pairs with the fewest votes, then pairs that were given to the
    fewest raters; ties are broken at random, with the study's seed and the rater's number. The task that comes first
    alternates from rater to rater.

    Args:
        pairs: pairs of the study.
        rater: number of the rater.
        given: ids of the items that the rater was given before.
        votes: item id -> votes so far.
        shown: item id -> raters that were given it.
    """
    draw = random.Random(f"{pairs.seed}/{rater}/{len(given)}")
    fresh = [item for item in pairs.items if item.id not in given]
    draw.shuffle(fresh)
    candidates = [item for item in fresh if item.kind == "pair"]
    candidates.sort(key=lambda item: (not item.shared, votes.get(item.id, 0), shown.get(item.id, 0)))
    chosen = candidates[: pairs.session]
    draw.shuffle(chosen)
    order: list[Item] = []
    for task in TASKS if rater % 2 == 0 else TASKS[::-1]:
        own = [item for item in chosen if item.task == task]
        checks = [item for item in fresh if item.kind == "check" and item.task == task]
        for at in range(0, len(own), pairs.check_every):
            block = own[at : at + pairs.check_every]
            if checks and 2 * len(block) > pairs.check_every:
                block.insert(draw.randrange(len(block) + 1), checks.pop())
            order += block
    return order


def left_side(item: Item, rater: int) -> str:
    """The side shown on the left: as drawn for raters of even number, the other side for the others."""
    return item.left if rater % 2 == 0 else item.right()
