"""One call of Snakemake: what its jobs work by, and what it leaves for the next call. Never imports torch.

- snapshot: the settings of the call, which its jobs read
- records: Snakemake's records and the times of files, which a copied results folder keeps
"""
