# shellcheck shell=bash
# The environment of hpcml's jobs: the only place for modules and virtual environments. Copy this file to the directory
# from which you submit, and edit it there. head.pbs reads it before anything else, and so do the worker jobs.

# module load python3/3.12.1
# source /g/data/ab12/venvs/hpcml/bin/activate
