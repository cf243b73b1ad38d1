"""A chain of partial fits: each waits for the previous one while other workers read ahead."""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcml.data import Blocks, Dataset
from hpcml.data.blocks import Block
from hpcml.workloads.engine.recomputable import Recomputable, died
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.incremental.scan import Rows, loaded

if TYPE_CHECKING:
    from distributed import Future

# Blocks between two visits of the model to the head: at most this many are recomputed when the
# model's worker dies, and they are reported as finished only then.
_STRETCH = 16

# Fits in flight, enough that a worker never waits for the head.
_SENT = 4

# The share of the workers' memory up to which blocks stay there from pass to pass; Dask spills from
# 0.6 on.
_KEPT = 0.3

# Parts of scikit-learn's ValueError messages for weights that overflow (_sgd_fast, MLP*).
_OVERFLOWS = ("Floating-point under-/overflow", "non-finite parameter weights")


@dataclass(frozen=True)
class State:
    """A model at one point of a pass.

    Parameters
    ----------
    rows : int
        Rows that it has learned from in this pass.
    fit_s : float
        Seconds of ``partial_fit`` in this pass.
    overflow : str or None
        scikit-learn's message when the weights overflowed; the model is the last one before that.
    """

    model: Any
    rows: int = 0
    fit_s: float = 0.0
    overflow: str | None = None

    def __sizeof__(self) -> int:
        # Dask compares sizes to decide whether the model or the block moves.
        return object.__sizeof__(self) + _n_bytes(list(vars(self.model).values()))


def _n_bytes(value: Any) -> int:
    return sum(map(_n_bytes, value)) if isinstance(value, list) else int(getattr(value, "nbytes", 0))


def prepare(number: int, source: Block | Dataset, rows: Rows) -> tuple[Any, Any]:
    """Read the training rows of a block, on a worker."""
    return rows.of(number, loaded(source), held_out=False)


def fit(state: State, block: tuple[Any, Any], classes: Any) -> State:
    """Fit the model to one block, on a worker.

    The model in ``state`` is not modified: if a worker dies, the next one starts from it again.
    """
    X, y = block
    if state.overflow is not None or not len(X):
        return state
    model = copy.deepcopy(state.model)
    began = time.perf_counter()
    try:
        if y is None:
            model.partial_fit(X)
        else:
            model.partial_fit(X, y, **({} if classes is None else {"classes": classes}))
    except ValueError as error:
        if any(text in str(error) for text in _OVERFLOWS):
            return replace(state, overflow=str(error))
        raise
    return State(model, state.rows + len(X), state.fit_s + time.perf_counter() - began)


def read_and_fit(state: State, number: int, source: Block | Dataset, rows: Rows, classes: Any) -> State:
    """Read one block and fit the model to it, on a worker."""
    return fit(state, prepare(number, source, rows), classes)


class Source:
    """Blocks as task arguments: persisted on the workers if all fit, otherwise read when needed."""

    def __init__(self, pool: TaskPool, blocks: Blocks) -> None:
        self.pool, self.blocks = pool, blocks
        self.keeps = False
        self._kept: dict[int, Recomputable] = {}

    def settle(self, n_bytes: int | None) -> None:
        """Decide whether to persist blocks, given their size and the workers' current memory."""
        workers = self.pool.client.scheduler_info(n_workers=-1)["workers"].values()
        memory = sum(worker["memory_limit"] or 0 for worker in workers)
        self.keeps = n_bytes is not None and n_bytes < _KEPT * memory
        if not self.keeps:
            self._kept.clear()

    def __call__(self, number: int) -> Any:
        block = self.blocks.block(number)
        if not self.keeps:
            return block
        if number not in self._kept:
            self._kept[number] = self.pool.make(loaded, block)
        return self._kept[number]


@dataclass(frozen=True)
class Chain:
    """Fit a model to blocks, one after the other.

    Parameters
    ----------
    source : callable
        Returns the task argument for a block, given its number.
    rows : Recomputable
        :class:`Rows`.
    classes : ndarray or None
    """

    pool: TaskPool
    source: Callable[[int], Any]
    rows: Recomputable
    classes: Any

    def run(self, model: Any, order: Sequence[int], name: str) -> State:
        """Fit the model to blocks in the given order.

        Parameters
        ----------
        name : str
            The name of the pass, for the units' keys.

        Raises
        ------
        WorkloadError
            If a block cannot be read or fitted to.
        """
        state: State = State(model)
        ahead: deque[Future[Any]] = deque()
        coming = self._read_ahead(order, ahead)
        for begin in range(0, len(order), _STRETCH):
            end = begin + _STRETCH
            todo = [(number, f"{name}, fit of block {number}") for number in order[begin:end]]
            found = self._together(state, todo, coming)
            if found is None:
                self.pool.wait_for(list(ahead))  # so that nothing else is in flight
                ahead.clear()
                found, coming = self._one_by_one(state, todo), self._read_ahead(order[end:], ahead)
            state = found
            for _, key in todo[:-1]:
                self.pool.units.finish(key)
            self.pool.units.finish(todo[-1][1], state)
            if state.overflow is not None:
                break
        return state

    def _together(self, state: State, todo: Sequence[tuple[int, str]], coming: Iterator[Future[Any]]) -> State | None:
        """Fit the model to some blocks, submitting ahead; None if workers died."""
        fitted: Any = self.pool.share(state)
        sent: deque[tuple[str, Future[Any]]] = deque()
        try:
            for (_, key), block in zip(todo, coming, strict=False):
                # Fits have priority over reads of later blocks, because they are the critical path.
                fitted = self.pool.submit(fit, fitted, block, self.classes, priority=1)
                sent.append((key, fitted))
                if len(sent) >= _SENT and not self._went_well(*sent.popleft()):
                    return None
            while len(sent) > 1:
                if not self._went_well(*sent.popleft()):
                    return None
            key, fitted = sent[-1]
            if not self._went_well(key, fitted):
                return None
            found: State = self.pool.result(fitted, key)
            return found
        finally:
            self.pool.client.cancel([future for _, future in sent])

    def _went_well(self, key: str, future: Future[Any]) -> bool:
        self.pool.wait_for([future])
        if future.status != "finished" and not died(future):
            self.pool.result(future, key)  # raises; the model stays on its worker
        return not died(future)

    def _one_by_one(self, state: State, todo: Sequence[tuple[int, str]]) -> State:
        for number, key in todo:
            args = state, number, self.source(number), self.rows, self.classes
            state = self.pool.alone(key, read_and_fit, *args)
            if state.overflow is not None:
                break
        return state

    def _read_ahead(self, order: Sequence[int], ahead: deque[Future[Any]]) -> Iterator[Future[Any]]:
        """Yield the future of each block; read as many blocks ahead as there are threads."""
        most = 1 + sum(self.pool.client.nthreads().values())
        later = iter(order)
        for _ in order:
            for number in itertools.islice(later, most - len(ahead)):
                ahead.append(self.pool.submit(prepare, number, self.source(number), self.rows))
            yield ahead.popleft()
