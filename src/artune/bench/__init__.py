"""Seconds and checks on random weights: ``artune bench`` and ``artune selfcheck``.

- run: the targets of ``artune bench``
- measure: what a benchmark is asked, how it measures, the row it makes
- loo_fid: time and error of the LOO-FID reward
- rollout: drawing tokens
- stages: rewards, update and sampling, each alone
- iteration: one GRPO iteration, stage by stage
- selfcheck: every network of the paper at full size
- random_weights: policies, tokenizers, networks and trainers with random weights
"""
