"""When ``model._target_`` changes, the preset's parameters must not leak into the other class.

Hydra merges: ``model=svc model._target_=sklearn.tree.DecisionTreeClassifier`` would leave svc's C, kernel and gamma in
place. So wherever the class differs from the preset's, the preset's keys go, unless the user gave them: on the command
line, or in an experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

Path = tuple[str, ...]


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
    preset = hydra.compose(f"{group}/{option}")[group]
    if not _differs(node, preset):
        return
    with open_dict(config):
        _drop(node, preset, set(_given(group, overrides)), ())


def _class(node: Any) -> Any:
    return node._get_node("_target_") if OmegaConf.is_dict(node) else None


def _pairs(node: DictConfig, preset: DictConfig) -> Iterator[tuple[str, DictConfig, DictConfig]]:
    for key in list(preset):
        if key in node and OmegaConf.is_dict(preset._get_node(key)) and OmegaConf.is_dict(node._get_node(key)):
            yield str(key), node._get_node(key), preset._get_node(key)  # type: ignore[misc]  # both are dicts here


def _differs(node: DictConfig, preset: DictConfig) -> bool:
    return _class(node) != _class(preset) or any(
        _differs(below, original) for _, below, original in _pairs(node, preset)
    )


def _drop(node: DictConfig, preset: DictConfig, given: set[Path], path: Path) -> None:
    if _class(node) != _class(preset):
        for key in [str(key) for key in preset]:
            if key != "_target_" and key in node and (*path, key) not in given:
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
