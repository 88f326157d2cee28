"""One call of Snakemake: what its jobs work by, what it leaves for the next call, and what it does better than released.

- snapshot: the settings of the call, which its jobs read
- records: Snakemake's records and the times of files, which a copied results folder keeps
- snakemake_lock: a lock with a name on it, and one Snakemake at a time per results folder
- slurm_executor: the executor of SLURM jobs without endless waits
"""
