"""Weights in and out.

- checkpoints: loading a file into a module, and saving a module
- tensor_files: tensors of safetensors and torch files, in every layout that others release
- pickles: reading a pickle without running code that it names
- torchscript: reading OpenAI's CLIP archives
"""
