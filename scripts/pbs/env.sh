# shellcheck shell=bash
# The environment of hpcml's PBS jobs. Copy it to the directory that you submit from, and edit it there: head.pbs reads it
# before anything else, and it is the one place for modules and virtual environments.

# module load python3/3.12.1
# source /g/data/ab12/venvs/hpcml/bin/activate
