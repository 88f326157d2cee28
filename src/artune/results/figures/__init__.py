"""Figures, as PDF and PNG.

- draw: drawing any figure, by its kind
- method: Figure 1, the method
- over_optimisation: reward against the judges' scores over a training
- samples: sample images of the pretrained and the tuned policy
- toy: Figure 5, LOO-FID on a toy problem
- training_dynamics: Figure 2, curves of a training
"""
