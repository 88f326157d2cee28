# Snakemake's records of the results lie inside results/, so that a folder that is moved or copied stays up to date. Only the
# Snakemake that a user calls keeps them, not the one inside a SLURM job.
from artune.planning.calls.records import Records

RECORDS = Records()
if workflow.is_main_process:
    RECORDS.attach()
    if not workflow.dryrun:
        RECORDS.remember(late=False)


onstart:  # Snakemake keeps one such block, so this one also writes the settings that the jobs read
    if SNAPSHOT:
        SNAPSHOT.write()
    RECORDS.begin()


onsuccess:
    RECORDS.remember()


onerror:
    RECORDS.remember()
