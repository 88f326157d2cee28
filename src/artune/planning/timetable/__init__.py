"""A target of the workflow as a dry run, job by job, on a named machine. Never imports torch.

- jobs: the jobs that a target needs if nothing exists yet, as Snakemake would plan them
- machines: GPUs, processors and speeds of a machine, and what each rule takes of it by the profile
- durations: hours of a job, and whether they are counted, measured or assumed
- sizes: bytes of the files that a job leaves, and of those that it removes when it ends
- schedule: when each job runs, and the disk that is in use
- options: its options on the command line
- text: the timetable as lines
"""
