"""Map: the user's own function over a table of parameters, its results beside them, failures without the rest."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np

from hpcml.data.rows import read_rows
from hpcml.errors import ConfigError, WorkloadError, check_whole, nearest
from hpcml.workloads import callables
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.crew import Crew, Unit
from hpcml.workloads.rows import Row, call

if TYPE_CHECKING:
    from distributed import Client

ON_ERROR = ("keep", "raise")

# All rows and their results are in the head's memory.
_MOST_ROWS = 10_000_000

# Rows that failed that are told one by one; all of them are in the table.
_MOST_TOLD = 5


@dataclass(kw_only=True)
class Map:
    """Call a function with each row of a table of parameters.

    Parameters
    ----------
    function : str or callable
        ``mine.f`` of a file in the working directory or a package, ``path/to/mine.py:f``, or the function itself. It
        gives a number, a text, a list, or a mapping or tuple of them, each of which becomes a column.
    parameters : mapping of str to list, or list of mappings, or None
        By arguments' names the values to combine, each with each, the last name's changing fastest; or the rows.
    table : str or None
        Instead of ``parameters``: a CSV, Parquet or JSON Lines file whose columns are arguments.
    arguments : mapping or None
        The same for all rows. The function must not change them.
    batch : int
        Rows of a unit of work: more for a function that takes milliseconds.
    seed_argument : str or None
        Name of an argument that gets a :class:`numpy.random.Generator` of the row's own: the same numbers whatever the
        batch and the number of workers.
    on_error : {"keep", "raise"}
        "raise" ends the run at the first row that fails.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    function: Any
    parameters: Any = None
    table: str | None = None
    arguments: Mapping[str, Any] | None = None
    batch: int = 1
    seed_argument: str | None = None
    on_error: str = "keep"

    def __post_init__(self) -> None:
        callables.check_function(self.function)
        if (self.parameters is None) == (self.table is None):
            many = "one" if self.table is None else "only one"
            raise ConfigError(
                f"workload.parameters, workload.table: {many} of them must be given",
                "for example 'workload.parameters={x: [1, 2, 3]}' or workload.table=rows.csv",
            )
        if self.table is not None and (not isinstance(self.table, str) or not self.table):
            raise ConfigError(f"workload.table={self.table}: not a file's path")
        if self.parameters is not None:
            _check_shape(self.parameters)
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise ConfigError(f"workload.arguments={self.arguments}: not a mapping", "for example {x: 1, y: two}")
        check_whole("workload.batch", self.batch)
        if self.seed_argument is not None and not isinstance(self.seed_argument, str):
            raise ConfigError(f"workload.seed_argument={self.seed_argument}: must be an argument's name")
        if self.on_error not in ON_ERROR:
            raise ConfigError(f"workload.on_error={self.on_error}: unknown", nearest(self.on_error, ON_ERROR))

    @functools.cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of parameters, in order.

        Raises
        ------
        ConfigError
            If the table cannot be read, or they are too many.
        """
        if self.table is not None:
            return read_rows(self.table)
        if not isinstance(self.parameters, Mapping):
            return [dict(row) for row in self.parameters]
        count = math.prod(len(values) for values in self.parameters.values())
        if count > _MOST_ROWS:
            raise ConfigError(f"workload.parameters: make {count} rows, and {_MOST_ROWS} is the most", "split them up")
        return [
            dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*self.parameters.values())
        ]

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the parameters, in order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def check(self, inputs: Inputs) -> int:
        """Refuse arguments that the function does not take, and functions that cannot travel; count the units."""
        inputs.refuse("data", "model", what="workload=map")
        function = callables.find(self.function)
        source = f"workload.table={self.table}" if self.table is not None else "workload.parameters"
        fixed = dict.fromkeys(self.arguments or {}, "workload.arguments")
        fixed |= dict.fromkeys(getattr(function, "keywords", {}), "workload._partial_")
        if self.seed_argument is not None:
            if self.seed_argument in fixed:
                raise ConfigError(
                    f"workload.seed_argument={self.seed_argument}: {fixed[self.seed_argument]} gives it too",
                    "give it once",
                )
            fixed[self.seed_argument] = "workload.seed_argument"
        for name in self.names:
            if name in fixed:
                raise ConfigError(f"{source}: '{name}' is given by {fixed[name]} too", "give it once")
        hint = "give it one value, workload.arguments.{0}=VALUE, or several, 'workload.parameters.{0}=[...]'"
        for names in dict.fromkeys(tuple(row) for row in self.rows):
            callables.check_arguments(function, {**dict.fromkeys(names, source), **fixed}, hint=hint)
        try:
            cloudpickle.dumps(function)
        except Exception as error:
            raise ConfigError(
                f"workload.function: {callables.name(function)}() cannot be sent to workers: {error}",
                "make it a function of a module, which uses nothing that is open",
            ) from error
        return -(-len(self.rows) // self.batch)

    def describe(self, inputs: Inputs) -> str:  # noqa: ARG002
        """Say what will be computed."""
        batches = "" if self.batch == 1 else f", {self.batch} at a time"
        return f"{callables.name(self.function)} over {len(self.rows)} rows of {', '.join(self.names)}{batches}"

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Call the function on the workers."""
        callables.reach(self.function, client)
        done: dict[int, Row] = {}
        units.so_far = lambda: self._outcome(dict(done))
        with contextlib.closing(self._computed(Crew(client, units), inputs.seed)) as computed:
            for row in computed:
                done[row.number] = row
                if row.error is not None and self.on_error == "raise":
                    raise WorkloadError(self._tell(row))
        outcome = self._outcome(done)
        failed = outcome.metrics["n_failed"]
        if failed == len(self.rows):
            first = done[0]
            raise WorkloadError(
                f"all {failed} rows failed; first cause: {first.cause}",
                f"with {self._show(first)}; tracebacks are in the table failures",
                outcome=outcome,
            )
        return outcome

    def _computed(self, crew: Crew, seed: int) -> Generator[Row]:
        """Do the units, and of those that kill their workers each row by itself instead."""
        shared = crew.share((callables.find(self.function), dict(self.arguments or {})))
        count = len(self.rows)

        def unit(numbers: range) -> Unit:
            first, last = numbers[0], numbers[-1]
            rows = [self.rows[number] for number in numbers]
            key = f"row {first}" if first == last else f"rows {first}-{last}"
            return key, (shared, first, rows, self.seed_argument, seed)

        def split(suspect: Unit) -> list[Unit]:
            _, first, rows, *_ = suspect[1]
            if len(rows) == 1:
                return []
            crew.units.total += len(rows) - 1
            return [unit(range(number, number + 1)) for number in range(first, first + len(rows))]

        def failed(key: str, why: str) -> list[Row]:
            first, _, last = key.split()[1].partition("-")
            return [Row(number, error=why) for number in range(int(first), int(last or first) + 1)]

        batches = (range(begin, min(begin + self.batch, count)) for begin in range(0, count, self.batch))
        for _, rows in crew.each(call, map(unit, batches), failed=failed, split=split):
            yield from rows

    def _outcome(self, done: Mapping[int, Row]) -> Outcome:
        if not done:
            return Outcome()
        rows = [done[number] for number in sorted(done)]
        good, bad = [row for row in rows if row.error is None], [row for row in rows if row.error is not None]
        seconds = math.fsum(row.seconds or 0.0 for row in rows)
        tables = {}
        if good:
            names = list(dict.fromkeys(name for row in good for name in row.values or {}))
            given = {name: [(row.values or {}).get(name) for row in good] for name in names}
            tables["results"] = self._beside(good, given, {"seconds": [row.seconds for row in good]})
        if bad:
            why = {"error": [row.error for row in bad], "traceback": [row.traceback for row in bad]}
            tables["failures"] = self._beside(bad, why)
        lines = [self._tell(row) for row in bad[:_MOST_TOLD]]
        if len(bad) > _MOST_TOLD:
            lines.append(f"{len(bad) - _MOST_TOLD} more rows failed: see the table failures")
        return Outcome(
            metrics={"n_rows": len(self.rows), "n_done": len(good), "n_failed": len(bad), "function_s": seconds},
            tables=tables,
            warnings=lines,
            summary={"rows": f"{len(good)} of {len(self.rows)} done, {seconds:.1f} s in the function"},
        )

    def _beside(self, rows: Sequence[Row], *columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Put columns beside the parameters; what has a name that is there already gets another."""
        found = {name: [self.rows[row.number].get(name) for row in rows] for name in self.names}
        for name, values in (pair for group in columns for pair in group.items()):
            found[_free(name, found)] = values
        return {_free("row", found): [row.number for row in rows], **found}

    def _tell(self, row: Row) -> str:
        return f"row {row.number} ({self._show(row)}) failed: {row.cause}"

    def _show(self, row: Row) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.rows[row.number].items())


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name = f"{name}_"
    return name


def _check_shape(parameters: Any) -> None:
    if isinstance(parameters, Mapping):
        for name, values in parameters.items():
            if isinstance(values, (str, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
                raise ConfigError(
                    f"workload.parameters.{name}={values!r}: not a list",
                    f"write [{values}]; or the same for all rows: workload.arguments.{name}={values}",
                )
            if len(values) == 0:
                raise ConfigError(f"workload.parameters.{name}=[]: an empty list leaves no row")
    elif isinstance(parameters, str) or not isinstance(parameters, Sequence):
        raise ConfigError(
            f"workload.parameters={parameters!r}: neither a mapping nor a list of mappings",
            "for example 'workload.parameters={x: [1, 2], y: [3, 4]}' or 'workload.parameters=[{x: 1, y: 3}]'",
        )
    for row in [] if isinstance(parameters, Mapping) else parameters:
        if not isinstance(row, Mapping):
            raise ConfigError(f"workload.parameters: {row!r} is no mapping of arguments to values")
    if not parameters:
        raise ConfigError("workload.parameters: there are no rows in it")
