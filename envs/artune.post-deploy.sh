#!/bin/sh
# Snakemake runs this script in the new conda environment, with the repository's root as working directory. The packages are
# not listed under `pip` in the YAML file, because Snakemake creates the environment from a copy of that file in another folder,
# where the path of a requirements file does not resolve.
set -e
pip="python -m pip install --quiet --disable-pip-version-check"
$pip --require-hashes -r envs/build.txt
$pip --require-hashes --no-deps --no-build-isolation -r envs/requirements.txt
$pip --no-deps --no-build-isolation -e .
