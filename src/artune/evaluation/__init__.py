"""Samples of a run and their scores.

- samples: drawing the images for the scores of a run
- real_samples: real images in place of samples
- features: features of images under the frozen networks
- scores: every score of a run
- evaluate: the command that writes them to scores.json
- left_out: the scores without each sample, for paired errors
- other_networks: the same scores by the rewards' own networks, and by a judge that nobody here trained
- compare: differences of two runs with paired errors
- protocol: the settings that two evaluations must share to be compared
- official_graph: features of TensorFlow's original Inception graph
- official_scores: the official evaluator's arithmetic in NumPy
"""
