"""Rows of parameters, and what becomes of each when the user's function is called with it, on a worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcml.errors import HpcmlError
from hpcml.workloads.cells import cell


@dataclass(frozen=True)
class Row:
    """What became of a row of parameters.

    Parameters
    ----------
    values : mapping or None
        By column, what the function gave; None if it failed.
    error, traceback : str or None
        If it failed; no traceback if its worker died.
    """

    number: int
    seconds: float | None = None
    values: Mapping[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None

    @property
    def cause(self) -> str:
        """The first line of the error."""
        return (self.error or "").partition("\n")[0]


def call(
    shared: tuple[Callable[..., Any], Mapping[str, Any]],
    first: int,
    rows: Sequence[Mapping[str, Any]],
    seed_argument: str | None,
    seed: int,
) -> list[Row]:
    """Call the function with some rows; runs on a worker.

    Parameters
    ----------
    first : int
        Number of the first of the rows.
    """
    function, arguments = shared
    found = []
    for number, row in enumerate(rows, first):
        given = {**arguments, **row}
        if seed_argument is not None:  # the same as SeedSequence(seed).spawn(n)[number]
            given[seed_argument] = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        began = time.perf_counter()
        try:
            values = _columns(function(**given))
            found.append(Row(number, time.perf_counter() - began, values))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            seconds = time.perf_counter() - began
            below = error.__traceback__.tb_next if error.__traceback__ is not None else None  # the user's own lines
            text = "".join(traceback.format_exception(type(error), error, below))
            found.append(Row(number, seconds, error=_message(error), traceback=text))
    return found


def _message(error: BaseException) -> str:
    if isinstance(error, HpcmlError):
        return "; ".join([error.message, *error.hints])
    return f"{type(error).__name__}: {error}"


def _columns(result: Any) -> dict[str, Any]:
    """Make columns of what a function gave: named for mappings and named tuples, numbered for tuples."""
    if isinstance(result, tuple):
        names = getattr(result, "_fields", [f"result_{number}" for number in range(len(result))])
        result = dict(zip(names, result, strict=True))
    if isinstance(result, Mapping):
        return {str(name): cell(value) for name, value in result.items()}
    return {"result": cell(result)}
