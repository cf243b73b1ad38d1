"""Run the command line: find the verb, print errors, and return the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from hpcml import __version__, display, interrupt
from hpcml.errors import Cancelled, ConfigError, HpcmlError, Interrupted, nearest
from hpcml.verbs import VERBS, keys


def entry_point() -> None:
    """Run the command line and exit."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run a command line.

    Returns
    -------
    int
        0 if done, 1 if failed, 2 for an invalid request, 75 if interrupted, 128 + signal if
        cancelled.
    """
    if len(argv) > 1 and argv[0] == "help":
        argv = [argv[1], "--help"]
    information = _information(argv)
    if information is not None:
        print(information)
        return 0 if argv else 2
    name, *args = argv
    # For the user's own modules. Last, so that a file called numpy.py cannot shadow a dependency.
    sys.path.append(str(Path.cwd()))
    try:
        with interrupt.installed():
            return _run_verb(name, args)
    except Cancelled as cancelled:
        print(_cancellation(cancelled), file=sys.stderr)
        return cancelled.exit_code
    except HpcmlError as error:
        display.show_error(display.console(stderr=True), error)
        return error.exit_code
    except BrokenPipeError:  # `hpcml list --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        display.show_error(display.console(stderr=True), _unexpected(error))
        return 1


def _information(argv: Sequence[str]) -> str | None:
    """Return usage or version if requested; None if a verb is to be run."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        return _usage()
    if {"--version", "-V"} & set(argv):
        return f"hpcml {__version__}"
    return None


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: hpcml VERB [OVERRIDES or options]\n\n"
        "Runs scikit-learn jobs on a laptop or a PBS supercomputer and collects the results.\n\n"
        f"{lines}\n\n"
        "For details: hpcml VERB --help. Overrides are GROUP=OPTION, KEY=VALUE or, for a new key, +KEY=VALUE"
    )


def _run_verb(name: str, args: list[str]) -> int:
    """Run a verb, or explain the keys that its ``--help`` names; return the exit code."""
    if name not in VERBS:
        raise ConfigError(f"hpcml {name}: no such verb", nearest(name, VERBS))
    if name not in {"clean", "completion"}:
        _report_orphans()
    named = _help_for_keys(args) if VERBS[name].composes else []
    return max(keys([word]) for word in named) if named else VERBS[name].main(args)


def _help_for_keys(args: list[str]) -> list[str]:
    """Return the keys in `hpcml run --help KEY...`."""
    if not {"--help", "-h"} & set(args):
        return []
    return [word for word in args if "=" not in word and not word.startswith(("-", "~", "+"))]


def _report_orphans() -> None:
    """Print a note about jobs that killed heads may have left; does not query a scheduler."""
    from hpcml import orphans

    # A missing scratch directory must not keep the requested verb from running.
    with contextlib.suppress(OSError, HpcmlError):
        for orphan in orphans.find():
            print(f"note: {orphan}: hpcml clean", file=sys.stderr)


def _cancellation(cancelled: Cancelled) -> str:
    where = f"; log: {cancelled.log}" if cancelled.log else ""
    if isinstance(cancelled, Interrupted):
        return f"stopped before the walltime ended; finished work is saved{where}"
    left = "nothing is left running"
    if cancelled.left:
        left = f"still in the queue: {' '.join(cancelled.left)}; hpcml clean deletes them"
    return f"cancelled by {cancelled}; {left}{where}"


def _unexpected(error: Exception) -> HpcmlError:
    """Convert an unexpected exception to an error message, with the traceback in a file."""
    with tempfile.NamedTemporaryFile("w", prefix="hpcml-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return HpcmlError(
        f"internal error: {type(error).__name__}: {error}",
        f"please report it with the traceback in {file.name}",
    )
