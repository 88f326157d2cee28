"""The paper's method, its rivals, and the loop that runs any of them.

- grpo: advantages, clipped loss, KL penalty (Eq. 1-3)
- entropy: token entropy and the adaptive bonus (Sec. 3.3, App. C)
- objective: the whole loss (Eq. 34)
- micro_batch: slices of a batch that fit into memory
- policy_update: scoring, backward passes and the optimiser's step (Alg. 1, lines 12-37)
- grpo_trainer: one iteration of GRPO (Alg. 1)
- settings: the settings of GRPO for a loop of one's own
- rivals: likelihood continuation (mle, Table 12) and VA-pi (vapi, Table 5)
- saving: the state in host memory, and the thread that writes it
- trainer: the interface between the loop and a method
- loop: runs any trainer from its last saved state to its end
- train: the command: files in, files out
"""
