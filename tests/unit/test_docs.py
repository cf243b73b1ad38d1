"""docs/keys.md is written from the dataclasses that type the configs, and the options: pytest --rewrite."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcml import site, spec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Groups whose options are no dataclasses: the keys and what they mean are in the options themselves.
OPTIONS = sorted(path for group in ("workload", "data") for path in (ROOT / "conf" / group).glob("*.yaml"))

CLASSES = {
    "scratch, seed, size, model_format, scaling": spec.RunSpec,
    "cluster=pbs, slurm, allocation": spec.BatchSpec,
    "cluster=pbs, slurm": spec.JobsSpec,
    "cluster=allocation": spec.AllocationSpec,
    "cluster=attach": spec.AttachSpec,
    "cluster.environment": spec.EnvironmentSpec,
    "cluster=local": spec.LocalSpec,
    "head": spec.HeadSpec,
    "site": site.Site,
    "site.queues.NAME": site.Queue,
    "site.queues.NAME.tiers[]": site.Tier,
    "site.storage": site.Storage,
    "site.commands.pbs, .slurm": site.Commands,
    "site.head": site.HeadRules,
}

# Of RunSpec, what is a group of the config.
GROUPS = {"workload", "data", "model", "site", "cluster", "head"}

NAMES = {"None": "null", "True": "true", "False": "false", "MISSING": "must be given"}


def keys(cls: type) -> list[tuple[str, str, str]]:
    """Give name, default and comment of the fields that a class has itself; a comment stands for all below it."""
    found, comment, fresh = [], "", False
    for text in inspect.getsource(cls).splitlines():
        line = text.strip()
        if line.startswith("# "):
            comment, fresh = (line[2:] if not fresh else f"{comment} {line[2:]}"), True
        elif ": " in line and " = " in line and text.startswith("    ") and not text.startswith("     "):
            name, _, rest = line.partition(":")
            default = rest.partition(" = ")[2]
            if default.startswith("field("):
                default = "[]" if "list" in default else "{}" if "dict" in default else ""
            default = NAMES.get(default, default)
            found.append((name, default, comment))
            fresh = False
        elif line.startswith("def "):
            break
    return [entry for entry in found if cls is not spec.RunSpec or entry[0] not in GROUPS]


def option_keys(path: Path) -> list[tuple[str, str, str]]:
    """Give name, default and comment of an option's keys."""
    found = []
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"(?!_target_|defaults)(\w+): ?(.*?)(?: +# (.*))?", line)
        if match:
            name, default, comment = match.groups()
            found.append((name, "must be given" if default == "???" else default, comment or ""))
    return found


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_key_of_a_workload_or_loader_is_explained(path: Path) -> None:
    if "hpcml." in path.read_text().partition("_target_")[2]:  # of others' functions their own pages say it
        assert [name for name, _, comment in option_keys(path) if not comment] == []


@pytest.mark.parametrize("cls", CLASSES.values(), ids=lambda cls: cls.__name__)
def test_every_key_is_explained(cls: type) -> None:
    own = {field.name for field in dataclasses.fields(cls)}
    for base in cls.__bases__:
        if dataclasses.is_dataclass(base):
            own -= {field.name for field in dataclasses.fields(base)}
    if cls is spec.RunSpec:
        own -= GROUPS
    assert {name for name, _, _ in keys(cls)} == own


def section(title: str, doc: str, found: list[tuple[str, str, str]]) -> str:
    """Write a part of the page."""
    rows = [f"| `{name}` | {f'`{default}`' if default else ''} | {comment} |" for name, default, comment in found]
    return f"## {title}\n\n{doc}\n\n| key | default | |\n|---|---|---|\n" + "\n".join(rows)


def test_the_page_of_keys(recorded: Callable[[Path, str], None]) -> None:
    parts = [
        "# Keys\n\nWhat can be set, with its default; null comes from the site, or is as the text says.",
        "This file is written by the tests: `pytest tests/unit/test_docs.py --rewrite`.",
    ]
    for title, cls in CLASSES.items():
        doc = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        parts.append(section(title, doc, keys(cls)))
    for path in OPTIONS:
        doc = path.read_text().splitlines()[0].removeprefix("# ").partition(f". {path.parent.name}=")[0]
        if found := option_keys(path):
            parts.append(section(f"{path.parent.name}={path.stem}", f"{doc}.", found))
    recorded(DOCS / "keys.md", "\n\n".join(parts).replace("``", "`") + "\n")
