#!/bin/sh
# Snakemake runs this in the new conda environment, from the repository's root. It copies the YAML away before it makes the
# environment, so that a YAML cannot name files beside it.
set -e
python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements.txt
python -m pip install --quiet --disable-pip-version-check --no-deps -e .
