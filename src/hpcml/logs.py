"""The run's log file: everything that hpcml, Dask and other libraries say goes there, and not to the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

# distributed gives these a handler of their own that writes to stderr (distributed.config, on import).
_CHATTY = ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application")


@contextlib.contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Send all logging and all warnings to a file; leave everything as it was afterwards."""
    import distributed.config  # noqa: F401  (it installs its handlers on import; later than here it would undo this)

    root = logging.getLogger()
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    chatty = [logging.getLogger(name) for name in _CHATTY]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in chatty]
    level = root.level
    for logger in chatty:
        logger.handlers, logger.propagate = [], True
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
