"""Services that every command uses.

- files: writing whole files or none
- outside: opening files from elsewhere: regular files only, zip archives, arrays
- places: where an output may be written, and what a file system may refuse
- lease: one writer per folder
- fence: keeps a process that lost its lease from writing
- resume: saved states of a training, and kept outputs of a finished one
- chunks: saves finished pieces of long work
- processes: what torchrun tells a process, and what a signal asks of it
- distributed: several processes that share a batch
- seeds: random generators derived from names
- progress: lines that tell a user how far the work is
- clock: seconds per stage of an iteration
- plotting: one look for all figures, the same bytes on every run
"""
