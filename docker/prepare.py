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

# Of pip's settings those that name things which a container reaches as well. A certificate does not: see OWN_CAS.
SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")


def pip_settings() -> dict[str, str]:
    """Read what this machine's pip is told by its files and its environment, without directories of this machine."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = {}
    for line in listing.stdout.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in SETTINGS:
            words = [word for word in ast.literal_eval(value).split() if not word.startswith(("file:", "/"))]
            if words:  # later lines win in pip, too
                found[setting.removeprefix("default-")] = "\n    ".join(words)
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
