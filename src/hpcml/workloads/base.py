"""The contract between a workload and the launcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hpcml.data import Blocks, Dataset
from hpcml.errors import ConfigError
from hpcml.parts import Parts

if TYPE_CHECKING:
    from distributed import Client


# How the names of metrics end that were measured, times, rates and memory: no two runs have them in common.
MEASURED = ("_s", "_memory")


@dataclass(frozen=True)
class Inputs:
    """What a workload computes on and with.

    Parameters
    ----------
    parts : callable or None
        Gives for a table's name where workers write it in parts; None before a run.
    """

    data: Dataset | Blocks | None
    model: Any
    seed: int
    parts: Callable[[str], Parts] | None = None

    def refuse(self, *names: str, what: str) -> None:
        """Refuse data or a model where a workload would not look at it.

        Parameters
        ----------
        *names : {"data", "model"}
        what : str
            The workload, for the message.

        Raises
        ------
        ConfigError
        """
        for name in names:
            if getattr(self, name) is not None:
                raise ConfigError(f"{name}: {what} takes none", f"leave it out: {name}=null")


@dataclass(frozen=True)
class Outcome:
    """What a workload gives back; the launcher writes it.

    Parameters
    ----------
    metrics : mapping
        Numbers, texts, lists and mappings; becomes metrics.json. What was measured ends in one of :data:`MEASURED`.
    tables : mapping of str to (mapping of str to list)
        Tables by name, each a mapping of column name to values of equal length; each becomes a Parquet and a CSV file.
    model : estimator or None
        The fitted model.
    warnings : sequence of str
        What the user should know although the run went well, for example candidates that failed.
    summary : mapping of str to str
        Lines for the summary on the screen: label and text.
    figures : mapping of str to matplotlib.figure.Figure
        Plots by name; each becomes a PNG file.
    features : sequence of str or None
        The names of the columns that the model was fitted on; empty: they are not known. None: those of the run's data.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    model: Any = None
    warnings: Sequence[str] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    features: Sequence[str] | None = None


class Units:
    """Units of work, such as one fold's fit: how many there are, which are done. Safe to use from any thread.

    Attributes
    ----------
    total : int
        How many there will be; a workload that learns it better while it runs sets it.
    so_far : callable
        Gives what the finished units amount to; a workload sets it, the launcher writes it when a run is cut short.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.so_far: Callable[[], Outcome] = Outcome
        self._done: set[str] = set()
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        return len(self._done)

    def finish(self, key: str, result: Any = None) -> None:  # noqa: ARG002
        """Note that a unit is done: every unit of every workload passes through here.

        Parameters
        ----------
        key : str
            Names the unit; the same whenever the same run is started again, for example ``candidate 3, fold 0``.
        result : object
            What it gave, from which the workload can make what it needs of it.
        """
        with self._lock:
            self._done.add(key)


class Workload(Protocol):
    """What the launcher asks of a workload."""

    def check(self, inputs: Inputs) -> int:
        """Refuse what cannot work; called before any cluster starts.

        Returns
        -------
        int
            How many units of work the run will have.

        Raises
        ------
        ConfigError
            If the workload cannot run on these inputs.
        """
        ...

    def describe(self, inputs: Inputs) -> str:
        """Say in one line what will be computed; called after ``check``."""
        ...

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Compute, on workers that are there; called after ``check``.

        Raises
        ------
        WorkloadError
            If it fails; its ``outcome`` holds what had been computed, if ``units.so_far`` does not say it.
        """
        ...
