"""Turn errors of Hydra and OmegaConf into messages with the input, the choices and a correction."""

from __future__ import annotations

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
from hpcml.spec import CLUSTERS, ClusterSpec, RunSpec
from hpcml.upstream import hydra as upstream

# Groups that accept any class of any package by ``_target_``.
OPEN_GROUPS = ("data", "model", "workload")
# Groups with a fixed schema: a dataclass in site.py or spec.py.
CLOSED_GROUPS = ("site", "cluster", "head")


def translate(error: Exception, config: DictConfig | None) -> ConfigError:
    """Return a readable error for one that was raised while composing.

    Parameters
    ----------
    config : DictConfig or None
        The config without the failed override; its keys are suggested as corrections.
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
        return _unknown_key(str(cause.full_key), upstream.override_in(error), config)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause, upstream.override_in(error) or str(cause.full_key))
    if isinstance(cause, MissingMandatoryValue):
        return _not_set(str(cause.full_key))
    if isinstance(cause, OmegaConfBaseException):
        return ConfigError(f"{cause.full_key}: {upstream.interpolation_reason(cause)}")
    return _by_message(error)


def _by_message(error: Exception) -> ConfigError:
    """Return the error for one that only its message distinguishes from others of its class."""
    if (in_file := upstream.file_error(error)) is not None:
        return _in_file(in_file)
    if (there := upstream.present_key(error)) is not None:
        key, override = there
        return ConfigError(f"+{key}: it is there already", f"type {override or key}")
    if (absent := upstream.absent_key(error)) is not None:
        return ConfigError(f"~{absent}: there is no '{absent}' to delete", "leave that out")
    return ConfigError(" ".join(str(error).split()) or type(error).__name__)


def _wrong_type(cause: ValidationError, typed: str) -> ConfigError:
    wanted = upstream.wanted_type(cause)
    if wanted == "list":
        return ConfigError(f"{typed}: wrong type", f"wanted: a list: '{typed.replace('=', '=[', 1)}]'")
    kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    return ConfigError(f"{typed}: wrong type", f"wanted: {kind.get(wanted, wanted)}" if wanted else _first_line(cause))


def _not_set(key: str) -> ConfigError:
    if key.startswith("site."):
        return ConfigError(f"{key} is not set", f"the site's file must have a line `{key.rpartition('.')[2]}: ...`")
    return ConfigError(f"{key} is not set", f"type {key}=VALUE")


def _in_file(error: upstream.FileError) -> ConfigError:
    """Return the error for a mistake in a user's YAML file."""
    if not error.unknown_key:
        return ConfigError(f"{error.file}.yaml: {error.key}: {error.reason}")
    if error.schema == ClusterSpec.__name__:
        return ConfigError(
            f"{error.file}.yaml: does not say which kind of cluster it is",
            "begin it with `defaults: [local]`, or pbs, slurm, allocation",
        )
    schema = getattr(spec, error.schema, None) or getattr(site, error.schema, None)
    known = [field.name for field in fields(schema)] if schema else []
    unknown = f"{error.file}.yaml: there is no key '{error.key}'"
    return ConfigError(unknown, nearest(error.key.rpartition(".")[2], known, most=5))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _unknown_option(error: MissingConfigException) -> ConfigError:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return ConfigError(f"there is no config '{option}'", nearest(option, error.options or []))
    return ConfigError(
        f"{group}={option}: no such option",
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
    if not parent:
        return ConfigError(f"{typed}: there is no '{key}'", *_hints_at_root(name, typed, node))
    target = _target(node) if key.partition(".")[0] in OPEN_GROUPS else None
    if target is None:
        hint = _of_another_kind(name) or nearest(name, map(str, node), most=5)
        return ConfigError(f"{typed}: there is no '{key}'", hint)
    return _unknown_parameter(key, typed, node, target)


def _hints_at_root(name: str, typed: str, root: DictConfig) -> list[str]:
    """Return the groups that have the key, else the most similar keys."""
    groups = [group for group in map(str, root) if OmegaConf.is_dict(root[group]) and name in root[group]]
    if groups:
        return [f"perhaps {group}.{typed}" for group in groups]
    return [nearest(name, [*map(str, root), "experiment"], most=5)]


def _unknown_parameter(key: str, typed: str, node: DictConfig, target: Any) -> ConfigError:
    """Return the error for a key that the arguments of a class or function do not have."""
    parent, _, name = key.rpartition(".")
    names, open_ended = targets.parameters(target)
    for step in map(str, node):
        if OmegaConf.is_dict(upstream.raw_node(node, step)) and name in node[step]:
            hint = f"perhaps {parent}.{step}.{typed.rpartition('.')[2]}"
            return ConfigError(f"{typed}: {parent} has no '{name}'", hint)
    if name in names or open_ended:
        return ConfigError(f"{typed}: {parent} has no '{name}' yet", f"a new parameter needs a plus: +{typed}")
    return ConfigError(f"{typed}: {target.__name__}() has no '{name}'", nearest(name, names, most=5))


def _of_another_kind(name: str) -> str | None:
    """Return a hint with the kinds of cluster that have the key."""
    kinds = [kind for kind, schema in CLUSTERS.items() if name in {field.name for field in fields(schema)}]
    return f"it belongs to cluster={' and cluster='.join(kinds)}; site=... chooses one" if kinds else None


def _target(node: Any) -> Any:
    if not OmegaConf.is_dict(node) or OmegaConf.is_missing(node, "_target_") or "_target_" not in node:
        return None
    try:
        return targets.locate(str(node["_target_"]), "")
    except ConfigError:
        return None


def check_complete(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    """Check that no key or group that every run needs was deleted with a tilde.

    Parameters
    ----------
    choices : mapping of str to (str or None)
        The option chosen from each group.

    Raises
    ------
    ConfigError
    """
    for name in [field.name for field in fields(RunSpec)]:
        if name not in config:
            raise ConfigError(f"~{name}: every run needs it", f"leave that out, or set it: {name}=VALUE")
    for group in ("cluster", "head"):
        if choices.get(group) is None:
            raise ConfigError(f"~{group}: every run needs it", f"leave that out, or choose one: {group}=OPTION")


def check_closed(given: Mapping[str, Any], known: list[str], key: str) -> None:
    """Reject keys that were added with a plus to a mapping with fixed keys.

    Raises
    ------
    ConfigError
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"{key}{name}: no such key", nearest(name, known, most=5))


def check_objects(value: Any, key: str) -> None:
    """Reject keys that were added with a plus to a dataclass, also a nested one.

    OmegaConf turns such keys into attributes.

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
