"""Frozen networks behind rewards and metrics.

- build: a network from its settings, with or without weights
- batches: a network over many images
- feature_network: what the metrics ask of a network that gives features
- clip: open_clip's CLIP, and HPSv2
- inception: the TensorFlow Inception network of the FID, by torch-fidelity
- inception_torchvision: torchvision's Inception v3
- maniqa: MANIQA
- maniqa_layers: its attention blocks
- dinov2: DINOv2
- mnist: classifiers and the quality network of the mnist scale
- mnist_clip: CLIP and preference networks of the mnist scale
"""
