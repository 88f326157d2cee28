"""Scores of image files of any origin: the command ``score``. Features and scores come from ``evaluation``.

- options: the options of the command
- image_sets: images of an npz, a folder or a tar, with their labels and captions
- statistics: the reference: images, features, or saved moments in the layouts of other programs
- weights: weight files of the frozen networks
- cache: features kept beside the images
- checks: traps that are refused or said
- few: scores of so few images that some are left out
- request: the question, what is opened for it, and the answer
- score: from files to scores
- report: the table, JSON and CSV of the scores
- tracking: the scores in MLflow
"""
