"""Function: the user's own function, called once in the head with the cluster's client and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.errors import ConfigError, HpcmlError, WorkloadError
from hpcml.workloads import callables
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.cells import cell, refuse_lazy

if TYPE_CHECKING:
    from distributed import Client


@dataclass(kw_only=True)
class Function:
    """Call a function ``f(client, data, **arguments)`` in the head.

    The client is of the run's cluster, and the current one: Dask collections compute on it, and so does joblib within
    ``joblib.parallel_config("dask")``.

    Parameters
    ----------
    function : str or callable
        ``mine.f`` of a file in the working directory or a package, ``path/to/mine.py:f``, or the function itself. It
        gives an :class:`hpcml.Outcome`, a mapping of names to metrics, a number, or None.
    arguments : mapping or None
        Its further arguments.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    function: Any
    arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        callables.check_function(self.function)
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise ConfigError(f"workload.arguments={self.arguments}: not a mapping", "for example {x: 1, y: two}")

    def check(self, inputs: Inputs) -> int:
        """Refuse arguments that the function does not take."""
        inputs.refuse("model", what="workload=python")
        given = {name: f"workload.arguments.{name}" for name in self.arguments or {}}
        callables.check_arguments(
            callables.find(self.function), given, leading=("client", "data"), hint="type workload.arguments.{0}=VALUE"
        )
        return 1

    def describe(self, inputs: Inputs) -> str:  # noqa: ARG002
        """Say what will be computed."""
        given = ", ".join(["client", "data", *(f"{name}={value}" for name, value in (self.arguments or {}).items())])
        return f"{callables.name(self.function)}({given})"

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Call it, and make an outcome of what it gives."""
        callables.reach(self.function, client)
        function = callables.find(self.function)
        try:
            with client.as_current():
                result = function(client, inputs.data, **(self.arguments or {}))
        except HpcmlError as error:
            raise WorkloadError(error.message, *error.hints, outcome=getattr(error, "outcome", None)) from error
        except (Exception, SystemExit) as error:
            where = callables.place(error, function)
            raise WorkloadError(
                f"{callables.name(self.function)}() failed: {type(error).__name__}: {error}",
                *([f"at {where}"] if where else []),
            ) from error
        outcome = self._outcome(result)
        units.finish("function", outcome)
        return outcome

    def _outcome(self, result: Any) -> Outcome:
        if isinstance(result, Outcome):
            return self._checked(result)
        if isinstance(result, Mapping):
            return self._checked(Outcome(metrics=result, summary=_lines(result)))
        if result is None:
            return Outcome()
        if isinstance(result, (bool, int, float, np.number)):
            return self._checked(Outcome(metrics={"result": result}, summary=_lines({"result": result})))
        refused = _trouble(refuse_lazy, result)
        raise WorkloadError(
            f"{callables.name(self.function)}(): {refused or f'a {type(result).__qualname__} was returned'}",
            "return a number, a mapping of names to numbers, an hpcml.Outcome, or nothing",
        )

    def _checked(self, outcome: Outcome) -> Outcome:
        """Refuse what cannot be written; the error carries what can."""
        wrong = {f"metric '{name}'": _trouble(cell, value) for name, value in outcome.metrics.items()}
        wrong |= {f"table '{name}'": _trouble(_check_table, table) for name, table in outcome.tables.items()}
        good = replace(
            outcome,
            metrics={
                str(name): cell(value) for name, value in outcome.metrics.items() if not wrong[f"metric '{name}'"]
            },
            tables={name: table for name, table in outcome.tables.items() if not wrong[f"table '{name}'"]},
        )
        for what, trouble in wrong.items():
            if trouble is not None:
                message = f"{callables.name(self.function)}(): {what}: {trouble}"
                raise WorkloadError(message, "the rest is saved", outcome=good)
        return good


def _lines(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Make lines for the screen of metrics that are one number or text each."""
    kinds = (bool, int, float, str, np.number)
    return {str(name): f"{value}" for name, value in metrics.items() if isinstance(value, kinds)}


def _check_table(table: Any) -> None:
    refuse_lazy(table)
    lengths = {}
    for name, column in table.items():
        refuse_lazy(column)
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        raise WorkloadError(f"its columns have different lengths: {lengths}")


def _trouble(check: Callable[[Any], Any], value: Any) -> str | None:
    try:
        check(value)
    except WorkloadError as error:
        return "; ".join([error.message, *error.hints])
    except (AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None
