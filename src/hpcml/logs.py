"""Redirect logs of hpcml, Dask and other libraries to the run's log file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

# distributed attaches handlers for stderr to these loggers (distributed.config, on import).
_CHATTY = ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application")


@contextlib.contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Redirect all logging and warnings to a file, and restore the previous configuration."""
    import distributed.config  # noqa: F401  # A later import would replace the handlers set below.

    handler = _File(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own, root = logging.getLogger("hpcml"), logging.getLogger()
    loggers = [root, own, *map(logging.getLogger, _CHATTY)]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    own.setLevel(logging.INFO)
    root.addHandler(handler)
    for logger in loggers[1:]:
        # Do not propagate: a caller's root handler should get neither the run's lines nor Dask's.
        logger.handlers, logger.propagate = [handler], False
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate, logger.level = handlers, propagate, level
        handler.close()


class _File(logging.FileHandler):
    """A log file that ignores write errors, which the failing operation itself reports."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # defined by logging
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
