"""Samples of a run and their scores.

- samples: drawing the images that a run is scored on
- real_samples: real images in the place of samples
- features: features of images under the frozen networks
- scores: every score of a run
- compare: differences of two runs with paired errors
- protocol: what two evaluations must share to be compared
- official_graph: the features of TensorFlow's own Inception graph
- official_scores: the official evaluator's arithmetic in NumPy
"""
