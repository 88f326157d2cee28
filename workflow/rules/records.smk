# Snakemake's records of the results lie inside results/, so that a folder that is moved or copied stays up to date. Only the
# Snakemake that a user calls keeps them, not the one inside a SLURM job.
from artune.planning.records import Records

RECORDS = Records()
if workflow.is_main_process:
    RECORDS.attach()
    if not workflow.dryrun:
        RECORDS.remember()


onstart:
    RECORDS.begin()


onsuccess:
    RECORDS.remember()


onerror:
    RECORDS.remember()
