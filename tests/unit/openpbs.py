"""Recorded outputs of OpenPBS in tests/data/openpbs, as listed in their index."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[1] / "data" / "openpbs"


@dataclass(frozen=True)
class Sample:
    name: str
    stdout: bytes
    stderr: bytes
    command: str
    code: int
    files: tuple[str, ...]

    @property
    def reader(self) -> str:
        """Reader for this output; errors are for explain_refusal even with a listing."""
        if self.command.startswith("cat "):
            return "usage"
        if "pbsnodes" in self.command:
            return "read_nodes"
        if "qstat" in self.command:
            return "read_json" if "-F json" in self.command else "read_text"
        return "refusal"


def samples(*readers: str) -> list[Sample]:
    """Return the samples of some readers, or all."""
    found = []
    for line in (HERE / "INDEX.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 4 or not cells[3].isdigit():
            continue
        files = tuple(name for name in cells[:2] if name != "-")
        out, err = (b"" if name == "-" else (HERE / name).read_bytes() for name in cells[:2])
        name = re.sub(r"\.(out|err)$", "", files[0])
        found.append(Sample(name, out, err, cells[2].strip("`"), int(cells[3]), files))
    return [sample for sample in found if not readers or sample.reader in readers]
