"""Diagnostics: findings about a request, each with its rule and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpcml.errors import ConfigError

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Diagnostic:
    """One finding about a request: an error or a warning.

    Parameters
    ----------
    text : str
        The key, its value and the problem.
    remedy : str
        The text to type instead.
    source : str
        Origin of the rule, such as a site's documentation.
    soft : bool
        Whether the rule is a site limit that may have changed; ``cluster.strict=false`` makes it a
        warning.
    """

    text: str
    remedy: str
    source: str
    severity: Severity = "error"
    soft: bool = False

    def __post_init__(self) -> None:
        # Values typed by the user may contain line breaks; each field is printed on one line.
        for name in ("text", "remedy", "source"):
            object.__setattr__(self, name, _one_line(getattr(self, name)))

    def demoted(self) -> Diagnostic:
        return replace(self, severity="warning")


def _one_line(text: str) -> str:
    """Escape unprintable characters as Python does."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class RequestError(ConfigError):
    """Raised when a site would reject a request or its jobs could not work; lists all errors."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
        if len(self.diagnostics) == 1:
            (one,) = self.diagnostics
            super().__init__(one.text, one.remedy, f"[{one.source}]")
        else:
            hints = [line for one in self.diagnostics for line in (one.text, f"  {one.remedy}", f"  [{one.source}]")]
            super().__init__(f"the request has {len(self.diagnostics)} errors", *hints)
