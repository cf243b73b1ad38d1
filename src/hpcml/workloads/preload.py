"""What every worker of a job needs, imported once by the process that they are forked from.

scikit-learn takes more than a second to import, and its pages are shared by the workers that are forked afterwards.
"""

import os

import distributed.nanny  # noqa: F401
import numpy as np

import hpcml.workloads.search  # noqa: F401

# NumPy's global generator is seeded when it is imported: all workers of a job would draw the same numbers.
os.register_at_fork(after_in_child=np.random.seed)
