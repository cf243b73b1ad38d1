"""Map: calls a user function for each row of a table of parameters.

Results are stored beside their parameters, and failures in a separate table.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from hpcml.data.rows import read_rows
from hpcml.errors import ConfigError, WorkloadError
from hpcml.keys import check_keys, choice, config_key, documented, kind, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.task_pool import TaskPool, Unit
from hpcml.workloads.functions import callables
from hpcml.workloads.functions.rows import Called, Row, call

if TYPE_CHECKING:
    from distributed import Client

ON_ERROR = ("keep", "raise")

# All rows and their results are in the head's memory.
_MOST_ROWS = 10_000_000

# Failed rows listed in warnings; the table has all of them.
_MOST_LISTED = 5


@documented
@dataclass(kw_only=True)
class Map:
    """Call a function for each row of a table of parameters.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    function: Any = config_key(
        MISSING,
        "Function to call, as mine.f, path/to/mine.py:f or {_target_: mine.f, _partial_: true, ...}; it returns a "
        "number, a text, a list, or a mapping or tuple of them, each of which becomes a column",
        kind("function"),
        example="mine.f",
    )
    parameters: Any = config_key(
        None,
        "Values by argument, combined each with each, the last argument's changing fastest; or the rows themselves",
        kind("mapping of lists, list of mappings, or null"),
        example="{x: [1, 2, 3]}",
    )
    table: str | None = config_key(
        None, "Instead of parameters: a CSV, Parquet or JSON Lines file whose columns are arguments", example="rows.csv"
    )
    arguments: Mapping[str, Any] | None = config_key(
        None, "Arguments that are the same for all rows; the function must not change them", example="{y: two}"
    )
    batch: int = config_key(1, "Rows of a unit of work; more for a function that takes milliseconds", whole())
    seed_argument: str | None = config_key(
        None,
        "Argument that gets a numpy.random.Generator of its row: the same numbers whatever the batch and the number of "
        "workers",
    )
    on_error: str = config_key(
        "keep", "keep: a row that fails is reported and the others go on. raise: end the run", choice(*ON_ERROR)
    )

    def __post_init__(self) -> None:
        check_keys(self, "workload.")
        callables.check_function(self.function)
        self._check_source()
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise ConfigError(f"workload.arguments={self.arguments}: not a mapping", "for example {x: 1, y: two}")
        if self.seed_argument is not None and not isinstance(self.seed_argument, str):
            raise ConfigError(f"workload.seed_argument={self.seed_argument}: must be an argument's name")

    def _check_source(self) -> None:
        """Check that the rows are given once, as values or as a file."""
        if (self.parameters is None) == (self.table is None):
            many = "one" if self.table is None else "only one"
            raise ConfigError(
                f"workload.parameters, workload.table: {many} of them must be given",
                "for example 'workload.parameters={x: [1, 2, 3]}' or workload.table=rows.csv",
            )
        if self.table is None:
            _check_parameters(self.parameters)
        elif not isinstance(self.table, str) or not self.table:
            raise ConfigError(f"workload.table={self.table}: not a file's path")

    @functools.cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of parameters, in order.

        Raises
        ------
        ConfigError
            If the table cannot be read, or there are too many rows.
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

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject arguments that the function does not take, and functions that do not pickle."""
        inputs.refuse("data", "model", what="workload=map")
        inputs.reject_preprocess("workload=map")
        function = callables.find(self.function)
        self._check_arguments(function)
        try:
            cloudpickle.dumps(function)
        except Exception as error:
            raise ConfigError(
                f"workload.function: {callables.name(function)}() cannot be sent to workers: {error}",
                "make it a function of a module, which uses nothing that is open",
            ) from error
        batches = "" if self.batch == 1 else f", {self.batch} at a time"
        description = f"{callables.name(self.function)} over {len(self.rows)} rows of {', '.join(self.names)}{batches}"
        n_units = -(-len(self.rows) // self.batch)
        return Prepared(n_units, description, functools.partial(self._run, inputs.seed))

    def _check_arguments(self, function: Callable[..., Any]) -> None:
        """Check that each argument is given once, and that the function takes those of every row."""
        source = f"workload.table={self.table}" if self.table is not None else "workload.parameters"
        fixed = self._fixed_arguments(function)
        for name in self.names:
            if name in fixed:
                raise ConfigError(f"{source}: '{name}' is given by {fixed[name]} too", "give it once")
        hint = "give it one value, workload.arguments.{0}=VALUE, or several, 'workload.parameters.{0}=[...]'"
        for names in dict.fromkeys(tuple(row) for row in self.rows):
            callables.check_arguments(function, {**dict.fromkeys(names, source), **fixed}, hint=hint)

    def _fixed_arguments(self, function: Callable[..., Any]) -> dict[str, str]:
        """Return the arguments that are given outside the rows, each with the key that gives it."""
        fixed = dict.fromkeys(self.arguments or {}, "workload.arguments")
        fixed |= dict.fromkeys(getattr(function, "keywords", {}), "workload._partial_")
        seed = self.seed_argument
        if seed is None:
            return fixed
        if seed in fixed:
            raise ConfigError(f"workload.seed_argument={seed}: {fixed[seed]} gives it too", "give it once")
        return fixed | {seed: "workload.seed_argument"}

    def _run(self, seed: int, client: Client, units: Units) -> Outcome:
        """Call the function on the workers."""
        callables.reach(self.function, client)
        done: dict[int, Row] = {}
        units.so_far = lambda: self._outcome(dict(done))
        with contextlib.closing(self._computed(TaskPool(client, units), seed)) as computed:
            for row in computed:
                done[row.number] = row
                if row.error is not None and self.on_error == "raise":
                    raise WorkloadError(self._describe(row))
        outcome = self._outcome(done)
        failed = outcome.metrics["n_failed"]
        if failed == len(self.rows):
            first = done[0]
            raise WorkloadError(
                f"all {failed} rows failed; first cause: {first.cause}",
                f"with {self._arguments_of(first)}; tracebacks are in the table failures",
                outcome=outcome,
            )
        return outcome

    def _computed(self, pool: TaskPool, seed: int) -> Generator[Row]:
        """Run the units and yield their rows; retry a unit that kills its workers row by row."""
        function = callables.find(self.function)
        shared = pool.spread(Called(function, dict(self.arguments or {}), self.seed_argument, seed))
        count = len(self.rows)

        def unit(numbers: range) -> Unit:
            first, last = numbers[0], numbers[-1]
            rows = [self.rows[number] for number in numbers]
            key = f"row {first}" if first == last else f"rows {first}-{last}"
            return key, (shared, first, rows)

        def split(suspect: Unit) -> list[Unit]:
            _, first, rows = suspect[1]
            if len(rows) == 1:
                return []
            pool.units.total += len(rows) - 1
            return [unit(range(number, number + 1)) for number in range(first, first + len(rows))]

        def failed(key: str, why: str) -> list[Row]:
            first, _, last = key.split()[1].partition("-")
            return [Row(number, error=why) for number in range(int(first), int(last or first) + 1)]

        batches = (range(begin, min(begin + self.batch, count)) for begin in range(0, count, self.batch))
        for _, rows in pool.each(call, map(unit, batches), failed=failed, split=split):
            yield from rows

    def _outcome(self, done: Mapping[int, Row]) -> Outcome:
        if not done:
            return Outcome()
        rows = [done[number] for number in sorted(done)]
        good, bad = [row for row in rows if row.error is None], [row for row in rows if row.error is not None]
        seconds = math.fsum(row.seconds or 0.0 for row in rows)
        return Outcome(
            metrics={"n_rows": len(self.rows), "n_done": len(good), "n_failed": len(bad), "function_s": seconds},
            tables=self._results(good) | self._failures(bad),
            warnings=self._warnings(bad),
            summary={"rows": f"{len(good)} of {len(self.rows)} done, {seconds:.1f} s in the function"},
        )

    def _results(self, good: Sequence[Row]) -> dict[str, Any]:
        """Return the table of results; no table without any."""
        if not good:
            return {}
        values = [row.values or {} for row in good]
        names = dict.fromkeys(name for each in values for name in each)
        columns = {name: [each.get(name) for each in values] for name in names}
        return {"results": self._beside(good, columns, {"seconds": [row.seconds for row in good]})}

    def _failures(self, bad: Sequence[Row]) -> dict[str, Any]:
        """Return the table of failures; no table without any."""
        if not bad:
            return {}
        why = {"error": [row.error for row in bad], "traceback": [row.traceback for row in bad]}
        return {"failures": self._beside(bad, why)}

    def _warnings(self, bad: Sequence[Row]) -> list[str]:
        lines = [self._describe(row) for row in bad[:_MOST_LISTED]]
        if len(bad) > _MOST_LISTED:
            lines.append(f"{len(bad) - _MOST_LISTED} more rows failed: see the table failures")
        return lines

    def _beside(self, rows: Sequence[Row], *columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Add columns to the parameters; rename a column if its name is taken."""
        found = {name: [self.rows[row.number].get(name) for row in rows] for name in self.names}
        for name, values in (pair for group in columns for pair in group.items()):
            found[_free(name, found)] = values
        return {_free("row", found): [row.number for row in rows], **found}

    def _describe(self, row: Row) -> str:
        return f"row {row.number} ({self._arguments_of(row)}) failed: {row.cause}"

    def _arguments_of(self, row: Row) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.rows[row.number].items())


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name = f"{name}_"
    return name


def _check_parameters(parameters: Any) -> None:
    if isinstance(parameters, Mapping):
        for name, values in parameters.items():
            _check_values(name, values)
    elif isinstance(parameters, str) or not isinstance(parameters, Sequence):
        raise ConfigError(
            f"workload.parameters={parameters!r}: neither a mapping nor a list of mappings",
            "for example 'workload.parameters={x: [1, 2], y: [3, 4]}' or 'workload.parameters=[{x: 1, y: 3}]'",
        )
    else:
        for row in parameters:
            if not isinstance(row, Mapping):
                raise ConfigError(f"workload.parameters: {row!r} is not a mapping of arguments to values")
    if not parameters:
        raise ConfigError("workload.parameters: it has no rows")


def _check_values(name: str, values: Any) -> None:
    if isinstance(values, (str, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
        raise ConfigError(
            f"workload.parameters.{name}={values!r}: not a list",
            f"write [{values}]; or the same for all rows: workload.arguments.{name}={values}",
        )
    if len(values) == 0:
        raise ConfigError(f"workload.parameters.{name}=[]: an empty list leaves no row")
