"""Image tokenizers: images to tokens of a codebook and back.

- build: a tokenizer from its settings, with or without weights
- conv_blocks: the convolutional blocks of both families
- conv_tokenizer: encoder, codebook and decoder that both families share
- vq: VQ-16 of LlamaGen
- vqgan: VQGAN of taming-transformers
"""
