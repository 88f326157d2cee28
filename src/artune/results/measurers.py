"""Who measures a score at a scale: the reward's own network, as in the paper, and judges that no reward used."""

from dataclasses import dataclass

from artune.config.glossary import COLUMNS, ROLES, SCORES
from artune.config.run import Evaluation
from artune.results.verdicts import BOTH, FURTHER, JUDGES, REWARD


@dataclass(frozen=True)
class Measurer:
    """One way to measure a quantity of the paper."""

    by: str  # REWARD, JUDGES, BOTH or FURTHER
    score: str  # name in scores.json
    network: str = ""  # its name in config/networks.yaml
    reason: str = ""  # why the score cannot be measured this way at the scale


def measurers(metric: str, evaluation: Evaluation) -> list[Measurer]:
    """The ways to measure what ``metric`` measures in the paper, whose metrics use the networks of its rewards.

    Where the scale's evaluation has a network of its own, the score by this judge decides, and those by further judges
    stand beside it. Where it has the reward's, as the paper does, all further judges decide together.

    Args:
        metric: a score that a claim names.
        evaluation: the protocol of the scale.
    """
    score, networks = SCORES[metric], evaluation.networks
    if score.role not in ROLES:
        return [Measurer(BOTH, metric)]
    judge, reward = networks[score.role], networks[ROLES[score.role][0]]
    others = [(name, networks[SCORES[name].role]) for name in score.others if SCORES[name].role in networks]
    if judge != reward:
        own = [Measurer(REWARD, f"{metric}_reward", reward), Measurer(JUDGES, metric, judge)]
        return own + [Measurer(FURTHER, name, network) for name, network in others]
    deciding = [Measurer(JUDGES, name, network) for name, network in others]
    nobody = f"at this scale nobody but the reward's own network measures {COLUMNS[metric].heading}"
    return [Measurer(REWARD, metric, reward), *(deciding or [Measurer(JUDGES, metric, reason=nobody)])]
