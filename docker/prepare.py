"""Copies into docker/host what an image's build needs to know of this machine: its own CAs, and where pip looks.

Git ignores what is in there. Where nothing is special the directory stays empty, and pip asks PyPI.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

HOST = Path(__file__).parent / "host"
OWN_CAS = Path("/usr/local/share/ca-certificates")
PATHS = ("file:", "/", "~", ".")
SWITCHES = {"0", "1", "true", "false", "yes", "no", "on", "off"}


def pip_settings() -> dict[str, str]:
    """Read what this machine's pip is told by its files and its environment, but for the paths of this machine."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = {}
    for line in listing.stdout.splitlines():
        name, _, value = line.partition("=")
        # A container reaches what has an address. A certificate it does not, see OWN_CAS; and switches are habits.
        words = [
            word for word in ast.literal_eval(value).split() if not word.startswith(PATHS) and word not in SWITCHES
        ]
        if words:  # later lines win in pip, too
            found[name.rpartition(".")[2].removeprefix("default-")] = "\n    ".join(words)
    return found


def main() -> None:
    """Make docker/host anew."""
    shutil.rmtree(HOST / "ca", ignore_errors=True)
    (HOST / "pip.conf").unlink(missing_ok=True)
    for certificate in sorted(OWN_CAS.rglob("*.crt")):
        (HOST / "ca").mkdir(exist_ok=True)
        shutil.copyfile(certificate, HOST / "ca" / certificate.name)
    if settings := pip_settings():
        lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
        (HOST / "pip.conf").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
