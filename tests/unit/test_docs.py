"""docs/keys.md is written from the dataclasses that type the configs: pytest --rewrite."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcml import site, spec

DOCS = Path(__file__).parents[2] / "docs"

CLASSES = {
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
    return found


@pytest.mark.parametrize("cls", CLASSES.values(), ids=lambda cls: cls.__name__)
def test_every_key_is_explained(cls: type) -> None:
    own = {field.name for field in dataclasses.fields(cls)}
    for base in cls.__bases__:
        if dataclasses.is_dataclass(base):
            own -= {field.name for field in dataclasses.fields(base)}
    assert {name for name, _, _ in keys(cls)} == own


def test_the_page_of_keys(recorded: Callable[[Path, str], None]) -> None:
    parts = [
        "# Keys\n\nWhat can be set, with its default; null comes from the site, or is as the text says.",
        "This file is written by the tests: `pytest tests/unit/test_docs.py --rewrite`.",
    ]
    for title, cls in CLASSES.items():
        doc = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        rows = [
            f"| `{name}` | {f'`{default}`' if default else ''} | {comment} |" for name, default, comment in keys(cls)
        ]
        parts.append(f"## {title}\n\n{doc}\n\n| key | default | |\n|---|---|---|\n" + "\n".join(rows))
    recorded(DOCS / "keys.md", "\n\n".join(parts).replace("``", "`") + "\n")
