"""Collect all config keys, for `hpcml keys`, docs/keys.md and the comments of the option files."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hpcml import site, spec, targets
from hpcml.errors import ConfigError, nearest
from hpcml.keys import Key, declared, default_text, type_text

# Classes that declare keys: the title of their section, the prefix of their keys, and the class.
_TYPED: tuple[tuple[str, str, type], ...] = (
    ("every run", "", spec.RunSpec),
    ("cluster=pbs, slurm, allocation", "cluster.", spec.BatchSpec),
    ("cluster=pbs, slurm", "cluster.", spec.JobsSpec),
    ("cluster=allocation", "cluster.", spec.AllocationSpec),
    ("cluster=attach", "cluster.", spec.AttachSpec),
    ("cluster=pbs, slurm, allocation: environment", "cluster.environment.", spec.EnvironmentSpec),
    ("cluster=local", "cluster.", spec.LocalSpec),
    ("head", "head.", spec.HeadSpec),
    ("site", "site.", site.Site),
    ("site: queues", "site.queues.NAME.", site.Queue),
    ("site: tiers of a queue", "site.queues.NAME.tiers[].", site.Tier),
    ("site: storage", "site.storage.", site.Storage),
    ("site: commands", "site.commands.SCHEDULER.", site.Commands),
    ("site: head", "site.head.", site.HeadRules),
)

# Groups with one class per option. The option's file lists the keys, and its _target_ declares
# them.
_OPEN = ("data", "workload")

_LINE = re.compile(r"(?!_target_|defaults)(\w+): ?(.*?)(?: +# (.*))?")


@dataclass(frozen=True)
class Entry:
    """A key as shown to the user.

    Parameters
    ----------
    name : str
        Full name, as typed: ``cluster.walltime``.
    section : str
        Options that have the key: ``cluster=pbs, slurm``.
    default, type, unit, text, example : str
        Empty if not declared.
    """

    name: str
    section: str
    default: str
    type: str
    unit: str
    text: str
    example: str


@dataclass(frozen=True)
class Section:
    """Keys of one class or option."""

    title: str
    text: str
    entries: tuple[Entry, ...]


def sections() -> Iterator[Section]:
    """Yield all keys, section by section."""
    yield from _typed()
    yield from _open()


def _typed() -> Iterator[Section]:
    for title, prefix, cls in _TYPED:
        text = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        yield Section(title, text, tuple(_entries(cls, prefix, title)))


def _open() -> Iterator[Section]:
    for group in _OPEN:
        folder = resources.files("hpcml.conf") / group
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            option, _, suffix = file.name.rpartition(".")
            if suffix == "yaml":
                found = _option(group, option, file.read_text(encoding="utf-8"))
                if found.entries:
                    yield found


def find(pattern: str) -> list[Entry]:
    """Return the keys that match a pattern.

    Parameters
    ----------
    pattern : str
        A key, part of a key, or a shell pattern: ``cluster.walltime``, ``walltime``,
        ``site.head.*``.

    Raises
    ------
    ConfigError
        If no key matches.
    """
    if pattern.startswith("model."):
        raise ConfigError(
            f"{pattern}: keys of model are the parameters of the model's class",
            "type hpcml run --cfg job --package model to see the current ones; +model.NAME=VALUE adds one",
        )
    known = list(_candidates(pattern))
    for matches in (str.__eq__, fnmatch.fnmatchcase, str.__contains__):
        found = [entry for entry in known if matches(entry.name, pattern)]
        if found:
            return found
    close = nearest(pattern, (entry.name for entry in known))
    hint = [close] if close.startswith("did you mean") else []
    raise ConfigError(f"{pattern}: no such key", *hint, "type hpcml keys to list all")


def _candidates(pattern: str) -> Iterator[Entry]:
    # The classes of data and workloads take seconds to import.
    closed = pattern.startswith(("cluster.", "head.", "site."))
    for section in _typed() if closed else sections():
        yield from section.entries


def _entries(cls: type, prefix: str, title: str) -> Iterator[Entry]:
    inherited = {name for base in cls.__bases__ if dataclasses.is_dataclass(base) for name in declared(base)}
    for field in dataclasses.fields(cls):
        declaration = declared(cls).get(field.name)
        if declaration is not None and field.name not in inherited:
            yield _entry(f"{prefix}{field.name}", title, default_text(field), field, declaration)


def _entry(name: str, section: str, default: str, field: dataclasses.Field[Any], declaration: Key) -> Entry:
    unit, example = declaration.unit or "", declaration.example or ""
    return Entry(name, section, default, type_text(field), unit, declaration.text, example)


def _option(group: str, option: str, text: str) -> Section:
    """Read the keys of an option from its file, and their declarations from its target class."""
    target = re.search(r"^_target_: (\S+)", text, re.MULTILINE)
    declarations = {} if target is None else _declarations(target[1])
    title = f"{group}={option}"
    entries = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, default, remark = match.groups(default="")
        default = "required" if default == "???" else default
        if name in declarations:
            field, declaration = declarations[name]
            entries.append(_entry(f"{group}.{name}", title, default, field, declaration))
        else:
            entries.append(Entry(f"{group}.{name}", title, default, "", "", remark, ""))
    first = text.partition("\n")[0].removeprefix("# ").partition(f". {group}=")[0]
    return Section(title, f"{first}.", tuple(entries))


def _declarations(target: str) -> dict[str, tuple[dataclasses.Field[Any], Key]]:
    """Return fields and declarations of a class by name; empty unless hpcml declares its keys."""
    if not target.startswith("hpcml."):
        return {}
    cls = targets.locate(target, "")
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        return {}
    known = declared(cls)
    return {field.name: (field, known[field.name]) for field in dataclasses.fields(cls) if field.name in known}
