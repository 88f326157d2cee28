"""Types and readers of ``config/*.yaml``. Never imports torch.

- fields: the frozen base of every type, ranges of numbers, what the glossary says of a score
- yaml_layers: reading, validating, merging and flattening YAML
- settings: settings of the user, remarks of a scale, external files (assets)
- run: a run's settings: data, tokenizer, backbone, networks, sampling, evaluation
- sizes: weights, pixels and bytes of memory that follow from the settings
- methods: settings of the tuning methods: GRPO, likelihood continuation, VA-pi, entropy bonus, rewards
- glossary: every number that is logged or scored
- tables: tables, figures and the human study
- seeds: the seeds in the names of runs, priors, tokenizers and networks
- claims: the paper's claims
- registry: resolves a run's name into its settings
- paper: which runs the paper's tables need, and a run's rows and values in them
"""
