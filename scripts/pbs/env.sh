# shellcheck shell=bash
# The environment of hpcml's jobs, and the one place for modules and virtual environments. Copy it to the directory that
# you submit from, and edit it there: head.pbs reads it before anything else, and so do the worker jobs.

# module load python3/3.12.1
# source /g/data/ab12/venvs/hpcml/bin/activate
