"""One call of Snakemake: what its jobs work by, what it leaves to the next, what Snakemake lacks.

Never imports torch.

- clone: whether Snakemake can work in the folder that the repository lies in
- snapshot: the settings of the call, which its jobs read
- records: Snakemake's records and the times of files, which a copied results folder keeps
- snakemake_lock: a lock with a name on it, and one Snakemake at a time per results folder
- cluster_executor: the executor of jobs on a SLURM cluster without endless waits
"""
