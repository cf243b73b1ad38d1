"""Fingerprints of the files that a run depends on: its data, and the user's own modules."""

from __future__ import annotations

import glob
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Bytes to hash for one manifest, about two seconds. Of the files beyond, size and time must do.
_HASHED = 2 * 1024**3

# Files to list for one manifest.
_LISTED = 1000


@dataclass(frozen=True)
class Fingerprint:
    """A file as it was when a run began.

    Parameters
    ----------
    size : int
        In bytes.
    mtime : float
        When it was last changed, in seconds since the epoch.
    sha256 : str or None
        Hash of the content; None if the files before it were too large to hash this one too.
    """

    path: str
    size: int
    mtime: float
    sha256: str | None


def fingerprints(paths: Iterable[str]) -> list[Fingerprint]:
    """Return the fingerprints of files, of those in directories, and of those that match patterns.

    At most the first thousand files are returned. A file that does not exist is left out.

    Parameters
    ----------
    paths : iterable of str
        Absolute paths.
    """
    found: list[Fingerprint] = []
    left = _HASHED
    for path in dict.fromkeys(_files(paths)):
        if len(found) == _LISTED:
            break
        stat = path.stat()
        hashed = stat.st_size <= left
        found.append(Fingerprint(str(path), stat.st_size, stat.st_mtime, _sha256(path) if hashed else None))
        left -= stat.st_size if hashed else 0
    return found


def _files(paths: Iterable[str]) -> Iterator[Path]:
    for text in dict.fromkeys(paths):
        path = Path(text)
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (entry for entry in sorted(path.rglob("*")) if entry.is_file())
        elif glob.has_magic(text):
            matching = map(Path, sorted(glob.glob(text, recursive=True)))  # noqa: PTH207  # as tables are read
            yield from (entry for entry in matching if entry.is_file())


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def own_modules() -> list[str]:
    """Return the paths of imported modules that belong to no installed package: the user's."""
    installed = [Path(path).resolve() for path in {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix}]
    installed.append(Path(__file__).resolve().parent)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = sorted(Path(file).resolve() for file in files if file)
    return [str(path) for path in paths if path.suffix == ".py" and not any(map(path.is_relative_to, installed))]
