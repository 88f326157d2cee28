"""Inputs of a run, trained here or imported from released files.

- fit: the supervised training loop of tokenizers, priors and frozen networks
- tokenizer: training a tokenizer
- token_codes: token codes of a data set
- prior: pre-training a policy
- likelihood: the loss of pre-training and of its continuation
- networks: training the frozen networks
- augment: distortions of images with which the frozen networks are trained
- references: moments and features of real images
- training_moments: moments of the training images, as a whole and per class
- released: importing released tokenizers, policies and networks
"""
