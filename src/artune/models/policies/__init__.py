"""Policies: autoregressive transformers over image tokens, conditioned on a class.

- policy: what sampling and training ask of a policy
- build: a policy from a backbone's settings
- llamagen: LlamaGen B, L, XL
- vqgan_gpt: the transformer of taming-transformers
- cache: keys and values of cached decoding
- checkpoint: reading and writing a policy's weights
- export: a policy as LlamaGen's own sampling script loads it
"""
