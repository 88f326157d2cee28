"""Timings and checks with random weights: ``artune bench`` and ``artune selfcheck``.

- options: its options on the command line
- run: the targets of ``artune bench``
- measure: arguments, measurements and result rows of a benchmark
- loo_fid: time and error of the LOO-FID reward
- rollout: time of drawing tokens
- stages: time of rewards, update and sampling, each alone
- iteration: time of one GRPO iteration, stage by stage
- selfcheck: a check of every network of the paper at full size
- random_weights: policies, tokenizers, networks and trainers with random weights
- suite: the parts that are run first where a GPU is at hand
"""
