"""Complaints: what is wrong with a request, by which rule, and what to type instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpcml.errors import ConfigError

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong, or doubtful.

    Parameters
    ----------
    text : str
        The key and its value, and the rule that it breaks.
    remedy : str
        What to type instead.
    source : str
        Where the rule comes from.
    soft : bool
        It breaks a limit of the site's that may have changed: ``cluster.strict=false`` makes a warning of it.
    """

    text: str
    remedy: str
    source: str
    severity: Severity = "error"
    soft: bool = False

    def __post_init__(self) -> None:
        # one line each, whatever the user's value holds
        for name in ("text", "remedy", "source"):
            object.__setattr__(self, name, _one_line(getattr(self, name)))

    def demoted(self) -> Complaint:
        return replace(self, severity="warning")


def _one_line(text: str) -> str:
    """Write characters that cannot be printed as Python does."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class RequestError(ConfigError):
    """Raised when a site would refuse a request, or its jobs could not work; says all that is wrong at once."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        self.complaints = [complaint for complaint in complaints if complaint.severity == "error"]
        if len(self.complaints) == 1:
            (one,) = self.complaints
            super().__init__(one.text, one.remedy, f"[{one.source}]")
        else:
            hints = [line for one in self.complaints for line in (one.text, f"  {one.remedy}", f"  [{one.source}]")]
            super().__init__(f"{len(self.complaints)} things are wrong with this request", *hints)
