"""The interface between workloads and the launcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hpcml.data import Blocks, Dataset, in_memory
from hpcml.errors import ConfigError
from hpcml.parts import Parts
from hpcml.workloads.footprint import Footprint
from hpcml.workloads.trial.trial import Trial

if TYPE_CHECKING:
    from distributed import Client


# Suffixes of measured metrics (times, rates, memory), which differ between any two runs.
MEASURED = ("_s", "_memory")


@dataclass(frozen=True)
class Inputs:
    """The data, model and seed of a run.

    Parameters
    ----------
    preprocess : "auto", "none" or transformer
        See :func:`hpcml.workloads.inputs.preprocessing.suit`.
    prefix : str
        The text before the names of the model's own parameters, if preprocessing made a pipeline of
        it.
    notes : mapping of str to str
        Lines for the summary that are known before the run.
    """

    data: Dataset | Blocks | None
    model: Any
    seed: int
    preprocess: Any = "none"
    prefix: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset:
        """The data in memory.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.data is None:
            raise ConfigError("data: there is none", "for example data=digits")
        return in_memory(self.data)

    def reject_preprocess(self, what: str) -> None:
        """Reject a transformer that the workload would ignore.

        Parameters
        ----------
        what : str
            The workload, for the message.

        Raises
        ------
        ConfigError
        """
        if not isinstance(self.preprocess, str) and self.preprocess is not None:
            raise ConfigError(f"preprocess: {what} takes no transformer", "leave it out: preprocess=none")

    def refuse(self, *names: str, what: str) -> None:
        """Reject data or a model that the workload would ignore.

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
    """The results of a workload; the launcher writes them to files.

    Parameters
    ----------
    metrics : mapping
        Numbers, texts, lists and mappings; becomes metrics.json. Names of measured values end in
        one of :data:`MEASURED`.
    tables : mapping of str to (mapping of str to list)
        Tables by name, each a mapping of column name to values of equal length; each becomes a
        Parquet and a CSV file.
    model : estimator or None
        The fitted model.
    warnings : sequence of str
        Problems that did not stop the run, for example candidates that failed.
    summary : mapping of str to str
        Lines for the summary on the screen: label and text.
    figures : mapping of str to matplotlib.figure.Figure
        Plots by name; each becomes a PNG file.
    features : sequence of str or None
        The names of the columns that the model was fitted on. Empty: unknown. None: the columns of
        the run's data.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    model: Any = None
    warnings: Sequence[str] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    features: Sequence[str] | None = None


class Units:
    """Units of work of a run, such as the fit of one fold: their number and the finished ones.

    Thread-safe.

    Parameters
    ----------
    total : int
        The number of units; a workload that learns it only while it runs updates it.
    parts : callable or None
        Returns where to put a table, given by name, that workers write in parts. None: nothing is
        written.
    directory : Path or None
        For large data that workers read during the run. None: they may have other file systems.

    Attributes
    ----------
    so_far : callable
        Returns the outcome of the finished units. The workload sets it; the launcher writes the
        outcome when a run is cut short.
    """

    def __init__(self, total: int, parts: Callable[[str], Parts] | None = None, directory: Path | None = None) -> None:
        self.total = total
        self.parts = parts
        self.directory = directory
        self.so_far: Callable[[], Outcome] = Outcome
        self._done: set[str] = set()
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        return len(self._done)

    def finish(self, key: str, result: Any = None) -> None:  # noqa: ARG002
        """Mark a unit as finished; every unit of every workload passes through here.

        Parameters
        ----------
        key : str
            The name of the unit, the same whenever the same run is started again, for example
            ``candidate 3, fold 0``.
        result : object
            The result of the unit, from which the workload can compute its outcome.
        """
        with self._lock:
            self._done.add(key)


@dataclass(frozen=True)
class Prepared:
    """A workload that has passed all checks on its inputs and can run.

    Parameters
    ----------
    n_units : int
        The number of units of work, or an upper bound.
    description : str
        The computation in one line.
    run : callable
        Computes on a client's workers and returns the :class:`Outcome`. It may be called several
        times, each time with new :class:`Units`. Raises :class:`WorkloadError` if it fails; the
        error's ``outcome`` holds the results so far, if ``units.so_far`` does not return them.
    footprint : Footprint or None
        None: unknown.
    notes : mapping of str to str
        Lines for the plan and the summary, about the data and its preprocessing.
    trial : Trial or None
        What to try on a few samples before anything is started.
    """

    n_units: int
    description: str
    run: Callable[[Client, Units], Outcome]
    footprint: Footprint | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    trial: Trial | None = None


class Workload(Protocol):
    """A computation that the launcher can run."""

    def prepare(self, inputs: Inputs) -> Prepared:
        """Check the inputs and prepare the run; called before any cluster starts.

        Raises
        ------
        ConfigError
            If the workload cannot run on these inputs.
        """
        ...
