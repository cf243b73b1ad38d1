"""Wrap private parts of Python's multiprocessing."""

from __future__ import annotations

import multiprocessing


def importing_main() -> bool:
    """Return whether this process is a spawned child that imports its parent's script.

    Needed by ``hpcml.launcher``: a script without ``if __name__ == "__main__":`` would start a run
    in every worker. Public API missing: ``multiprocessing.parent_process()`` is set only after the
    import. Multiprocessing's own check, ``spawn._check_not_importing_main``, reads the same
    attribute. Verified with Python 3.11 to 3.13.
    """
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))
