"""Rows of parameters: calls of the user function on a worker, and their results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcml.errors import HpcmlError
from hpcml.workloads.functions.cells import cell


@dataclass(frozen=True)
class Row:
    """The result of a row of parameters.

    Parameters
    ----------
    values : mapping or None
        The function's results by column; None if it failed.
    error, traceback : str or None
        Set if it failed; no traceback if its worker died.
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


@dataclass(frozen=True)
class Called:
    """The function, and the arguments that all rows share.

    Parameters
    ----------
    seed_argument : str or None
        The argument that gets a separate generator for each row, derived from ``seed``.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    seed_argument: str | None
    seed: int


def call(called: Called, first: int, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Call the function for some rows, on a worker.

    Parameters
    ----------
    first : int
        The number of the first row.
    """
    found = []
    for number, row in enumerate(rows, first):
        given = {**called.arguments, **row}
        if called.seed_argument is not None:  # equal to SeedSequence(seed).spawn(n)[number]
            sequence = np.random.SeedSequence(called.seed, spawn_key=(number,))
            given[called.seed_argument] = np.random.default_rng(sequence)
        began = time.perf_counter()
        try:
            values = _columns(called.function(**given))
            found.append(Row(number, time.perf_counter() - began, values))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            seconds = time.perf_counter() - began
            # Skip the frame of this function, so that the traceback shows only user code.
            below = error.__traceback__.tb_next if error.__traceback__ is not None else None
            text = "".join(traceback.format_exception(type(error), error, below))
            found.append(Row(number, seconds, error=_message(error), traceback=text))
    return found


def _message(error: BaseException) -> str:
    if isinstance(error, HpcmlError):
        return "; ".join([error.message, *error.hints])
    return f"{type(error).__name__}: {error}"


def _columns(result: Any) -> dict[str, Any]:
    """Convert a function's result to columns.

    Mappings and named tuples give the names of the columns; tuples are numbered.
    """
    if isinstance(result, tuple):
        names = getattr(result, "_fields", [f"result_{number}" for number in range(len(result))])
        result = dict(zip(names, result, strict=True))
    if isinstance(result, Mapping):
        return {str(name): cell(value) for name, value in result.items()}
    return {"result": cell(result)}
