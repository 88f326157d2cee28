"""Before anything runs. Never imports torch.

- sources: what inputs, policies, samples and references are made from
- plan: which file needs which: the inputs of every rule
- needs: which rule needs which file from outside
- floors: bytes and FLOPs that a stage cannot do without
- costs: seconds per stage beside the paper's
- gpu_hours: GPU hours of a training and of an evaluation
- budget: GPU hours of a target
- slurm: what a SLURM cluster offers and a profile asks for
- doctor: what is wrong with a machine, a cluster or its files
"""
