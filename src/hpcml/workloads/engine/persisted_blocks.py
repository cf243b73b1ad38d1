"""Blocks that are read once and persisted on the workers, for multi-pass algorithms."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcml.data import Blocks
from hpcml.errors import HpcmlError, WorkloadError
from hpcml.workloads.base import Units
from hpcml.workloads.engine.recomputable import Recomputable
from hpcml.workloads.engine.task_pool import TaskPool, Unit

if TYPE_CHECKING:
    from distributed import Client, Future

# A task gets at most as many blocks as fill this share of its worker's memory, divided by the
# worker's threads: the blocks may have to be read back from disk first.
_SHARE = 0.25


class PersistedBlocks:
    """Blocks on the workers, each the result of a task that Dask recomputes if its workers die.

    Blocks that do not fit into the workers' memory are spilled to the workers' disks.

    Parameters
    ----------
    client : Client
    units : Units
        Every block of every pass is a unit.
    blocks : Blocks
    make : callable
        Called on a worker with a block, its number, and the arguments; returns the value to
        persist.
    facts : callable
        Called on a worker with a persisted value; returns the (small) facts about it that the head
        needs.
    *args : object

    Attributes
    ----------
    facts : list of object
    """

    def __init__(
        self,
        client: Client,
        units: Units,
        blocks: Blocks,
        make: Callable[..., Any],
        facts: Callable[[Any], Any],
        *args: Any,
    ) -> None:
        self._client, self._units = client, units
        # A unit is a block, but a task has many blocks, so the pool gets its own count.
        self._pool = TaskPool(client, Units(0))
        self._values: list[Recomputable] = []
        self._sizes: list[int] = []
        found: dict[str, Any] = {}

        def todo() -> Iterator[Unit]:
            for number in range(len(blocks)):
                self._values.append(self._pool.make(make, blocks.block(number), number, *args))
                yield f"read block {number}", (facts, self._values[-1])

        for key, (size, fact) in self._pool.each(_look, todo()):
            found[key] = (size, fact)
            units.finish(key, fact)
        in_order = [found[f"read block {number}"] for number in range(len(blocks))]
        self._sizes, self.facts = [size for size, _ in in_order], [fact for _, fact in in_order]

    def __len__(self) -> int:
        return len(self._values)

    @property
    def futures(self) -> list[Future[Any]]:
        """Futures of the persisted values, in the order of the blocks."""
        return [value.future for value in self._values]

    @property
    def n_bytes(self) -> int:
        return sum(self._sizes)

    def each(
        self, name: str, function: Callable[..., Any], *args: Any, own: Mapping[int, Any] | None = None
    ) -> Iterator[Any]:
        """Call a function on each block; yield the results in the order of the blocks.

        A task costs milliseconds, so each worker gets its blocks in few tasks. Every block is still
        a unit, and its result does not depend on the other blocks in its task.

        Parameters
        ----------
        name : str
            The prefix of the units' keys, followed by the number of the block.
        function : callable
            Called on a worker with a block, its number, the arguments, and the block's own
            argument.
        own : mapping of int to object, or None
            Arguments of single blocks; blocks that are missing here are skipped. None: all blocks,
            without arguments of their own.

        Raises
        ------
        WorkloadError
            If a block fails.
        """
        numbers = sorted(range(len(self)) if own is None else own)
        if sum(getattr(value, "nbytes", 0) for value in args) > 100_000:
            args = tuple(self._pool.share(value) if hasattr(value, "nbytes") else value for value in args)

        def unit(some: Sequence[int]) -> Unit:
            which = f"block {some[0]}" if len(some) == 1 else f"{len(some)} blocks from {some[0]}"
            owns = [(number, () if own is None else (own[number],)) for number in some]
            held = [self._values[number] for number in some]
            return f"{name}, {which}", (function, name, owns, len(some), *held, *args)

        def split(suspect: Unit) -> list[Unit]:
            some = [number for number, _ in suspect[1][2]]
            return [unit([number]) for number in some] if len(some) > 1 else []

        waiting: dict[int, Any] = {}
        ahead = iter(numbers)
        following = next(ahead, None)
        for _, results in self._pool.each(_several, map(unit, self._together(numbers)), split=split):
            for number, result in results:
                self._units.finish(f"{name}, block {number}", result)
                waiting[number] = result
            while following is not None and following in waiting:
                yield waiting.pop(following)
                following = next(ahead, None)

    def items(self, item: Any) -> list[Recomputable]:
        """Return an item, or a slice of items, of each persisted value."""
        return [value.item(item) for value in self._values]

    def narrow(self, item: Any) -> None:
        """Replace each persisted value by one of its items, or by a slice of items."""
        self._values = self.items(item)

    def call(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run a unit that needs none of the blocks on some worker."""
        result = self._pool.call(key, function, *args)
        self._units.finish(key, result)
        return result

    def _together(self, numbers: Sequence[int]) -> list[list[int]]:
        """Group blocks by the worker thread that processes them; rebalance them between workers."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        threads = {address: worker["nthreads"] for address, worker in sorted(workers.items())}
        if not threads:  # all died; replacements will join
            return [[number] for number in numbers]
        homes = self._homes(threads)
        found: list[list[int]] = []
        for address, share in threads.items():
            mine = [number for number in numbers if homes[number] == address]
            most = _SHARE * (workers[address]["memory_limit"] or math.inf) / share
            found += _cut(mine, max(1, math.ceil(len(mine) / share)), self._sizes, most)
        return found

    def _homes(self, threads: Mapping[str, int]) -> list[str]:
        """Return the worker of each block, after moving some to workers below their share."""
        futures = self.futures
        holders = self._client.who_has(futures)
        homes: list[str | None] = []
        for future in futures:
            there = sorted(set(holders.get(future.key) or ()) & set(threads))
            homes.append(there[0] if there else None)
        fair = {address: len(self) * share / sum(threads.values()) for address, share in threads.items()}
        held = {address: homes.count(address) for address in threads}
        settled: list[str] = []
        for number, home in enumerate(homes):
            place = home
            if home is None or held[home] >= fair[home] + 1:
                poorest = min(threads, key=lambda address: held[address] - fair[address])
                if home is None:  # lost, and recomputed on any worker
                    place = poorest
                    held[place] += 1
                elif held[poorest] <= fair[poorest] - 1:  # a transfer must gain a whole block
                    place = poorest
                    held[home] -= 1
                    held[place] += 1
                    self._move(number, place)
            assert place is not None
            settled.append(place)
        return settled

    def _move(self, number: int, address: str) -> None:
        value, key = self._values[number], f"moved-{uuid.uuid4().hex}"
        value.future = self._client.submit(_moved, value.future, key=key, workers=[address], allow_other_workers=True)

    def memory_note(self) -> list[str]:
        """Return a warning if the blocks do not fit into the workers' memory."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers]
        if not limits or None in limits or 0 in limits or self.n_bytes <= 0.6 * sum(limits):
            return []
        return [
            f"the blocks take {self.n_bytes / 1024**3:.1f}GB, and the workers have {sum(limits) / 1024**3:.1f}GB: "
            "some are on their disks, which is slow; more or larger workers would help"
        ]


def _cut(numbers: Sequence[int], count: int, sizes: Sequence[int], most: float) -> Iterator[list[int]]:
    """Split into pieces of ``count`` blocks, or fewer where they would exceed ``most`` bytes."""
    piece: list[int] = []
    for number in numbers:
        if piece and (len(piece) == count or sum(sizes[other] for other in piece) + sizes[number] > most):
            yield piece
            piece = []
        piece.append(number)
    if piece:
        yield piece


def _look(facts: Callable[[Any], Any], held: Any) -> tuple[int, Any]:
    return _n_bytes(held), facts(held)


def _n_bytes(held: Any) -> int:
    if isinstance(held, Collection) and not hasattr(held, "nbytes"):
        return sum(map(_n_bytes, held))
    return int(getattr(held, "nbytes", 0))


def _several(
    function: Callable[..., Any], name: str, owns: Sequence[tuple[int, tuple[Any, ...]]], count: int, *rest: Any
) -> list[tuple[int, Any]]:
    """Run a function on several blocks of a pass, on a worker."""
    held, args = rest[:count], rest[count:]
    done = []
    for (number, own), block in zip(owns, held, strict=True):
        try:
            done.append((number, function(block, number, *args, *own)))
        except HpcmlError:
            raise
        except Exception as error:
            raise WorkloadError(f"{name}, block {number}: {type(error).__name__}: {error}") from error
    return done


def _moved(value: Any) -> Any:
    return value
