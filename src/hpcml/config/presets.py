"""Presets: what Hydra merges although the user means to replace it.

When ``model._target_`` changes, the preset's parameters must not leak into the other class.

Hydra merges: ``model=svc model._target_=sklearn.tree.DecisionTreeClassifier`` would leave svc's C, kernel and gamma in
place. So wherever the class differs from the preset's, the preset's keys go, unless the user gave them: on the command
line, or in an experiment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ConfigTypeError

Path = tuple[str, ...]

# Mappings of names of the user's own, which an experiment may have filled with others.
_NAMES_OF_THE_USER = ("workload.arguments", "workload.grid", "workload.parameters", "workload.params")


def drop_leaks(config: DictConfig, group: str, option: str | None, overrides: Sequence[str]) -> None:
    """Remove from a group's node what leaked from its preset; called while Hydra is initialised.

    Parameters
    ----------
    config : DictConfig
        The composed config; changed in place.
    group, option : str
        For example ``model`` and ``svc``.
    overrides : sequence of str
        As typed.
    """
    node = config[group]
    if option is None or not OmegaConf.is_dict(node):
        return
    preset = _preset(group, option)
    if not _differs(node, preset):
        return
    with open_dict(config):
        _drop(node, preset, set(_given(group, overrides)), ())


def _preset(group: str, option: str) -> DictConfig:
    """Read a preset's file; only one that is made of others has to be composed, which takes much longer."""
    name = f"{group}/{option}"
    sources = GlobalHydra.instance().config_loader().get_sources()
    found = next(source.load_config(name).config for source in sources if source.is_config(name))
    assert isinstance(found, DictConfig)
    if any(_adds(entry) for entry in found.get("defaults", [])):
        found = hydra.compose(name)[group]
    return found


def _adds(entry: Any) -> bool:
    """Tell whether an entry of a defaults list brings another file: one that overrides other groups does not."""
    names = [entry] if isinstance(entry, str) else list(entry)
    return not all(name == "_self_" or str(name).startswith("override ") for name in names)


def replacing_lists(error: Exception, overrides: Sequence[str]) -> list[str]:
    """Let a mapping on the command line replace what Hydra refuses to merge it with: a list, or other names.

    Parameters
    ----------
    error : Exception
        What composing said.

    Returns
    -------
    list of str
        The overrides, the refused one as a deletion and an addition.

    Raises
    ------
    Exception
        The error itself, if it is another.
    """
    cause = error.__cause__
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        parent = str(cause.full_key).rpartition(".")[0]
        if parent in _NAMES_OF_THE_USER:
            return _replace(overrides, {parent})
    if not isinstance(cause, ConfigTypeError) or "Cannot merge" not in str(cause):
        raise error
    return _replace(overrides, {str(cause.full_key)})


def replacing_merged(config: DictConfig, overrides: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Let a mapping on the command line replace a mapping, such as an experiment's grid, where Hydra has merged them.

    What has a ``_target_`` is merged: there a mapping sets some parameters of a class.

    Returns
    -------
    list of str
        The overrides, the merged ones as a deletion and an addition; empty if there are none.
    """
    merged = set()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        value = override.value()
        if key.partition(".")[0] in groups and "." in key and isinstance(value, dict):
            node = OmegaConf.select(config, key)
            given = {str(name) for name in value}
            if isinstance(node, DictConfig) and "_target_" not in node and {str(name) for name in node} != given:
                merged.add(key)
    return _replace(overrides, merged) if merged else []


def _replace(overrides: Sequence[str], keys: Collection[str]) -> list[str]:
    """Write ``KEY=VALUE`` of some keys as ``~KEY +KEY=VALUE``."""
    mended = [
        [f"~{text.partition('=')[0]}", f"+{text}"] if text.partition("=")[0] in keys else [text] for text in overrides
    ]
    return [text for texts in mended for text in texts]


def literal(text: str) -> str:
    """Quote a value that Hydra's grammar has no reading for, such as ``data.path=~/flowers (1).csv``.

    What begins as a list or a mapping is left alone: there a mistake is more likely than a file's name. So is what
    Hydra can read, but for values with commas: those are many runs to Hydra, which there are not here.
    """
    key, equals, value = text.partition("=")
    if not equals or not value or value[0] in "[{" or "${" in value:
        return text
    try:
        if not OverridesParser.create().parse_override(text).is_sweep_override():
            return text
    except HydraException:
        pass
    # in Hydra's quotes only quotes are escaped, and backslashes in front of them
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return f'{key}="{escaped}"'


def _class(node: Any) -> Any:
    # list(node): `in node` denies a key whose value is ???
    return node._get_node("_target_") if OmegaConf.is_dict(node) and "_target_" in list(node) else None


def _pairs(node: DictConfig, preset: DictConfig) -> Iterator[tuple[str, DictConfig, DictConfig]]:
    for key in list(preset):
        if key in list(node) and OmegaConf.is_dict(preset._get_node(key)) and OmegaConf.is_dict(node._get_node(key)):
            yield str(key), node._get_node(key), preset._get_node(key)  # type: ignore[misc]  # both are dicts here


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
    """List the paths below a group that somebody other than the preset has set."""
    others = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, _, below = override.key_or_group.partition(".")
        if key != group:
            others.append(str(override.input_line))
        elif below:
            yield from _paths(override.value(), tuple(below.split(".")))
    # with the empty preset, what is left was set by the experiment
    empty = hydra.compose("config", [*others, f"{group}=custom"])[group]
    yield from _paths(OmegaConf.to_container(empty, resolve=False), ())


def _paths(value: Any, path: Path) -> Iterator[Path]:
    for length in range(1, len(path) + 1):
        yield path[:length]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, str(key)))
