"""What ``config/*.yaml`` says: the type of ``config/X.yaml`` is in ``config/X.py``. Never imports torch.

- fields: the frozen base of every type, and ranges of numbers
- yaml_layers: reading, validating, merging and flattening YAML
- settings: what a user sets, what a scale says of itself, files from outside
- run: a run's settings: data, tokenizer, backbone, networks, sampling, evaluation
- sizes: sizes that follow from a policy's and a tokenizer's settings
- methods: how a policy is tuned: GRPO, likelihood continuation, VA-pi, entropy bonus, rewards
- glossary: every number that is logged or scored
- tables: tables and figures
- study: the human study
- claims: the paper's claims
- registry: from a run's name to its settings
- paper: which runs the paper's tables need, and what they say of a run
"""
