"""The suite for the first minutes on a GPU: ``artune bench suite``, eight parts with random weights at full size.

- parts: the list of the parts with their time limits, and what a part is given
- supervise: runs the parts in order in one process and starts another after a crash or a hang
- worker: the process that runs the parts
- report: suite.json and suite.md
- kernels: attention kernels that PyTorch takes, and those that it could take
- decoder: recording of the decoding steps and their agreement with the plain path
- generation: steady drawing of tokens, with and without CUDA graphs
- iteration: iterations of LlamaGen-L, their memory beside the plan, copies and saved states
- layouts: decoding of images in two number formats and two layouts of memory
- memory: iterations on smaller cards, which a ballast tensor makes of a larger one
- processes: NCCL in a world of one, a recording after it, a saved state that goes on
- samples: chunks of samples with their features
"""
