"""Parse the command-line flags of Hydra that hpcml supports."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hpcml.errors import ConfigError
from hpcml.upstream import hydra as upstream

_OWN_OPTIONS = "choose options instead: GROUP=OPTION; your own are DIR/GROUP/OPTION.yaml, with --config-dir DIR"


def parse_flags(prog: str, args: Sequence[str]) -> argparse.Namespace:
    """Parse Hydra's flags, which may appear before, between and after the overrides.

    Parameters
    ----------
    prog : str
        The command as typed, such as ``hpcml run``.

    Returns
    -------
    argparse.Namespace
        ``overrides`` and an attribute for each flag.

    Raises
    ------
    ConfigError
        For an unknown flag, or a flag of Hydra's that has no effect here.
    """

    def error(message: str) -> NoReturn:
        raise ConfigError(f"{prog}: {message}", f"{prog} --help lists the options")

    parser = upstream.flag_parser()
    parser.error = error  # type: ignore[method-assign]  # argparse prints and exits
    flags = parser.parse_intermixed_args(list(args))
    _check(flags)
    return flags


def _check(flags: Any) -> None:
    if flags.multirun:
        raise ConfigError(
            "--multirun runs one job after the other and waits for each",
            "use a search workload, or start hpcml once per run in a shell loop",
        )
    if flags.run:
        raise ConfigError("--run has no effect", "leave it out")
    if flags.experimental_rerun is not None:
        raise ConfigError(
            f"--experimental-rerun {flags.experimental_rerun}: hpcml does not start runs from a saved config",
            *starting_again(Path(flags.experimental_rerun).parent),
        )
    for name in ("name", "path"):
        value = getattr(flags, f"config_{name}")
        if value is not None:
            directory = Path(flags.config_dir or ".")
            raise ConfigError(
                f"--config-{name} {value}: hpcml's own config is the root of every run",
                *(starting_again(directory) or [_OWN_OPTIONS]),
            )


def starting_again(directory: Path) -> list[str]:
    """Return the hint to repeat the run of a run directory; empty for another directory.

    >>> starting_again(Path("/no/such/directory"))
    []
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        command = shlex.join(["hpcml", "run", *manifest["overrides"]])
        return [f"to start run {manifest['run']} again: {command}"]
    return []
