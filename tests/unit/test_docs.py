"""Compare docs/keys.md and comments of option files with the declarations: pytest --rewrite."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcml import catalogue, site, spec
from hpcml.keys import declared
from hpcml.targets import locate

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Options with classes of hpcml; the files of other options explain their keys.
OPTIONS = sorted(
    path
    for group in ("workload", "data")
    for path in (ROOT / "conf" / group).glob("*.yaml")
    if "\n_target_: hpcml." in path.read_text()
)

# Fields of RunSpec that are config groups.
GROUPS = {"workload", "data", "model", "site", "cluster", "head"}

SECTIONS = list(catalogue.sections())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_each_key_has_a_text_of_its_own(section: catalogue.Section) -> None:
    texts = [entry.text for entry in section.entries]
    assert [entry.name for entry in section.entries if not entry.text] == []
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_no_two_keys_share_a_text() -> None:
    """Keys of several options, such as the path of a file, may share a text."""
    names: dict[str, set[str]] = {}
    for entry in (entry for section in SECTIONS for entry in section.entries):
        names.setdefault(entry.text, set()).add(entry.name)
    assert {text: found for text, found in names.items() if len(found) > 1} == {}


@pytest.mark.parametrize("module", [site, spec], ids=lambda module: module.__name__)
def test_every_field_is_a_declared_key(module: object) -> None:
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)]
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)} - (GROUPS if cls is spec.RunSpec else set())
        assert names == set(declared(cls)), cls


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_comments_of_option_files_match_the_declarations(path: Path, recorded: Callable[[Path, str], None]) -> None:
    text = path.read_text()
    (target,) = re.findall(r"^_target_: (\S+)", text, re.MULTILINE)
    known = declared(locate(target, ""))
    assert set(re.findall(r"^(?!_target_|defaults)(\w+):", text, re.MULTILINE)) <= set(known)
    recorded(path, re.sub(r"^(\w+):(.*?)( +# .*)?$", lambda match: commented(match, known), text, flags=re.MULTILINE))


def commented(match: re.Match[str], known: dict[str, catalogue.Key]) -> str:
    """Return a line of an option's file with the comment from the declaration."""
    name, value, _ = match.groups()
    line = f"{name}:{value}"
    return f"{line:<21} # {known[name].text}" if name in known else match[0]


def row(entry: catalogue.Entry) -> str:
    text = entry.text + (f"; for example `{entry.example}`" if entry.example else "")
    default = f"`{entry.default}`" if entry.default else ""
    cells = [f"`{entry.name}`", entry.type, default, entry.unit, text]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def test_the_page_of_keys(recorded: Callable[[Path, str], None]) -> None:
    parts = [
        "# Keys\n\nEvery config key with its type, default and unit. `hpcml keys PATTERN` prints the same.",
        "This page is written by `pytest tests/unit/test_docs.py --rewrite`.",
    ]
    for section in SECTIONS:
        text = section.text.replace("``", "`")
        rows = "\n".join(map(row, section.entries))
        head = "| key | type | default | unit | |\n|---|---|---|---|---|"
        parts.append(f"## {section.title}\n\n{text}\n\n{head}\n{rows}")
    recorded(DOCS / "keys.md", "\n\n".join(parts) + "\n")
