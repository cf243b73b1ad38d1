"""Wrap private parts of Hydra and OmegaConf, and differences between their versions."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
import hydra.utils
from hydra import initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

VERIFIED = "1.3.8"

# Hydra 1.4 has one version base only, and setting it will be an error in 1.5.
_VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


# Private and undocumented interfaces.


def flag_parser() -> argparse.ArgumentParser:
    """Return the parser of Hydra's own command line.

    Needed by ``config.flags``, which accepts Hydra's flags beside the overrides. Public API
    missing: only ``hydra.main`` parses flags, and it composes the config at once.
    """
    return get_args_parser()


def raw_node(config: DictConfig, key: Any) -> Any:
    """Return the node of a key that exists, whatever its value.

    Needed by ``config.compose``, ``config.translation`` and ``config.presets``, which look at
    configs that may be incomplete. Public API missing: ``config[key]`` raises for ``???`` and
    resolves interpolations.
    """
    return config._get_node(key)


def parse_override(text: str) -> Override:
    """Parse one override with Hydra's grammar.

    Needed by ``config.presets``, which quotes values that the grammar cannot parse. Public API
    missing: the documentation describes the grammar, not the parser.

    Raises
    ------
    HydraException
        If it cannot be parsed.
    """
    return OverridesParser.create().parse_override(text)


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Parse overrides with Hydra's grammar; see :func:`parse_override`."""
    return OverridesParser.create().parse_overrides(list(texts))


def config_file(name: str) -> Any:
    """Return a config as written in its file, with its defaults list; None without such a file.

    Needed by ``config.presets``: composing a preset takes longer than reading it. Public API
    missing: ``hydra.compose`` is the only way to a config on Hydra's search path. Call this while
    Hydra is initialized.

    Parameters
    ----------
    name : str
        ``GROUP/OPTION``.
    """
    sources = GlobalHydra.instance().config_loader().get_sources()
    return next((source.load_config(name).config for source in sources if source.is_config(name)), None)


# Parsed from messages, since the exceptions of Hydra and OmegaConf have no attributes for this.


@dataclass(frozen=True)
class FileError:
    """An error in a YAML file.

    Parameters
    ----------
    file : str
        The name of the file without its suffix.
    schema : str
        The name of the dataclass that types the erroneous node; empty if there is none.
    unknown_key : bool
        Whether the key is missing from the schema.
    """

    file: str
    reason: str
    key: str
    schema: str
    unknown_key: bool


def file_error(error: BaseException) -> FileError | None:
    """Return the position of an error in a YAML file; None if it is not in a file.

    Needed by ``config.translation``. Public API missing: the exception's cause has the key, but not
    the file.
    """
    where = r"^In '(.+?)': \w+ raised while composing config:\n(.+)\n\s+full_key: (\S+)(?:[^$]*object_type=(\w+))?"
    found = re.search(where, str(error))
    if found is None:
        return None
    file, reason, key, schema = found.groups(default="")
    return FileError(file, reason, key, schema, reason.startswith("Key "))


def override_in(error: BaseException) -> str | None:
    """Return the override, as typed, that caused an error; None if the message has none.

    Needed by ``config.translation``. Public API missing: only the message has it.
    """
    found = re.search(r"^(?:To append to your config use \+|Error merging override )(.+)$", str(error), re.MULTILINE)
    return found[1] if found else None


def present_key(error: BaseException) -> tuple[str, str | None] | None:
    """Return the key that ``+KEY=VALUE`` cannot add because it exists, and a correct override.

    Needed by ``config.translation``. Public API missing: only the message has them.

    Returns
    -------
    tuple of (str, str or None), or None
        None for another error.
    """
    there = re.search(r"already at '(.+?)'", str(error))
    if there is None:
        return None
    override = re.search(r"Either remove \+ prefix: '(.+)'", str(error))
    return there[1], override[1] if override else None


def absent_key(error: BaseException) -> str | None:
    """Return the key that ``~KEY`` cannot delete because it does not exist; None for another error.

    Needed by ``config.translation``. Public API missing: only the message has it.
    """
    found = re.search(r"Could not delete from config\. '(.+?)' does not exist", str(error))
    return found[1] if found else None


def wanted_type(error: BaseException) -> str | None:
    """Return the required type after a value of the wrong type; None if the message has none.

    Needed by ``config.translation``. Public API missing: only the message of ``ValidationError`` has
    it.

    Returns
    -------
    str or None
        ``list``, or OmegaConf's name: ``Integer``, ``Float``, ``Boolean`` and so on.
    """
    if "is not a ListConfig" in str(error):
        return "list"
    found = re.search(r"could not be converted to (\w+)", str(error))
    return found[1] if found else None


def interpolation_reason(error: BaseException) -> str:
    """Return the first line of an interpolation error without OmegaConf's prefix.

    Needed by ``config.translation``. Public API missing: only the message includes the error that a
    resolver raised.
    """
    return str(error).splitlines()[0].removeprefix("KeyError raised while resolving interpolation: ")


def cannot_merge(error: BaseException | None) -> bool:
    """Return whether a mapping could not be merged into a list.

    Needed by ``config.presets``. Public API missing: other errors of OmegaConf have the same class.
    """
    return "Cannot merge" in str(error)


# Differences between versions; Hydra 1.5 will turn the warnings of 1.4 into errors.


def initialized(module: str) -> Any:
    """Return a context manager in which Hydra composes the configs of a package."""
    return initialize_config_module(module, **_VERSION_BASE)


def main(config_path: str, config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], Any]]:
    """Return the decorator ``hydra.main``."""
    decorator: Callable[[Callable[[Any], Any]], Callable[[], Any]] = hydra.main(
        config_path=config_path, config_name=config_name, **_VERSION_BASE
    )
    return decorator


def instantiate(node: Any) -> Any:
    """Build the objects that a config names by ``_target_``, from plain containers.

    Hydra 1.4 requires a list of allowed targets. hpcml allows all, because the author of a config
    can run code anyway.
    """
    anything = getattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS", None)
    allowed = {} if anything is None else {"_execution_whitelist_": anything}
    return hydra.utils.instantiate(node, _convert_="all", **allowed)


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Register a function for ``${name:...}`` in configs.

    OmegaConf 2.4 deprecates ``register_new_resolver``. Its ``register_resolver`` takes the same
    arguments, while the function of that name in 2.3 is an older one.
    """
    register: Callable[..., None] = OmegaConf.register_resolver
    if "replace" not in inspect.signature(register).parameters:
        register = OmegaConf.register_new_resolver
    register(name, resolver, replace=True)


def store(name: str, node: Any, group: str | None = None) -> None:
    """Store a structured config, replacing one of the same name; Hydra 1.4 has a flag for it."""
    instance = ConfigStore.instance()
    again: dict[str, Any] = {"replace": True} if "replace" in inspect.signature(instance.store).parameters else {}
    instance.store(name=name, node=node, group=group, provider="hpcml", **again)
