"""Rewards of samples, which need no policy and no tokenizer.

- reward: the interface of a reward, and a run's instance-level rewards
- clip: CLIP score
- hps: HPSv2 score
- maniqa: MANIQA's quality score
- loo_fid: the leave-one-out FID reward
- running_loo_fid: that reward with its moving average, for any loop and any number of processes
- moments: moments of generated and real features
- distribution: the LOO-FID reward with its network and running moments
"""
