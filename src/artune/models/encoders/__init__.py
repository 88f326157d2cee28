"""Frozen networks behind rewards and metrics.

- build: a network from its settings, with or without weights
- feature_network: the interface of a network whose features the metrics compare, and applying it in batches
- clip: open_clip's CLIP, and HPSv2
- inception: torch-fidelity's port of the TensorFlow Inception network of the FID
- inception_features: its features, for programs outside this project
- inception_torchvision: torchvision's Inception v3
- maniqa: MANIQA
- maniqa_layers: attention layers of MANIQA
- dinov2: DINOv2
- efficientnet: a classifier of ImageNet out of an optional package
- mnist: classifiers and the quality network of the embedded scales
- mnist_clip: CLIP and preference networks of the embedded scales
"""
