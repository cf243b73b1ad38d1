"""Compose a run's config with Hydra.

No DictConfig is passed to the rest of hpcml.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from hpcml.config.composed import Composed
from hpcml.config.directories import reject_hidden, with_directories
from hpcml.config.flags import parse_flags
from hpcml.config.presets import check_sweeps, drop_leaks, literal, replacing_lists, replacing_merged, replacing_options
from hpcml.config.translation import CLOSED_GROUPS, OPEN_GROUPS, check_complete, translate
from hpcml.errors import ConfigError, HpcmlError, nearest
from hpcml.runs import scratch_root
from hpcml.spec import CLUSTERS, ClusterSpec, RunSpec, default_scratch
from hpcml.upstream import hydra as upstream


def compose(prog: str, args: Sequence[str]) -> Composed | None:
    """Compose a config from the command line.

    Parameters
    ----------
    prog : str
        The command as typed, without its arguments; for usage messages.
    args : sequence of str
        Overrides and Hydra's own flags.

    Returns
    -------
    Composed or None
        None if a flag such as ``--cfg`` or ``--info`` has printed its output.

    Raises
    ------
    ConfigError
        For a typo, an unknown option or a wrong type.
    """
    _refuse_options_of_schedulers(args)
    flags = parse_flags(prog, args)
    flags.overrides = [_addition(literal(text)) for text in flags.overrides]
    check_sweeps(flags.overrides)
    flags.overrides = replacing_options(flags.overrides, OPEN_GROUPS)
    if _is_shown_by_hydra(flags):
        _show_by_hydra(prog, args, flags)
        return None
    with _hydra():
        try:
            composed = _composed(flags)
        except HpcmlError:
            raise
        except Exception as error:
            comparable = _without(upstream.override_in(error), flags)
            raise translate(error, comparable) from error
    if composed is not None:
        objects: dict[str, Any] = {group: OmegaConf.to_object(node) for group, node in composed.closed.items()}
        default = default_scratch(objects.get("site"), objects["cluster"])
        composed.config["scratch"] = str(scratch_root(composed.config["scratch"], default))
    return composed


def _is_shown_by_hydra(flags: Any) -> bool:
    """Return whether Hydra's main function prints the output of a flag."""
    # Its --cfg job would include keys that a preset leaks into another class, which are dropped
    # before the run.
    if flags.cfg == "job":
        return False
    return bool(flags.cfg or flags.help or flags.hydra_help or flags.shell_completion) or flags.info is not None


def _composed(flags: Any) -> Composed | None:
    """Compose a config and check that it is complete; None if ``--cfg job`` has printed it."""
    flags.overrides += _cluster_of_site(flags)
    config, choices = _compose(flags)
    if flags.cfg == "job":
        _show(config, flags.package, flags.resolve)
        return None
    reject_hidden(flags, choices)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    named = {str(key): value for key, value in plain.items()}
    check_complete(named, choices)
    closed = {group: upstream.raw_node(config, group) for group in CLOSED_GROUPS if config[group] is not None}
    return Composed(named, list(flags.overrides), choices, closed)


# Keys with a mapping of names that the user chooses.
_MAPPINGS = ("cluster.environment.variables", "site.storage.roots")

# Likewise, arguments of a user's function; given as a whole they replace those of an experiment.
_ARGUMENTS = ("workload.arguments.", "workload.parameters.")


def _addition(text: str) -> str:
    """Prefix an override as Hydra requires: ``++`` for a new name in a mapping, ``~`` for null."""
    key, _, value = text.partition("=")
    if key in {*OPEN_GROUPS, *CLOSED_GROUPS, "experiment"} and value == "null":
        # Hydra accepts null for a group in a file, but only the tilde on the command line.
        return f"~{key}"
    new = key.startswith(_ARGUMENTS) or any(key == name or key.startswith(f"{name}.") for name in _MAPPINGS)
    return f"++{text}" if new else text


def _refuse_options_of_schedulers(args: Sequence[str]) -> None:
    for option, key in {"-P": "project", "-A": "project", "-q": "queue", "-l": "ncpus", "-N": "name"}.items():
        if option in args:
            raise ConfigError(
                f"{option}: is an option of the batch scheduler",
                f"write cluster.{key}=...; -l resources are cluster.ncpus, mem, walltime and so on",
            )


def _cluster_of_site(flags: Any) -> list[str]:
    """Return the override for the default cluster of a site: jobs of the site's scheduler."""
    keys = {text.lstrip("+").partition("=")[0] for text in flags.overrides}
    if "cluster" in keys or not keys & {"site", "experiment"}:
        return []
    choices = [text for text in flags.overrides if re.match(r"(site|experiment|hydra\.searchpath)=", text)]
    # First without a cluster; then, if the experiment's keys do not fit the local cluster, with
    # each cluster that they may be written for.
    jobs = [name for name, kind in CLUSTERS.items() if getattr(kind, "scheduler", None) is not None]
    for attempt in [[], *([f"cluster={name}"] for name in jobs)]:
        # An error in the site is reported when the whole config is composed.
        with contextlib.suppress(Exception):
            return _default_cluster(*_load(flags, [*choices, *attempt]))
    return []


def _default_cluster(config: DictConfig, chosen: Mapping[str, str | None]) -> list[str]:
    scheduler = None if config.site is None else config.site.schedulers[0]
    # Otherwise the experiment has chosen a cluster, or the site's file is wrong, which is reported
    # later.
    suits = scheduler in CLUSTERS and chosen.get("cluster") in {"local", scheduler}
    return [f"cluster={scheduler}"] if suits else []


def _compose(flags: Any) -> tuple[DictConfig, dict[str, str | None]]:
    """Compose, where values from the command line replace those that Hydra would merge.

    Returns
    -------
    DictConfig
        The config.
    dict of str to (str or None)
        The option chosen from each group.
    """
    overrides = list(flags.overrides)
    try:
        config, choices = _load(flags, overrides)
    except Exception as error:
        overrides = replacing_lists(error, overrides)
        config, choices = _load(flags, overrides)
    again = replacing_merged(config, overrides, OPEN_GROUPS)
    if again:
        overrides = again
        config, choices = _load(flags, overrides)
    # Check once more: the second composition may contain keys that a preset leaks, but it merges
    # nothing.
    if not replacing_merged(config, overrides, OPEN_GROUPS):
        for group in OPEN_GROUPS:
            drop_leaks(config, group, choices.get(group), with_directories(flags, overrides))
    return config, choices


def _without(failed: str | None, flags: Any) -> DictConfig | None:
    """Compose again without the failed override, for a config to compare its keys with."""
    # If that fails, use only the overrides that choose an option or a class.
    choices = [text for text in flags.overrides if "." not in text.partition("=")[0] or "._target_=" in text]
    for attempt in ([text for text in flags.overrides if text.lstrip("+") != failed], choices, []):
        with contextlib.suppress(Exception):
            config, _ = _load(flags, attempt)
            return config
    return None


def _of_size(small: Any, full: Any, *, _root_: DictConfig) -> Any:
    """Choose an experiment's value by the run's size, as in ``${of_size:400,20000}``."""
    return small if _root_.size == "small" else full


def _register() -> None:
    upstream.register_resolver("of_size", _of_size)
    # The option determines the kind of cluster, since each option begins with its own schema.
    upstream.store("schema", RunSpec(workload=MISSING, cluster=ClusterSpec()))
    for name, kind in CLUSTERS.items():
        upstream.store(name, kind, group="schema/cluster")


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """Initialize Hydra once for all compositions of a command."""
    _register()
    with upstream.initialized("hpcml.conf"):
        yield


def _load(flags: Any, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """Compose once; return the config and the option chosen from each group."""
    config = hydra.compose("config", with_directories(flags, overrides), return_hydra_config=True)
    choices = {
        str(group): choice
        for group, choice in config.hydra.runtime.choices.items()
        if not str(group).startswith(("hydra/", "schema/"))
    }
    with open_dict(config):
        config.pop("hydra")
    return config, choices


def _show_by_hydra(prog: str, args: Sequence[str], flags: Any) -> None:
    """Print the output of a Hydra flag, which only Hydra's main function implements."""
    _register()
    # Hydra itself adds the directory of --config-dir.
    own = [] if flags.config_dir is not None else with_directories(flags, [])
    show = upstream.main("pkg://hpcml.conf", "config")
    with _argv([prog, *args, *own]), _full_errors():
        try:
            show(lambda _: None)()
        except (HpcmlError, BrokenPipeError):
            # BrokenPipeError is raised in `hpcml run --help | head`.
            raise
        except Exception as error:
            with _hydra():
                comparable = _without(upstream.override_in(error), flags)
            raise translate(error, comparable) from error


def _show(config: DictConfig, package: str | None, resolve: bool) -> None:
    node = config if package in {None, "_global_"} else OmegaConf.select(config, str(package))
    if node is None and package is not None:
        raise ConfigError(
            f"--package {package}: there is nothing there", nearest(package.split(".")[0], map(str, config))
        )
    if resolve:
        OmegaConf.resolve(config)
    print(OmegaConf.to_yaml(node) if OmegaConf.is_config(node) else f"{node}\n", end="")


@contextlib.contextmanager
def _argv(argv: Sequence[str]) -> Iterator[None]:
    """Replace ``sys.argv``, from which Hydra reads its command line."""
    old, sys.argv = sys.argv, list(argv)
    try:
        yield
    finally:
        sys.argv = old


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """Make Hydra raise errors instead of printing them and exiting with code 1."""
    old = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old
