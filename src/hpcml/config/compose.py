"""Compose a run's config with Hydra, and build plain objects of it: below this module nobody sees a DictConfig."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from hpcml import targets
from hpcml.config.complaints import (
    CLOSED_GROUPS,
    OPEN_GROUPS,
    check_closed,
    check_objects,
    translate,
    typed_override,
)
from hpcml.config.presets import drop_leaks, literal, replacing_lists, replacing_merged
from hpcml.errors import ConfigError, HpcmlError, nearest
from hpcml.runs import scratch_root
from hpcml.spec import CLUSTERS, ClusterSpec, RunSpec, default_scratch


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
            If a value is out of range, or a class cannot be imported or does not take its parameters.
        """
        check_closed(self.config, [field.name for field in fields(RunSpec)], "")
        values = dict(self.config)
        for group, node in self.closed.items():
            values[group] = OmegaConf.to_object(node)
            check_objects(values[group], group)
        for group in OPEN_GROUPS:
            targets.check(self.config[group], group)
        for group in OPEN_GROUPS:
            # data is built when it is loaded: by then there is a log for what a user's own loader says
            values[group] = _instantiate(self.config[group], group, partial=group == "data")
        _seed(values["model"], values["seed"])
        return RunSpec(**values)


def compose(prog: str, args: Sequence[str]) -> Composed | None:
    """Compose a config from the command line.

    Parameters
    ----------
    prog : str
        What the user typed before the arguments, for usage messages.
    args : sequence of str
        Overrides and Hydra's own flags.

    Returns
    -------
    Composed or None
        None if a flag such as ``--cfg`` or ``--info`` has printed all that was asked for.

    Raises
    ------
    ConfigError
        For a typo, an unknown option, a wrong type.
    """
    with _argv([prog, *args]), _full_errors():
        _refuse_options_of_qsub(args)
        flags = get_args_parser().parse_args()
        flags.overrides = [*_own_directory(), *(_addition(literal(text)) for text in flags.overrides)]
        if flags.multirun:
            raise ConfigError(
                "--multirun runs one job after the other and waits for each",
                "use a search workload, or start hpcml once per run in a shell loop",
            )
        try:
            if flags.cfg != "job" and (
                flags.cfg or flags.info is not None or flags.help or flags.hydra_help or flags.shell_completion
            ):
                _main(lambda _: None)
                return None
            flags.overrides += _cluster_of_site(flags)
            config, choices = _compose(flags)
            if flags.cfg == "job":
                # Hydra's own --cfg would show what a preset leaks into another class, which is not what runs.
                _show(config, flags.package, flags.resolve)
                return None
            _refuse_hidden(flags, choices)
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            closed = {group: config._get_node(group) for group in CLOSED_GROUPS if config[group] is not None}
        except HpcmlError:
            raise
        except Exception as error:
            comparable = _without(typed_override(error), flags.overrides, _where(flags))
            raise translate(error, comparable) from error
    assert isinstance(plain, dict)
    named = {str(key): value for key, value in plain.items()}
    composed = Composed(named, list(flags.overrides), choices, closed)
    objects: dict[str, Any] = {group: OmegaConf.to_object(node) for group, node in closed.items()}
    named["scratch"] = str(scratch_root(named["scratch"], default_scratch(objects.get("site"), objects["cluster"])))
    return composed


# Keys whose values are mappings of names of the user's own.
_MAPPINGS = ("cluster.environment.variables", "site.storage.roots")

# Likewise arguments of a function of the user's own; given as a whole they replace what an experiment says.
_ARGUMENTS = ("workload.arguments.", "workload.parameters.")


def _addition(text: str) -> str:
    """Write what Hydra wants for a new name in a mapping, two pluses, and for a group without an option, a tilde."""
    key, _, value = text.partition("=")
    if key in OPEN_GROUPS and value == "null":  # Hydra knows null in a file, and on the command line only this
        return f"~{key}"
    new = key.startswith(_ARGUMENTS) or any(key == name or key.startswith(f"{name}.") for name in _MAPPINGS)
    return f"++{text}" if new else text


def _refuse_options_of_qsub(args: Sequence[str]) -> None:
    for option, key in {"-P": "project", "-A": "project", "-q": "queue", "-l": "ncpus", "-N": "name"}.items():
        if option in args:
            raise ConfigError(
                f"{option}: is qsub's",
                f"write cluster.{key}=...; -l resources are cluster.ncpus, mem, walltime and so on",
            )


def _own_directory() -> list[str]:
    """Have Hydra look for configs in ``$HPCML_CONFIG_DIR`` too, as in ``--config-dir``."""
    directory = os.environ.get("HPCML_CONFIG_DIR")
    if not directory:
        return []
    if not Path(directory).is_dir():
        raise ConfigError(f"HPCML_CONFIG_DIR={directory}: there is no such directory")
    return [f'hydra.searchpath=["file://{Path(directory).absolute()}"]']


def _refuse_hidden(flags: Any, choices: dict[str, str | None]) -> None:
    """Refuse an option that is there twice: Hydra takes hpcml's own, and a user would wonder why his does nothing."""
    own = resources.files("hpcml.conf")
    for directory in filter(None, (flags.config_dir, os.environ.get("HPCML_CONFIG_DIR"))):
        for group, option in choices.items():
            file = f"{group}/{option}.yaml"
            if (Path(directory) / file).is_file() and own.joinpath(file).is_file():
                raise ConfigError(
                    f"{directory}/{file}: hpcml has a {group}={option} of its own", "give yours another name"
                )


def _cluster_of_site(flags: Any) -> list[str]:
    """Choose the cluster that a site means if none is named: jobs of the site's scheduler."""
    keys = {text.lstrip("+").partition("=")[0] for text in flags.overrides}
    if "cluster" in keys or not keys & {"site", "experiment"}:
        return []
    found: list[str] = []

    def look(config: DictConfig) -> None:
        chosen = HydraConfig.get().runtime.choices.get("cluster")
        scheduler = None if config.site is None else config.site.schedulers[0]
        if scheduler is not None and chosen in {"local", scheduler}:  # else the experiment has chosen
            found.append(f"cluster={scheduler}")

    choices = [text for text in flags.overrides if re.match(r"(site|experiment|hydra\.searchpath)=", text)]
    # as it is; and if the experiment's keys do not suit the local cluster, with those that they may be meant for
    for attempt in ([], ["cluster=pbs"], ["cluster=slurm"]):
        with contextlib.suppress(Exception), _argv([sys.argv[0], *choices, *attempt, *_where(flags)]):
            _main(look)  # what is wrong with the site is told when the whole is composed
            break
    return found


def _where(flags: Any) -> list[str]:
    """Give the flags again that say where configs are."""
    where = [(f"--config-{name}", getattr(flags, f"config_{name}")) for name in ("dir", "path", "name")]
    return [text for flag, value in where if value is not None for text in (flag, value)]


def _compose(flags: Any) -> tuple[DictConfig, dict[str, str | None]]:
    """Compose, and have the command line replace what Hydra would merge; give the config and the options chosen."""
    found: dict[str, Any] = {}

    def capture(config: DictConfig) -> None:
        choices = dict(HydraConfig.get().runtime.choices)
        found["config"] = config
        found["choices"] = {
            group: choice for group, choice in choices.items() if not group.startswith(("hydra/", "schema/"))
        }
        found["again"] = replacing_merged(config, overrides, OPEN_GROUPS)
        if not found["again"]:
            for group in OPEN_GROUPS:
                drop_leaks(config, group, found["choices"].get(group), overrides)

    def run() -> None:
        with _argv([sys.argv[0], *overrides, *_where(flags)]):
            _main(capture)

    overrides = list(flags.overrides)
    try:
        run()
    except Exception as error:
        overrides = replacing_lists(error, overrides)
        run()
    if found["again"]:
        overrides = found["again"]
        run()
    return found["config"], found["choices"]


def _without(failed: str | None, overrides: Sequence[str], given: Sequence[str]) -> DictConfig | None:
    """Compose again with as many overrides as go: what the names in the failed one are compared with."""
    found: list[DictConfig] = []
    # then those that choose: options of groups, and classes
    choices = [text for text in overrides if "." not in text.partition("=")[0] or "._target_=" in text]
    for attempt in ([text for text in overrides if text.lstrip("+") != failed], choices, []):
        with contextlib.suppress(Exception), _argv([sys.argv[0], *attempt, *given]):
            _main(found.append)
            return found[0]
    return None


def _of_size(small: Any, full: Any, *, _root_: DictConfig) -> Any:
    """Choose a value of an experiment by the run's size: ``${of_size:400,20000}`` in a config."""
    return small if _root_.size == "small" else full


def _main(task: Any) -> None:
    OmegaConf.register_new_resolver("of_size", _of_size, replace=True)
    store = ConfigStore.instance()
    # Which cluster it is says its option: each begins with its own schema
    store.store(name="schema", node=RunSpec(workload=MISSING, cluster=ClusterSpec()), provider="hpcml")
    for name, kind in CLUSTERS.items():
        store.store(group="schema/cluster", name=name, node=kind, provider="hpcml")
    hydra.main(version_base="1.3", config_path="pkg://hpcml.conf", config_name="config")(task)()


def _show(config: DictConfig, package: str | None, resolve: bool) -> None:
    node = config if package in {None, "_global_"} else OmegaConf.select(config, str(package))
    if node is None and package is not None:
        raise ConfigError(
            f"--package {package}: there is nothing there", nearest(package.split(".")[0], map(str, config))
        )
    if resolve:
        OmegaConf.resolve(config)
    print(OmegaConf.to_yaml(node) if OmegaConf.is_config(node) else f"{node}\n", end="")


def _seed(model: Any, seed: int) -> None:
    """Give the seed to a model that has a random_state and leaves it open: the same command gives the same result."""
    if not hasattr(model, "get_params") or isinstance(model, type):
        return
    for name, value in sorted(model.get_params(deep=True).items()):
        if value is None and name.rpartition("__")[2] == "random_state":
            model.set_params(**{name: seed})


def _instantiate(node: Any, key: str, partial: bool) -> Any:
    if not isinstance(node, Mapping):
        return node
    try:
        return instantiate({**node, "_partial_": True} if partial else node, _convert_="all")
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # Hydra wraps what a constructor raises
            if isinstance(cause, HpcmlError):
                raise cause from None
            last, cause = cause, cause.__cause__
        raise ConfigError(f"{key}: {node['_target_']} could not be built: {type(last).__name__}: {last}") from error


@contextlib.contextmanager
def _argv(argv: Sequence[str]) -> Iterator[None]:
    """Give Hydra a command line; it reads no other place."""
    old, sys.argv = sys.argv, list(argv)
    try:
        yield
    finally:
        sys.argv = old


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """Have Hydra raise its errors instead of printing them and ending the process with 1."""
    old = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old
