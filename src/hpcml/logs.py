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

    handler = _File(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own, root = logging.getLogger("hpcml"), logging.getLogger()
    loggers = [root, own, *map(logging.getLogger, _CHATTY)]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    own.setLevel(logging.INFO)
    root.addHandler(handler)
    for logger in loggers[1:]:
        # not passed on: a caller who has set up logging on the root wants the run's own lines there no more than Dask's
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
    """A log file on a disk that may be full: that is told once, by what fails for it, and not line by line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's own name)
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
