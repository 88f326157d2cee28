"""Memory of a tuning on a GPU, before it is started. Never imports torch.

- standing: what a tuning holds beside its update, and the slices of the update in what is left
- cards: which card a backbone needs, for the commands doctor and plan
"""
