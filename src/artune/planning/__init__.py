"""Plans, costs and checks before anything runs, and what Snakemake lacks on the way. Never imports torch.

- recipes: the settings that decide each file that trainings start from
- sources: the files from which inputs, policies, samples and references are made
- plan: the inputs of every rule
- layers: which layer sets a value, and which edits have no effect
- needs: which rule needs which external file
- memory: memory of a tuning on a GPU, and which card a backbone needs
- calls: one call of Snakemake, its settings and records
- floors: least bytes and FLOPs of a stage
- costs: seconds per stage beside the paper's
- gpu_hours: GPU hours of a training and of an evaluation
- budget: GPU hours of a target
- timetable: a target hour by hour on a named machine
- slurm: requests of a profile, and whether a SLURM cluster can meet them
- environment: the pinned environments, and which one the driver serves
- doctor: checks of a machine, a cluster and the files
"""
