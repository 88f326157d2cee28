"""Every network, under the parameter names of its official file.

- policies: autoregressive transformers over image tokens
- tokenizers: images to tokens and back
- encoders: frozen networks behind rewards and metrics
- weights: reading and writing checkpoints in every layout
"""
