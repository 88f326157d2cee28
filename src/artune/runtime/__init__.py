"""What every command rests on.

- files: writing whole files or none
- lease: one writer per folder
- fence: what a process may still write after it lost its lease
- resume: saved states, and finished outputs that are given back
- chunks: finished pieces of long work
- processes: what torchrun tells a process, and what a signal asks of it
- distributed: several processes that share a batch
- seeds: random generators derived from names
- progress: what a user is told while work goes on
- clock: seconds per stage of an iteration
- plotting: one look for all figures, the same bytes on every run
"""
