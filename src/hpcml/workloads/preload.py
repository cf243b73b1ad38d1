"""Imports that all workers of a job share, made once by the process that forks the workers.

scikit-learn takes more than a second to import, and workers forked afterwards share its pages.
"""

import os

import distributed.nanny  # noqa: F401
import numpy as np

import hpcml.workloads.search.search  # noqa: F401

# NumPy seeds its global generator on import, so all workers of a job would draw the same numbers.
os.register_at_fork(after_in_child=np.random.seed)
