"""Hydra's and OmegaConf's errors in one message each: what was typed, what there is, what to type instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from hpcml import site, spec, targets
from hpcml.errors import ConfigError, nearest
from hpcml.spec import CLUSTERS, ClusterSpec

# Groups whose options are any class of any package, named by _target_
OPEN_GROUPS = ("data", "model", "workload")
# and those that are typed by a dataclass of site.py or spec.py
CLOSED_GROUPS = ("site", "cluster", "head")


def translate(error: Exception, config: DictConfig | None) -> ConfigError:
    """Make one clear error of what went wrong while composing.

    Parameters
    ----------
    config : DictConfig or None
        The config without the override that failed: its keys are the choices.
    """
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        reason = str(error.__cause__ or error).splitlines()[0]
        return ConfigError(
            f"{error.override}: cannot be read: {reason}",
            "an override is KEY=VALUE; quote lists and mappings for the shell: 'workload.grid={C: [1, 2]}'",
        )
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        return _unknown_key(str(cause.full_key), typed_override(error), config)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause, typed_override(error) or str(cause.full_key))
    if isinstance(cause, MissingMandatoryValue):
        return _not_set(str(cause.full_key))
    if isinstance(cause, OmegaConfBaseException):
        reason = _first_line(cause).removeprefix("KeyError raised while resolving interpolation: ")
        return ConfigError(f"{cause.full_key}: {reason}")
    where = r"^In '(.+?)': \w+ raised while composing config:\n(.+)\n\s+full_key: (\S+)(?:[^$]*object_type=(\w+))?"
    in_file = re.search(where, str(error))
    if in_file:
        return _in_file(*in_file.groups(default=""))
    there = re.search(r"already at '(.+?)'", str(error))
    if there:
        override = re.search(r"Either remove \+ prefix: '(.+)'", str(error))
        return ConfigError(f"+{there[1]}: it is there already", f"type {override[1] if override else there[1]}")
    return ConfigError(" ".join(str(error).split()) or type(error).__name__)


def _wrong_type(cause: ValidationError, typed: str) -> ConfigError:
    if "is not a ListConfig" in str(cause):
        return ConfigError(f"{typed}: wrong type", f"wanted: a list: '{typed.replace('=', '=[', 1)}]'")
    wanted = re.search(r"could not be converted to (\w+)", str(cause))
    kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    return ConfigError(
        f"{typed}: wrong type", f"wanted: {kind.get(wanted[1], wanted[1])}" if wanted else _first_line(cause)
    )


def _not_set(key: str) -> ConfigError:
    if key.startswith("site."):
        return ConfigError(f"{key} is not set", f"the site's file must have a line `{key.rpartition('.')[2]}: ...`")
    return ConfigError(f"{key} is not set", f"type {key}=VALUE")


def _in_file(file: str, reason: str, key: str, kind: str) -> ConfigError:
    """Tell a mistake in a YAML file of the user's.

    Parameters
    ----------
    kind : str
        The name of the dataclass that types the place of the mistake.
    """
    if not reason.startswith("Key "):
        return ConfigError(f"{file}.yaml: {key}: {reason}")
    if kind == ClusterSpec.__name__:
        return ConfigError(
            f"{file}.yaml: does not say which kind of cluster it is",
            "begin it with `defaults: [local]`, or pbs, slurm, allocation",
        )
    schema = getattr(spec, kind, None) or getattr(site, kind, None)
    known = [field.name for field in fields(schema)] if schema else []
    return ConfigError(f"{file}.yaml: there is no key '{key}'", nearest(key.rpartition(".")[2], known, most=5))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def typed_override(error: Exception) -> str | None:
    """Find in a message of Hydra's the override that the user typed."""
    found = re.search(r"^(?:To append to your config use \+|Error merging override )(.+)$", str(error), re.MULTILINE)
    return found[1] if found else None


def _unknown_option(error: MissingConfigException) -> ConfigError:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return ConfigError(f"there is no config '{option}'", nearest(option, error.options or []))
    return ConfigError(
        f"{group}={option}: there is no such option",
        nearest(option, error.options or []),
        f"your own is DIR/{group}/{option}.yaml, with --config-dir DIR",
    )


def _unknown_key(key: str, typed: str | None, config: DictConfig | None) -> ConfigError:
    typed = typed or key
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if config is not None and parent else config
    if not isinstance(node, DictConfig):
        value = typed.partition("=")[2]
        return ConfigError(f"{typed}: {parent} is {node}", f"set it whole: '{parent}={{{name}: {value}}}'")
    known = [str(name) for name in node]
    if not parent:
        groups = [group for group in known if OmegaConf.is_dict(node[group]) and name in node[group]]
        hint = [f"perhaps {group}.{typed}" for group in groups] or [nearest(name, [*known, "experiment"], most=5)]
        return ConfigError(f"{typed}: there is no '{key}'", *hint)
    target = _target(node) if key.partition(".")[0] in OPEN_GROUPS else None
    if target is None:
        return ConfigError(f"{typed}: there is no '{key}'", _of_another_kind(name) or nearest(name, known, most=5))
    names, open_ended = targets.parameters(target)
    steps = [step for step in known if OmegaConf.is_dict(node._get_node(step)) and name in node[step]]
    if steps:
        return ConfigError(
            f"{typed}: {parent} has no '{name}'", f"perhaps {parent}.{steps[0]}.{typed.rpartition('.')[2]}"
        )
    if name in names or open_ended:
        return ConfigError(f"{typed}: {parent} has no '{name}' yet", f"a new parameter needs a plus: +{typed}")
    return ConfigError(f"{typed}: {target.__name__}() has no '{name}'", nearest(name, names, most=5))


def _of_another_kind(name: str) -> str | None:
    """Name the clusters that have a key which this one does not have."""
    kinds = [kind for kind, schema in CLUSTERS.items() if name in {field.name for field in fields(schema)}]
    return f"it belongs to cluster={' and cluster='.join(kinds)}; site=... chooses one" if kinds else None


def _target(node: Any) -> Any:
    if not OmegaConf.is_dict(node) or OmegaConf.is_missing(node, "_target_") or "_target_" not in node:
        return None
    try:
        return targets.locate(str(node["_target_"]), "")
    except ConfigError:
        return None


def check_closed(given: Mapping[str, Any], known: list[str], key: str) -> None:
    """Refuse keys that were added with a plus to what is closed.

    Raises
    ------
    ConfigError
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"{key}{name}: there is no such key", nearest(name, known, most=5))


def check_objects(value: Any, key: str) -> None:
    """Refuse what was added with a plus to a dataclass, or to one in it: OmegaConf makes attributes of such keys.

    Raises
    ------
    ConfigError
    """
    if is_dataclass(value):
        check_closed(vars(value), [field.name for field in fields(value)], f"{key}.")
        value = vars(value)
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_objects(item, f"{key}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            check_objects(item, f"{key}[{number}]")
