"""AsianOption: the Monte Carlo price of a call on an average price, in batches of paths."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.errors import WorkloadError
from hpcml.keys import check_keys, config_key, documented, number, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.inputs.moments import Moments

if TYPE_CHECKING:
    from distributed import Client

DAYS_OF_A_YEAR = 365

# Prices that a worker holds at a time, 32 MB. The value does not affect the random numbers.
_PRICES = 2**22

# The most points in the figure; there may be many more batches.
_POINTS = 500


@documented
@dataclass(kw_only=True)
class AsianOption:
    """Price an arithmetic-average Asian call by Monte Carlo.

    A path of the price is ``S[0] = s0, S[i] = S[i-1] (1 + e)`` with ``e ~ Normal(mu dt, sigma
    sqrt(dt))`` and ``dt`` one day: geometric Brownian motion in Euler's scheme. It pays ``max(0,
    mean(S) - strike)``.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    s0: float = config_key(100.0, "Price today", number(above=0))
    strike: float = config_key(100.0, "Strike price K, which the average has to exceed", number(above=0))
    mu: float = config_key(
        0.02, "Drift, and the rate that discounts the payoff", number(), unit="1 per year of 365 days"
    )
    sigma: float = config_key(0.2, "Volatility", number(least=0), unit="1 per square root of a year")
    days: int = config_key(1460, "Prices of a path, the first of them today's", whole(2))
    n: int = config_key(10000, "Paths", whole(2))
    batch: int = config_key(
        500,
        "Paths of a unit of work; it decides which random numbers a path gets, so that another batch gives another "
        "estimate",
        whole(),
    )
    confidence: float = config_key(0.95, "Confidence level of the interval", number(above=0, below=1))

    def __post_init__(self) -> None:
        check_keys(self, "workload.")

    @property
    def n_batches(self) -> int:
        """The number of batches; the last one may be smaller."""
        return -(-self.n // self.batch)

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject data and models."""
        inputs.refuse("data", "model", what="workload=asian_option")
        description = f"Asian call, {self.n} paths of {self.days} days in {self.n_batches} batches"
        return Prepared(self.n_batches, description, functools.partial(self._run, inputs.seed))

    def _run(self, seed: int, client: Client, units: Units) -> Outcome:
        """Simulate the batches on the workers and combine their moments."""
        began = time.monotonic()

        def outcome(done: dict[int, Moments]) -> Outcome:
            return self._outcome(done, time.monotonic() - began)

        todo = ((f"batch {number}", (self, seed, number)) for number in range(self.n_batches))
        return outcome(TaskPool(client, units).ordered(draw, todo, outcome))

    def _outcome(self, done: Mapping[int, Moments], seconds: float) -> Outcome:
        if not done:
            return Outcome()
        numbers, parts = list(done), list(done.values())
        whole = Moments.total(parts)
        half = self._half(whole)
        discount = math.exp(-self.mu * self.days / DAYS_OF_A_YEAR)
        metrics = {
            "expected_payoff": whole.mean,
            "expected_payoff_interval": [whole.mean - half, whole.mean + half],
            "standard_error": whole.standard_error,
            "price": discount * whole.mean,
            "price_interval": [discount * (whole.mean - half), discount * (whole.mean + half)],
            "confidence": self.confidence,
            "n": whole.n,
            "n_batches": len(parts),
            "partial": whole.n < self.n,
            "paths_per_s": whole.n / seconds,
        }
        table: dict[str, list[Any]] = {
            "batch": numbers,
            "n": [part.n for part in parts],
            "mean": [part.mean for part in parts],
            "standard_error": [part.standard_error for part in parts],
        }
        partial = f", partial: {whole.n} of {self.n} paths" if metrics["partial"] else f", {whole.n} paths"
        summary = {
            "expected payoff": f"{whole.mean:.4f} +- {half:.4f} ({100 * self.confidence:g}% interval{partial})",
            "price": f"{discount * whole.mean:.4f} +- {discount * half:.4f}, discounted over {self.days} days",
        }
        figures = {"convergence": self._figure(parts)} if len(parts) > 1 else {}
        return Outcome(metrics=metrics, tables={"batches": table}, summary=summary, figures=figures)

    def _half(self, part: Moments) -> float:
        """Return half the width of the confidence interval, by the central limit theorem."""
        return NormalDist().inv_cdf((1 + self.confidence) / 2) * part.standard_error

    def _figure(self, parts: list[Moments]) -> Any:
        from matplotlib.figure import Figure

        points = list(_running(parts))
        paths, means = [point.n for point in points], np.array([point.mean for point in points])
        halves = np.array([self._half(point) for point in points])
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        label = f"{100 * self.confidence:g}% interval"
        axes.fill_between(paths, means - halves, means + halves, alpha=0.3, label=label)
        axes.plot(paths, means, label="mean payoff")
        axes.set_xlabel("paths")
        axes.set_ylabel("expected payoff")
        axes.legend()
        return figure


def _running(parts: list[Moments]) -> Iterator[Moments]:
    """Yield cumulative estimates over the batches, a few hundred at most."""
    step = -(-len(parts) // _POINTS)
    total: Moments | None = None
    for count, part in enumerate(parts, 1):
        total = part if total is None else total + part
        if total.n > 1 and (count % step == 0 or count == len(parts)):
            yield total


def draw(option: AsianOption, seed: int, number: int) -> Moments:
    """Simulate a batch of paths, on a worker."""
    # Equal to SeedSequence(seed).spawn(n_batches)[number], without creating the others.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
    return Moments.of(payoffs(option, rng, min(option.batch, option.n - number * option.batch)))


def payoffs(option: AsianOption, rng: np.random.Generator, n: int) -> Any:
    """Simulate paths and return the payoff of each.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    WorkloadError
        If prices overflow.
    """
    at_once = max(1, _PRICES // option.days)
    means = np.concatenate([_means(option, rng, min(at_once, n - begin)) for begin in range(0, n, at_once)])
    paid = np.maximum(0.0, means - option.strike)
    if not np.isfinite(paid).all():
        raise WorkloadError(
            f"prices grow beyond all numbers with mu={option.mu}, sigma={option.sigma} over {option.days} days",
            "use a smaller workload.mu, sigma or days",
        )
    return paid


@np.errstate(over="ignore", invalid="ignore")
def _means(option: AsianOption, rng: np.random.Generator, n: int) -> Any:
    """Simulate paths and return the mean price of each, in chunks of days if paths are long.

    Returns
    -------
    ndarray of shape (n,)
    """
    dt = 1 / DAYS_OF_A_YEAR
    total, last = np.full(n, float(option.s0)), np.full(n, float(option.s0))
    days = max(1, _PRICES // n)
    for begin in range(1, option.days, days):
        prices = rng.normal(option.mu * dt, option.sigma * math.sqrt(dt), (n, min(days, option.days - begin)))
        prices += 1.0
        prices[:, 0] *= last
        np.cumprod(prices, axis=1, out=prices)
        total += prices.sum(axis=1)
        last = prices[:, -1].copy()
    return total / option.days
