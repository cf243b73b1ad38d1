"""Drop preset values that the user replaces but Hydra would merge.

Hydra merges: ``model=svc model._target_=sklearn.tree.DecisionTreeClassifier`` would keep svc's C,
kernel and gamma. If the class differs from that of the preset, the preset's keys are dropped,
except those that the user set on the command line or in an experiment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ConfigTypeError

from hpcml.errors import ConfigError
from hpcml.upstream import hydra as upstream

Path = tuple[str, ...]

# Mappings with names that the user chooses, and that an experiment may have filled with other
# names.
_NAMES_OF_THE_USER = ("workload.arguments", "workload.grid", "workload.parameters", "workload.params")


def drop_leaks(config: DictConfig, group: str, option: str | None, overrides: Sequence[str]) -> None:
    """Remove values that leaked from a preset into a group; called while Hydra is initialised.

    Parameters
    ----------
    config : DictConfig
        The composed config, changed in place.
    group, option : str
        For example ``model`` and ``svc``.
    overrides : sequence of str
        The overrides passed to Hydra.
    """
    node = config[group]
    if option is None or not OmegaConf.is_dict(node):
        return
    preset = _preset(group, option, overrides)
    if not _differs(node, preset):
        return
    with open_dict(config):
        _drop(node, preset, set(_given(group, overrides)), ())


def _preset(group: str, option: str, overrides: Sequence[str]) -> DictConfig:
    """Read a preset from its file, or compose it if it includes others or is the user's."""
    name = f"{group}/{option}"
    found = upstream.config_file(name)
    if isinstance(found, DictConfig) and not any(_adds(entry) for entry in found.get("defaults", [])):
        return found
    where = [text for text in overrides if text.startswith("hydra.searchpath=")]
    node = hydra.compose("config", [*where, f"{group}={option}"])[group]
    assert isinstance(node, DictConfig)
    return node


def _adds(entry: Any) -> bool:
    """Return whether an entry of a defaults list includes another file."""
    names = [entry] if isinstance(entry, str) else list(entry)
    return not all(name == "_self_" or str(name).startswith("override ") for name in names)


def replacing_lists(error: Exception, overrides: Sequence[str]) -> list[str]:
    """Rewrite overrides so that a mapping replaces a value that Hydra cannot merge it with.

    Parameters
    ----------
    error : Exception
        The error raised by composing.

    Returns
    -------
    list of str
        The overrides, with a deletion and an addition in place of the failing one.

    Raises
    ------
    Exception
        The given error, if it has another cause.
    """
    cause = error.__cause__
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        parent = str(cause.full_key).rpartition(".")[0]
        if parent in _NAMES_OF_THE_USER:
            return _replace(overrides, {parent})
    if not isinstance(cause, ConfigTypeError) or not upstream.cannot_merge(cause):
        raise error
    return _replace(overrides, {str(cause.full_key)})


def replacing_merged(config: DictConfig, overrides: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Rewrite overrides so that a mapping replaces one that Hydra has merged.

    Nodes with a ``_target_`` stay merged, since there a mapping sets some parameters of a class.

    Returns
    -------
    list of str
        The overrides, with a deletion and an addition in place of each merged one; empty if none.
    """
    merged = set()
    for override in upstream.parse_overrides(overrides):
        key = override.key_or_group
        value = override.value()
        if key.partition(".")[0] in groups and "." in key and isinstance(value, dict):
            node = OmegaConf.select(config, key)
            given = {str(name) for name in value}
            if isinstance(node, DictConfig) and "_target_" not in node and {str(name) for name in node} != given:
                merged.add(key)
    return _replace(overrides, merged) if merged else []


def replacing_options(overrides: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Rewrite overrides so that a mapping with a class replaces the option of a group.

    Hydra would merge ``model={_target_: mine.Model, ...}`` into the parameters of the option.
    """
    keys = [text.partition("=")[0] for text in overrides]
    rewritten = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key not in groups or not value.startswith("{") or "_target_" not in value:
            rewritten.append(text)
        elif keys.count(key) > 1:  # An option is chosen too, such as custom, which has no parameters.
            rewritten.append(f"++{text}")
        else:
            rewritten += [f"~{key}", f"+{text}"]
    return rewritten


# Functions of Hydra's grammar for several runs, in a list or a mapping.
_SWEEPS = re.compile(r"[\[{:,]\s*(range|interval|choice|glob)\(")


def check_sweeps(overrides: Sequence[str]) -> None:
    """Reject Hydra's sweeps in the values of a grid, where a list is meant.

    Raises
    ------
    ConfigError
    """
    for text in overrides:
        key, _, value = text.partition("=")
        found = _SWEEPS.search(value) if value[:1] in ("{", "[") else None
        if found is not None:
            raise ConfigError(
                f"{key}: {found[1]}(...) is for several runs in Hydra, and hpcml starts one",
                "write the values as a list: [1, 2, 3, 4]",
            )


def _replace(overrides: Sequence[str], keys: Collection[str]) -> list[str]:
    """Rewrite ``KEY=VALUE`` as ``~KEY +KEY=VALUE`` for some keys."""
    rewritten = [
        [f"~{text.partition('=')[0]}", f"+{text}"] if text.partition("=")[0] in keys else [text] for text in overrides
    ]
    return [text for texts in rewritten for text in texts]


def literal(text: str) -> str:
    """Quote a value that Hydra's grammar cannot parse, such as ``data.path=~/flowers (1).csv``.

    Values that start like a list or mapping are left unchanged, since a mistake is more likely
    there than a file name. Values that Hydra can parse are left unchanged as well, except sweeps:
    hpcml has none.
    """
    key, equals, value = text.partition("=")
    if not equals or not value or value[0] in "[{" or "${" in value:
        return text
    try:
        # Hydra removes white space, such as a tab between columns.
        if not value.isspace() and not upstream.parse_override(text).is_sweep_override():
            return text
    except HydraException:
        pass
    # In Hydra's quoted values only quotes, and backslashes before them, are escaped.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return f'{key}="{escaped}"'


def _class(node: Any) -> Any:
    # Not `in node`, which is false for a key with the value ???.
    return upstream.raw_node(node, "_target_") if OmegaConf.is_dict(node) and "_target_" in list(node) else None


def _pairs(node: DictConfig, preset: DictConfig) -> Iterator[tuple[str, DictConfig, DictConfig]]:
    for key in list(preset):
        if key not in list(node):
            continue
        below, original = upstream.raw_node(node, key), upstream.raw_node(preset, key)
        if OmegaConf.is_dict(below) and OmegaConf.is_dict(original):
            yield str(key), below, original


def _differs(node: DictConfig, preset: DictConfig) -> bool:
    return _class(node) != _class(preset) or any(
        _differs(below, original) for _, below, original in _pairs(node, preset)
    )


def _drop(node: DictConfig, preset: DictConfig, given: set[Path], path: Path) -> None:
    if _class(node) != _class(preset):
        for key in [str(key) for key in preset]:
            if key != "_target_" and key in list(node) and (*path, key) not in given:
                del node[key]
    for key, below, original in list(_pairs(node, preset)):
        _drop(below, original, given, (*path, key))


def _given(group: str, overrides: Sequence[str]) -> Iterator[Path]:
    """Yield the paths below a group that the user or an experiment has set."""
    others = []
    for override in upstream.parse_overrides(overrides):
        key, _, below = override.key_or_group.partition(".")
        if key != group:
            others.append(str(override.input_line))
        elif below:
            yield from _paths(override.value(), tuple(below.split(".")))
    # With an empty preset, the remaining values come from the experiment.
    empty = hydra.compose("config", [*others, f"{group}=custom"])[group]
    yield from _paths(OmegaConf.to_container(empty, resolve=False), ())


def _paths(value: Any, path: Path) -> Iterator[Path]:
    for length in range(1, len(path) + 1):
        yield path[:length]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, str(key)))
