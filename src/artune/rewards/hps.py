"""HPSv2 reward: a CLIP tuned on human preferences (paper, Sec. 3.2)."""

from artune.rewards.clip import ClipReward


class HPSReward(ClipReward):
    """HPSv2's score is the raw cosine of its own towers, without the logit scale (about 0.2-0.3 at full size)."""

    name = "hps"


REWARD = HPSReward
