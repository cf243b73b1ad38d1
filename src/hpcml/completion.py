"""Bash completion: verbs and run ids from hpcml, overrides from Hydra."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable

from hpcml import runs

# Bash splits words at = and : as well as at spaces, and expects only the text after the last of
# them.
SCRIPT = r"""_hpcml() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##* }"
    local kept=""
    if [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]]; then kept="${word%=*}="; fi
    mapfile -t COMPREPLY < <(COMP_LINE="$line" "${COMP_WORDS[0]}" completion words 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" != *[=./] ]]; then COMPREPLY[0]+=" "; fi
}
complete -o nospace -o default -F _hpcml hpcml
"""


def words(line: str, verbs: Iterable[str], composing: Iterable[str]) -> list[str]:
    """Return the possible completions of a command line.

    Parameters
    ----------
    line : str
        Command line up to the cursor.
    verbs, composing : iterable of str
        All verbs, and those that accept config overrides.
    """
    typed = line.split(" ")[1:]
    if len(typed) <= 1:
        return [verb for verb in sorted(verbs) if verb.startswith(typed[-1] if typed else "")]
    verb, *rest = typed
    if verb in composing:
        return _overrides(rest)
    if verb == "status":
        known = [paths.run_id for paths in runs.find_all(runs.roots())]
        return [name for name in ["last", *known] if name.startswith(rest[-1])]
    return []


def _overrides(rest: list[str]) -> list[str]:
    """Return completions from Hydra, which prints them on one line."""
    from hpcml.config.compose import compose

    answer = io.StringIO()
    os.environ["COMP_LINE"] = " ".join(["hpcml", *rest])
    with contextlib.redirect_stdout(answer):
        compose("hpcml", ["--shell-completion", "query=bash"])
    return answer.getvalue().split()
