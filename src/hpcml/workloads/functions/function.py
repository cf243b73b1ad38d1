"""Function: a user function, called once in the head with the cluster's client and the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.errors import ConfigError, HpcmlError, WorkloadError
from hpcml.keys import config_key, documented, kind
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.functions import callables
from hpcml.workloads.functions.cells import cell, refuse_lazy

if TYPE_CHECKING:
    from distributed import Client


@documented
@dataclass(kw_only=True)
class Function:
    """Call a function ``f(client, data, **arguments)`` in the head.

    The client is connected to the run's cluster and is the current one: Dask collections compute on
    it, and so does joblib within ``joblib.parallel_config("dask")``.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    function: Any = config_key(
        MISSING,
        "Function to call, as mine.f of a file in the working directory or a package, or path/to/mine.py:f; it returns "
        "an hpcml.Outcome, a mapping of names to metrics, a number or None",
        kind("function"),
        example="mine.f",
    )
    arguments: Mapping[str, Any] | None = config_key(None, "Its further arguments", example="{x: 1}")

    def __post_init__(self) -> None:
        callables.check_function(self.function)
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise ConfigError(f"workload.arguments={self.arguments}: not a mapping", "for example {x: 1, y: two}")

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject arguments that the function does not take."""
        inputs.refuse("model", what="workload=python")
        inputs.reject_preprocess("workload=python")
        given = {name: f"workload.arguments.{name}" for name in self.arguments or {}}
        callables.check_arguments(
            callables.find(self.function), given, leading=("client", "data"), hint="type workload.arguments.{0}=VALUE"
        )
        shown = ", ".join(["client", "data", *(f"{name}={value}" for name, value in (self.arguments or {}).items())])
        description = f"{callables.name(self.function)}({shown})"
        return Prepared(1, description, functools.partial(self._run, inputs.data))

    def _run(self, data: Any, client: Client, units: Units) -> Outcome:
        """Call the function and convert its result to an outcome."""
        callables.reach(self.function, client)
        function = callables.find(self.function)
        try:
            with client.as_current():
                result = function(client, data, **(self.arguments or {}))
        except HpcmlError as error:
            raise WorkloadError(error.message, *error.hints, outcome=getattr(error, "outcome", None)) from error
        except (Exception, SystemExit) as error:
            where = callables.place(error, function)
            raise WorkloadError(
                f"{callables.name(self.function)}() failed: {cause(error)}",
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
        """Reject values that cannot be written; the error carries the rest of the outcome."""
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
    """Render summary lines for metrics that are a single number or text."""
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
