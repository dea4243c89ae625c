#!/usr/bin/env bash
# Run by Snakemake in a conda environment it has just made from rdp.yaml, from the folder of the Snakefile.
set -euo pipefail
python -m pip install --require-hashes --requirement envs/requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
