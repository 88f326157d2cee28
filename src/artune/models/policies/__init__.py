"""Policies: autoregressive transformers over image tokens, conditioned on a class.

- policy: the interface of a policy to sampling and training
- build: a policy from a backbone's settings
- llamagen: LlamaGen B, L, XL
- vqgan_gpt: the transformer of taming-transformers
- attention: the attention kernels that a GPU takes
- cache: keys and values of cached decoding
- checkpoint: reading and writing a policy's weights
- export: writing a policy in the format of LlamaGen's own sampling script
"""
