"""Every network, under the parameter names of its official file.

- policies: autoregressive transformers over image tokens
- tokenizers: images to tokens and back
- encoders: frozen networks behind rewards and metrics
- precision: the type of what a network returns
- weights: reading and writing checkpoints in every layout
"""
