"""Reading and writing weights.

- checkpoints: loading a file into a module, and saving a module
- tensor_files: reading the tensors of safetensors and torch files, in the layouts of all released files
- pickles: reading a pickle without running any code that it names
- torchscript: reading OpenAI's CLIP archives
"""
