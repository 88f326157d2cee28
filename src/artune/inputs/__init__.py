"""What a run starts from, trained here or imported from released files.

- fit: the supervised training loop of everything that is trained here
- tokenizer: training a tokenizer
- token_codes: token codes of a data set
- prior: pre-training a policy
- likelihood: the loss of pre-training and of its continuation
- networks: training the frozen networks
- augment: distortions that they are trained with
- references: moments and features of real images
- training_moments: moments of the training images, as a whole and per class
- released: released tokenizers, policies and networks
"""
