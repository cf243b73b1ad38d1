"""The user's config directories, which Hydra searches after hpcml's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hpcml.config.flags import starting_again
from hpcml.errors import ConfigError


def user_directories(flags: Any) -> list[Path]:
    """Return the user's config directories: from ``--config-dir`` and ``$HPCML_CONFIG_DIR``.

    Raises
    ------
    ConfigError
        If a directory does not exist.
    """
    named = {"--config-dir ": flags.config_dir, "HPCML_CONFIG_DIR=": os.environ.get("HPCML_CONFIG_DIR")}
    found = []
    for how, directory in named.items():
        if not directory:
            continue
        if not Path(directory).is_dir():
            raise ConfigError(f"{how}{directory}: no such directory")
        found.append(Path(directory).absolute())
    return found


def reject_hidden(flags: Any, choices: Mapping[str, str | None]) -> None:
    """Reject a user's file that Hydra ignores because hpcml has one of the same name.

    Raises
    ------
    ConfigError
    """
    own = resources.files("hpcml.conf")
    for directory in user_directories(flags):
        if (directory / "config.yaml").is_file():
            raise ConfigError(
                f"{directory}/config.yaml would not be read: hpcml's own config is the root of every run",
                *starting_again(directory),
                "your own options are DIR/GROUP/OPTION.yaml, for example DIR/experiment/mine.yaml",
            )
        for group, option in choices.items():
            file = f"{group}/{option}.yaml"
            if (directory / file).is_file() and own.joinpath(file).is_file():
                raise ConfigError(
                    f"{directory}/{file}: hpcml has a {group}={option} of its own", "give yours another name"
                )


def with_directories(flags: Any, overrides: Sequence[str]) -> list[str]:
    """Add the user's config directories in front of those of a search path override."""
    own = [f'"file://{directory}"' for directory in user_directories(flags)]
    if not own:
        return list(overrides)
    given = next((text for text in overrides if text.startswith("hydra.searchpath=[")), "hydra.searchpath=[]")
    items = [*own, *filter(None, [given.partition("=")[2][1:-1]])]
    return [*(text for text in overrides if text != given), f"hydra.searchpath=[{','.join(items)}]"]
