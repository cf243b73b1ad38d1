"""AsianOption: the Monte Carlo price of a call on the arithmetic average of a price, in batches of vectorised paths."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.errors import ConfigError, WorkloadError, check_whole
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.crew import Crew

if TYPE_CHECKING:
    from distributed import Client

DAYS_OF_A_YEAR = 365

# Prices that a worker holds at a time, 32 MB of them. Another number would draw the same random numbers.
_PRICES = 2**22

# Points of the figure; there may be many more batches.
_POINTS = 500


@dataclass(frozen=True)
class Part:
    """What a batch adds, or several of them: to be combined in the batches' order.

    Parameters
    ----------
    squares : float
        The sum of the squared distances of the payoffs from their mean.
    """

    n: int
    mean: float
    squares: float

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Part:
        """Combine parts (Chan, Golub, LeVeque 1979: the pairwise update), with sums that are rounded once."""
        parts = list(parts)
        n = sum(part.n for part in parts)
        mean = math.fsum(part.n * part.mean for part in parts) / n
        squares = math.fsum(part.squares + part.n * (part.mean - mean) ** 2 for part in parts)
        return cls(n, mean, squares)

    @property
    def standard_error(self) -> float:
        """Of the mean; infinite for a single path."""
        return math.sqrt(self.squares / (self.n - 1) / self.n) if self.n > 1 else math.inf


@dataclass(kw_only=True)
class AsianOption:
    """Price an arithmetic-average Asian call by Monte Carlo.

    A path of the price is ``S[0] = s0, S[i] = S[i-1] (1 + e)`` with ``e ~ Normal(mu dt, sigma sqrt(dt))`` and ``dt``
    one day: geometric Brownian motion in Euler's scheme. It pays ``max(0, mean(S) - strike)``.

    Parameters
    ----------
    s0 : float
        The price today.
    strike : float
        K: what the average has to exceed.
    mu : float
        Drift, and the rate that discounts the payoff, per year of 365 days.
    sigma : float
        Volatility, per square root of a year.
    days : int
        Prices of a path, the first of them today's.
    n : int
        Paths.
    batch : int
        Paths of a unit of work. It decides which random numbers a path gets, so that another one gives another
        estimate; the number of workers does not.
    confidence : float
        Of the interval, between 0 and 1.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    s0: float = 100.0
    strike: float = 100.0
    mu: float = 0.02
    sigma: float = 0.2
    days: int = 1460
    n: int = 10000
    batch: int = 500
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("s0", "strike", "mu", "sigma", "confidence"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"workload.{name}={value}: must be a finite number")
        for name in ("s0", "strike"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"workload.{name}={getattr(self, name)}: a price must be more than 0")
        if self.sigma < 0:
            raise ConfigError(f"workload.sigma={self.sigma}: must be 0 or more")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"workload.confidence={self.confidence}: must lie between 0 and 1, for example 0.95")
        for name, least in (("days", 2), ("n", 2), ("batch", 1)):
            check_whole(f"workload.{name}", getattr(self, name), least=least)

    @property
    def n_batches(self) -> int:
        """How many batches the paths make; the last one may be smaller."""
        return -(-self.n // self.batch)

    def check(self, inputs: Inputs) -> int:
        """Refuse data and models; count the batches."""
        inputs.refuse("data", "model", what="workload=asian_option")
        return self.n_batches

    def describe(self, inputs: Inputs) -> str:  # noqa: ARG002
        """Say what will be computed."""
        return f"Asian call, {self.n} paths of {self.days} days in {self.n_batches} batches"

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Draw the batches on the workers, and combine what they add."""
        began = time.monotonic()
        done: dict[int, Part] = {}
        units.so_far = lambda: self._outcome(dict(done), time.monotonic() - began)
        batches = {f"batch {number}": number for number in range(self.n_batches)}
        todo = ((key, (self, inputs.seed, number)) for key, number in batches.items())
        for key, part in Crew(client, units).each(draw, todo):
            done[batches[key]] = part
        return self._outcome(done, time.monotonic() - began)

    def _outcome(self, done: Mapping[int, Part], seconds: float) -> Outcome:
        if not done:
            return Outcome()
        numbers = sorted(done)
        parts = [done[number] for number in numbers]
        whole = Part.of(parts)
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

    def _half(self, part: Part) -> float:
        """Give half the width of the interval, by the central limit theorem."""
        return NormalDist().inv_cdf((1 + self.confidence) / 2) * part.standard_error

    def _figure(self, parts: list[Part]) -> Any:
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


def _running(parts: list[Part]) -> Iterator[Part]:
    """Give the estimates after some batches and more, at most a few hundred of them."""
    step = -(-len(parts) // _POINTS)
    whole: Part | None = None
    for number, part in enumerate(parts, 1):
        whole = part if whole is None else Part.of([whole, part])
        if whole.n > 1 and (number % step == 0 or number == len(parts)):
            yield whole


def draw(option: AsianOption, seed: int, number: int) -> Part:
    """Draw a batch of paths; runs on a worker."""
    # the same as SeedSequence(seed).spawn(n_batches)[number], without making all of them
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
    paid = payoffs(option, rng, min(option.batch, option.n - number * option.batch))
    mean = float(paid.mean())
    return Part(len(paid), mean, float(((paid - mean) ** 2).sum()))


def payoffs(option: AsianOption, rng: np.random.Generator, n: int) -> Any:
    """Draw paths, and give what each pays.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    WorkloadError
        If prices grow beyond what a number can hold.
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
    """Draw paths, and give the mean of each; of very long ones so many days at a time as fit.

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
