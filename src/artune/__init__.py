"""artune: policy-based tuning of autoregressive image models (GRPO with instance- and distribution-level rewards)."""

__version__ = "0.1.0"
RESULTS_VERSION = 3  # raised by every change that moves a number; recorded in each scores file
