"""Test that AsianOption reproduces the poster's model, bit for bit on any number of workers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import Dataset
from hpcml.errors import ConfigError, WorkloadError
from hpcml.examples import asian_option
from hpcml.examples.asian_option import AsianOption, draw
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.inputs.moments import Moments

NOTHING = Inputs(None, None, 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def price(cluster: Cluster, seed: int = 0, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    option, given = AsianOption(**keys), Inputs(None, None, seed)
    prepared = option.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def walk(rng: np.random.Generator, s0: float, mu: float, sigma: float, days: int) -> list[float]:
    """Draw a path day by day, as the poster does."""
    dt = 1 / 365.0
    prices = [s0]
    for _ in range(1, days):
        e = rng.normal(loc=mu * dt, scale=sigma * math.sqrt(dt))
        prices.append(prices[-1] * (1 + e))
    return prices


def test_the_same_as_a_loop_over_days(cluster: Cluster) -> None:
    keys = {"s0": 90.0, "mu": 0.05, "sigma": 0.3, "days": 50}
    outcome = price(cluster, seed=7, n=25, batch=10, strike=88.0, **keys)
    payoffs = []
    for stream, n in zip(np.random.SeedSequence(7).spawn(3), (10, 10, 5), strict=True):
        rng = np.random.Generator(np.random.PCG64(stream))
        payoffs += [max(0.0, statistics.fmean(walk(rng, **keys)) - 88.0) for _ in range(n)]  # type: ignore[arg-type]
    metrics = outcome.metrics
    assert metrics["expected_payoff"] == pytest.approx(statistics.fmean(payoffs), rel=1e-12)
    assert metrics["standard_error"] == pytest.approx(statistics.stdev(payoffs) / 5, rel=1e-12)
    half = 1.959963984540054 * metrics["standard_error"]
    assert metrics["expected_payoff_interval"] == pytest.approx(
        [metrics["expected_payoff"] - half, metrics["expected_payoff"] + half]
    )
    discount = math.exp(-0.05 * 50 / 365)
    assert metrics["price"] == pytest.approx(discount * metrics["expected_payoff"], rel=1e-15)
    assert metrics["price_interval"] == pytest.approx([discount * x for x in metrics["expected_payoff_interval"]])
    assert (metrics["n"], metrics["n_batches"], metrics["partial"]) == (25, 3, False)
    assert outcome.tables["batches"]["batch"] == [0, 1, 2]
    assert outcome.tables["batches"]["n"] == [10, 10, 5]
    assert outcome.tables["batches"]["mean"][0] == pytest.approx(statistics.fmean(payoffs[:10]), rel=1e-12)


def test_the_posters_figure(cluster: Cluster) -> None:
    outcome = price(cluster)  # the poster's numbers: 10000 paths of four years
    metrics = outcome.metrics
    assert abs(metrics["expected_payoff"] - 11.71) < 3 * math.hypot(metrics["standard_error"], 0.06)
    assert 0.15 < metrics["standard_error"] < 0.21
    assert metrics["price"] == pytest.approx(math.exp(-0.08) * metrics["expected_payoff"])
    assert outcome.summary["expected payoff"].endswith("(95% interval, 10000 paths)")
    (axes,) = outcome.figures["convergence"].axes
    paths, means = axes.lines[0].get_data()
    assert list(paths) == list(range(500, 10001, 500))
    assert means[-1] == pytest.approx(metrics["expected_payoff"], rel=1e-12)


def test_a_known_price_without_randomness(cluster: Cluster) -> None:
    outcome = price(cluster, sigma=0.0, days=365, n=10, batch=5, strike=100.0)
    prices = [100 * (1 + 0.02 / 365) ** day for day in range(365)]
    assert outcome.metrics["expected_payoff"] == pytest.approx(statistics.fmean(prices) - 100, rel=1e-11)
    assert outcome.metrics["standard_error"] == pytest.approx(0, abs=1e-12)


def bits(outcome: Outcome) -> tuple[Any, ...]:
    metrics = {name: value for name, value in outcome.metrics.items() if name != "paths_per_s"}
    return metrics, dict(outcome.tables)


def test_the_same_bits_with_one_worker_and_two(cluster: Cluster, tmp_path: Path) -> None:
    keys = {"n": 130, "batch": 7, "days": 60}
    two = bits(price(cluster, seed=3, **keys))
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as alone:
        assert bits(price(alone, seed=3, **keys)) == two
    assert bits(price(cluster, seed=4, **keys)) != two


def test_the_same_bits_in_any_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(TaskPool):
        def each(self, function: Any, todo: Any, **options: Any) -> Iterator[tuple[str, Any]]:
            for key, args in reversed(list(todo)):
                yield key, function(*args)

    option = AsianOption(n=95, batch=10, days=30)
    there = {number: draw(option, 0, number) for number in range(10)}
    monkeypatch.setattr(asian_option, "TaskPool", Backwards)
    assert bits(option.prepare(NOTHING).run(None, Units(10))) == bits(option._outcome(there, 1.0))  # type: ignore[arg-type]


def test_memory_is_bounded_and_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    option = AsianOption(n=50, batch=50, days=40)
    whole = draw(option, 0, 0)
    for prices in (400, 40, 7):  # ten paths at a time, one, and seven days of one
        monkeypatch.setattr(asian_option, "_PRICES", prices)
        part = draw(option, 0, 0)
        assert part.n == 50
        assert (part.mean, part.squares) == pytest.approx((whole.mean, whole.squares), rel=1e-12)


def test_the_interval_covers_as_often_as_it_says() -> None:
    option = AsianOption(n=200, batch=200, days=20, strike=99.0)
    big = AsianOption(n=400_000, batch=100_000, days=20, strike=99.0)
    truth = Moments.total([draw(big, 1, number) for number in range(4)]).mean
    covered = 0
    for seed in range(300):
        part = draw(option, 1000 + seed, 0)
        covered += abs(part.mean - truth) <= option._half(part)
    # 300 runs with probability 0.95; the standard deviation is 0.013.
    assert 0.91 < covered / 300 < 0.985


def test_parts_make_the_same_as_the_whole() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, 1000)
    pieces = [Moments.of(part) for part in np.split(values, [1, 30, 500])]
    whole = Moments.total(pieces)
    assert whole.mean == pytest.approx(values.mean(), rel=1e-15)
    assert whole.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(1000), rel=1e-9)
    assert Moments(1, 2.0, 0.0).standard_error == math.inf


def test_what_is_finished_is_told_when_a_run_is_cut_short(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    option, units = AsianOption(n=1000, batch=100, days=30), Units(10)
    finish = units.finish

    def stop(key: str, result: Any = None) -> None:
        finish(key, result)
        if units.done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(units, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        option.prepare(NOTHING).run(cluster.client, units)
    outcome = units.so_far()
    assert outcome.metrics["partial"] is True
    assert outcome.metrics["n"] == 300
    assert "partial: 300 of 1000 paths" in outcome.summary["expected payoff"]
    low, high = outcome.metrics["expected_payoff_interval"]
    assert low < outcome.metrics["expected_payoff"] < high
    assert len(outcome.tables["batches"]["batch"]) == 3


def test_nothing_is_told_before_the_first_batch() -> None:
    assert AsianOption()._outcome({}, 1.0) == Outcome()


def test_prices_beyond_all_numbers(cluster: Cluster) -> None:
    with pytest.raises(
        WorkloadError, match=r"prices grow beyond all numbers with mu=1e\+300, sigma=0.2 over 1460 days"
    ):
        price(cluster, mu=1e300, n=10, batch=5)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"s0": 0.0}, "workload.s0=0.0: must be a number, more than 0"),
        ({"strike": -1}, "workload.strike=-1: must be a number, more than 0"),
        ({"mu": math.nan}, "workload.mu=nan: must be a number"),
        ({"sigma": "high"}, "workload.sigma=high: must be a number, 0 or more"),
        ({"sigma": -0.1}, "workload.sigma=-0.1: must be a number, 0 or more"),
        ({"days": 1}, "workload.days=1: must be a whole number, 2 or more"),
        ({"days": 10.5}, "workload.days=10.5: must be a whole number"),
        ({"n": True}, "workload.n=True: must be a whole number"),
        ({"n": 1}, "workload.n=1: must be a whole number, 2 or more"),
        ({"batch": 0}, "workload.batch=0: must be a whole number, 1 or more"),
        ({"confidence": 1}, "workload.confidence=1: must be a number, more than 0, less than 1"),
    ],
)
def test_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AsianOption(**keys)
    assert expected in str(caught.value)


def test_data_is_refused() -> None:
    data = Dataset(X=np.eye(2))
    with pytest.raises(ConfigError, match="data: workload=asian_option takes none\n  leave it out: data=null"):
        AsianOption().prepare(Inputs(data, None, 0))


def test_the_preset_says_what_the_class_says() -> None:
    path = Path(__file__).parents[2] / "conf" / "workload" / "asian_option.yaml"
    preset = yaml.safe_load(path.read_text())
    del preset["_target_"], preset["defaults"]
    assert preset == vars(AsianOption())
