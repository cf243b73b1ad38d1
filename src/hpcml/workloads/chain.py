"""A chain of partial fits: each waits for the one before, while other workers read the blocks that come next."""

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
from hpcml.workloads.crew import Crew, Made, died
from hpcml.workloads.scan import Rows, loaded

if TYPE_CHECKING:
    from distributed import Future

# After so many blocks the model passes through the head: no more is computed again when its worker dies, and only then
# they are reported as done.
_STRETCH = 16

# Fits that are sent before the one before them is done: enough for a worker never to wait for the head.
_SENT = 4

# The share of the workers' memory up to which blocks are kept there from pass to pass; Dask spills from 0.6 on.
_KEPT = 0.3

# What scikit-learn says, with ValueError, when weights have grown out of all bounds (_sgd_fast, MLP*).
_OVERFLOWS = ("Floating-point under-/overflow", "non-finite parameter weights")


@dataclass(frozen=True)
class State:
    """A model on its way through the blocks.

    Parameters
    ----------
    rows : int
        That it has learned from in this pass.
    fit_s : float
        Seconds of ``partial_fit`` in this pass.
    overflow : str or None
        What scikit-learn said when the weights had left the range of numbers; the model is the one before that.
    """

    model: Any
    rows: int = 0
    fit_s: float = 0.0
    overflow: str | None = None

    def __sizeof__(self) -> int:
        # what Dask goes by when it decides whether the model or the block travels
        return object.__sizeof__(self) + _n_bytes(list(vars(self.model).values()))


def _n_bytes(value: Any) -> int:
    return sum(map(_n_bytes, value)) if isinstance(value, list) else int(getattr(value, "nbytes", 0))


def prepare(number: int, source: Block | Dataset, rows: Rows) -> tuple[Any, Any]:
    """Read what a model learns from of a block; on a worker."""
    return rows.of(number, loaded(source), held_out=False)


def fit(state: State, block: tuple[Any, Any], classes: Any) -> State:
    """Learn from one block; on a worker.

    The model that is given stays as it is: should a worker die, the next one begins with it again.
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
    """Do both for one block; on a worker."""
    return fit(state, prepare(number, source, rows), classes)


class Source:
    """The blocks, as arguments of tasks: kept by the workers once read, if all of them fit; else read when needed."""

    def __init__(self, crew: Crew, blocks: Blocks) -> None:
        self.crew, self.blocks = crew, blocks
        self.keeps = False
        self._kept: dict[int, Made] = {}

    def settle(self, n_bytes: int | None) -> None:
        """Keep blocks, or keep them no more; asked again whenever their size or the workers may have changed."""
        workers = self.crew.client.scheduler_info(n_workers=-1)["workers"].values()
        memory = sum(worker["memory_limit"] or 0 for worker in workers)
        self.keeps = n_bytes is not None and n_bytes < _KEPT * memory
        if not self.keeps:
            self._kept.clear()

    def __call__(self, number: int) -> Any:
        block = self.blocks.block(number)
        if not self.keeps:
            return block
        if number not in self._kept:
            self._kept[number] = self.crew.make(loaded, block)
        return self._kept[number]


@dataclass(frozen=True)
class Chain:
    """Fits a model to blocks, one after the other.

    Parameters
    ----------
    source : callable
        Gives for a block's number what stands for it among a task's arguments.
    rows : Made
        :class:`Rows`.
    classes : ndarray or None
    """

    crew: Crew
    source: Callable[[int], Any]
    rows: Made
    classes: Any

    def run(self, model: Any, order: Sequence[int], name: str) -> State:
        """Fit to blocks in the order given.

        Parameters
        ----------
        name : str
            Of the pass, for the units' keys.

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
                self.crew.wait_for(list(ahead))  # then nothing else is under way
                ahead.clear()
                found, coming = self._one_by_one(state, todo), self._read_ahead(order[end:], ahead)
            state = found
            for _, key in todo[:-1]:
                self.crew.units.finish(key)
            self.crew.units.finish(todo[-1][1], state)
            if state.overflow is not None:
                break
        return state

    def _together(self, state: State, todo: Sequence[tuple[int, str]], coming: Iterator[Future[Any]]) -> State | None:
        """Fit to some blocks, each sent before the one before it is done; None if workers died of it."""
        fitted: Any = self.crew.share(state)
        sent: deque[tuple[str, Future[Any]]] = deque()
        try:
            for (_, key), block in zip(todo, coming, strict=False):
                # what can begin with the model's coming begins before what is read ahead
                fitted = self.crew.submit(fit, fitted, block, self.classes, priority=1)
                sent.append((key, fitted))
                if len(sent) >= _SENT and not self._went_well(*sent.popleft()):
                    return None
            while len(sent) > 1:
                if not self._went_well(*sent.popleft()):
                    return None
            key, fitted = sent[-1]
            if not self._went_well(key, fitted):
                return None
            found: State = self.crew.result(fitted, key)
            return found
        finally:
            self.crew.client.cancel([future for _, future in sent])

    def _went_well(self, key: str, future: Future[Any]) -> bool:
        self.crew.wait_for([future])
        if future.status != "finished" and not died(future):
            self.crew.result(future, key)  # raises; else the model stays where it is
        return not died(future)

    def _one_by_one(self, state: State, todo: Sequence[tuple[int, str]]) -> State:
        for number, key in todo:
            args = state, number, self.source(number), self.rows, self.classes
            state = self.crew.alone(key, read_and_fit, *args)
            if state.overflow is not None:
                break
        return state

    def _read_ahead(self, order: Sequence[int], ahead: deque[Future[Any]]) -> Iterator[Future[Any]]:
        """Give each block's future, and have as many more read as there are threads to read them."""
        most = 1 + sum(self.crew.client.nthreads().values())
        later = iter(order)
        for _ in order:
            for number in itertools.islice(later, most - len(ahead)):
                ahead.append(self.crew.submit(prepare, number, self.source(number), self.rows))
            yield ahead.popleft()
