"""A composed config, and the objects built from it."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hpcml import targets
from hpcml.config.translation import OPEN_GROUPS, check_closed, check_objects
from hpcml.errors import ConfigError, DataError, HpcmlError
from hpcml.spec import RunSpec
from hpcml.upstream import hydra as upstream


@dataclass(frozen=True)
class Composed:
    """A composed config: resolved, in plain containers."""

    config: dict[str, Any]
    overrides: list[str]
    choices: dict[str, str | None]
    closed: dict[str, Any] = field(repr=False)

    def build(self) -> RunSpec:
        """Check every ``_target_``, then build the objects.

        Raises
        ------
        ConfigError
            If a value is out of range, or a class cannot be imported or does not take its
            parameters.
        """
        check_closed(self.config, [field.name for field in fields(RunSpec)], "")
        self._check_file()
        values = dict(self.config)
        for group, node in self.closed.items():
            values[group] = OmegaConf.to_object(node)
            check_objects(values[group], group)
        for group in OPEN_GROUPS:
            targets.check(self.config[group], group)
        for group in OPEN_GROUPS:
            # Data is built when it is loaded, since by then a log exists for messages of a user's
            # loader.
            values[group] = _instantiate(self.config[group], group, partial=group == "data")
        targets.check(self.config["preprocess"], "preprocess")
        values["preprocess"] = _instantiate(self.config["preprocess"], "preprocess", partial=False)
        if values["model"] is not None:
            from hpcml.models import set_seed  # Imports scikit-learn.

            set_seed(values["model"], values["seed"])
        return RunSpec(**values)

    def _check_file(self) -> None:
        """Reject a missing data file before any slow import, unless a site is given.

        A site may be another machine.

        Raises
        ------
        DataError
            If the file does not exist.
        """
        data = self.config["data"]
        if self.config["site"] is not None or not isinstance(data, Mapping):
            return
        if not str(data.get("_target_", "")).startswith("hpcml.data."):
            return
        value = data.get("path")
        paths = value if isinstance(value, list) else [value]
        for path in paths:
            # The loader matches patterns.
            if isinstance(path, str) and not glob.has_magic(path) and not Path(path).expanduser().exists():
                raise DataError(f"{path}: cannot be read: No such file or directory")


def _instantiate(node: Any, key: str, partial: bool) -> Any:
    if not isinstance(node, Mapping):
        return node
    try:
        return upstream.instantiate({**node, "_partial_": True} if partial else node)
    except Exception as error:
        cause: BaseException | None = error
        # Hydra wraps the errors that a constructor raises.
        while cause is not None:
            if isinstance(cause, HpcmlError):
                raise cause from None
            last, cause = cause, cause.__cause__
        raise ConfigError(f"{key}: {node['_target_']} could not be built: {type(last).__name__}: {last}") from error
