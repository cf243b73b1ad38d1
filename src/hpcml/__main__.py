"""Run hpcml with `python -m hpcml`."""

from __future__ import annotations

from hpcml.cli import entry_point

if __name__ == "__main__":
    entry_point()
