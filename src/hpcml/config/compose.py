"""Compose a run's config with Hydra, and build plain objects from it.

No DictConfig is passed to the rest of hpcml.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from hpcml import targets
from hpcml.config.flags import parse_flags, starting_again
from hpcml.config.presets import drop_leaks, literal, replacing_lists, replacing_merged
from hpcml.config.translation import (
    CLOSED_GROUPS,
    OPEN_GROUPS,
    check_closed,
    check_complete,
    check_objects,
    translate,
)
from hpcml.errors import ConfigError, DataError, HpcmlError, nearest
from hpcml.runs import scratch_root
from hpcml.spec import CLUSTERS, ClusterSpec, RunSpec, default_scratch
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
    _refuse_hidden(flags, choices)
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


def _directories(flags: Any) -> list[Path]:
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


def _refuse_hidden(flags: Any, choices: dict[str, str | None]) -> None:
    """Reject a user's file that Hydra ignores because hpcml has one of the same name.

    Raises
    ------
    ConfigError
    """
    own = resources.files("hpcml.conf")
    for directory in _directories(flags):
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
            drop_leaks(config, group, choices.get(group), _with_directories(flags, overrides))
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
    config = hydra.compose("config", _with_directories(flags, overrides), return_hydra_config=True)
    choices = {
        str(group): choice
        for group, choice in config.hydra.runtime.choices.items()
        if not str(group).startswith(("hydra/", "schema/"))
    }
    with open_dict(config):
        config.pop("hydra")
    return config, choices


def _with_directories(flags: Any, overrides: Sequence[str]) -> list[str]:
    """Add the user's config directories in front of those of a search path override."""
    own = [f'"file://{directory}"' for directory in _directories(flags)]
    if not own:
        return list(overrides)
    given = next((text for text in overrides if text.startswith("hydra.searchpath=[")), "hydra.searchpath=[]")
    items = [*own, *filter(None, [given.partition("=")[2][1:-1]])]
    return [*(text for text in overrides if text != given), f"hydra.searchpath=[{','.join(items)}]"]


def _show_by_hydra(prog: str, args: Sequence[str], flags: Any) -> None:
    """Print the output of a Hydra flag, which only Hydra's main function implements."""
    _register()
    # Hydra itself adds the directory of --config-dir.
    own = [] if flags.config_dir is not None else _with_directories(flags, [])
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
