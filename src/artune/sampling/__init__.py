"""Drawing tokens and images from a policy.

- generate: classifier-free guidance, temperature, top-k, top-p
- forced: the logits of decoding along given tokens
- cached_decoding: the fastest decoder of a device, kept between calls
- decoders: plain and recorded decoding, step by step
- self_check: whether recorded decoding gives the logits of the plain one
- device_memory: what is free on a GPU beside the graphs' private pools
- replica: copies of a policy that only decode
- rollout: class prompts, tokens and images of an iteration
- batch: the samples that a rollout hands to the rewards
- grids: pictures of samples
"""
