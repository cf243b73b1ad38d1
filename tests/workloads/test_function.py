"""Test user functions that get the cluster's client: return values and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import joblib
import numpy as np
import pytest
import yaml
from dask import delayed
from distributed import Client

from hpcml import Dataset, Outcome
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.functions import Function, Map

NOTHING = Inputs(None, None, 0)
DATA = Inputs(Dataset(X=np.eye(3), y=np.arange(3)), None, 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def run(cluster: Cluster, function: Any, given: Inputs = NOTHING, **params: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload = Function(function=function, arguments=params)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total == 1
    return outcome


def where(_: Any = None) -> str:
    from distributed import get_worker

    return str(get_worker().address)


def every_way(client: Client, data: Dataset, times: int) -> dict[str, Any]:
    here = client.submit(where).result()
    lazily = delayed(where)().compute()
    with joblib.parallel_config("dask"):
        joined = joblib.Parallel(n_jobs=2)(joblib.delayed(where)() for _ in range(2))
    return {
        "sum": client.submit(sum, [1, 2, 3]).result() * times,
        "mean": da.from_array(data.X, chunks=(1, 3)).mean().compute(),
        "on_workers": all(address.startswith("tls://") for address in (here, lazily, *joined)),
    }


def test_the_client_the_data_and_every_way_to_use_them(cluster: Cluster) -> None:
    outcome = run(cluster, every_way, DATA, times=2)
    assert outcome.metrics == {"sum": 12, "mean": pytest.approx(1 / 3), "on_workers": True}
    assert outcome.summary["sum"] == "12"


class TestReturns:
    @pytest.mark.parametrize(("given", "metrics"), [(None, {}), (3, {"result": 3}), (np.float64(0.5), {"result": 0.5})])
    def test_a_number_or_nothing(self, cluster: Cluster, given: Any, metrics: Any) -> None:
        assert run(cluster, lambda client, data: given).metrics == metrics

    def test_an_outcome_as_it_is(self, cluster: Cluster) -> None:
        made = Outcome(metrics={"a": 1}, tables={"t": {"x": [1, 2]}}, warnings=["careful"])
        assert run(cluster, lambda client, data: made) == made

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (
                lambda client: da.ones(3),
                "a dask Array was returned, which is still to be computed; return value.compute()",
            ),
            (lambda client: {"a": delayed(1)}, "was returned, which is still to be computed; return value.compute()"),
            (lambda client: {"a": [client.submit(int)]}, "metric 'a': a future was returned; return what it holds"),
            (lambda client: Outcome(tables={"t": {"x": da.ones(2)}}), "table 't': a dask Array was returned"),
            (lambda client: Outcome(tables={"t": {"x": [1], "y": [1, 2]}}), "different lengths: {'x': 1, 'y': 2}"),
            (lambda client: Outcome(tables={"t": [1]}), "table 't': AttributeError"),
            (lambda client: "text", "a str was returned\n  return a number, a mapping of names to numbers"),
            (lambda client: {"a": object()}, "metric 'a': a builtins.object was returned"),
        ],
    )
    def test_what_cannot_be_written(self, cluster: Cluster, given: Any, expected: str) -> None:
        with pytest.raises(WorkloadError) as caught:
            run(cluster, lambda client, data: given(client))
        assert expected in str(caught.value)

    def test_the_rest_is_not_lost(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError) as caught:
            run(cluster, lambda client, data: {"good": 1, "bad": da.ones(3)})
        assert caught.value.outcome.metrics == {"good": 1}


def deep(x: int) -> int:
    return 1 // x


def fails_on_a_worker(client: Client, data: Any) -> None:
    client.submit(deep, 0).result()


class TestErrors:
    def test_name_the_line_of_the_users_file(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError) as caught:
            run(cluster, lambda client, data: deep(0))
        message, hint = str(caught.value).split("\n")
        assert message.endswith("() failed: ZeroDivisionError: integer division or modulo by zero")
        assert hint.startswith(f"  at {__file__}, line ")
        assert hint.endswith(", in deep: return 1 // x")

    def test_on_a_worker_too(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match=r"fails_on_a_worker.. failed: ZeroDivisionError") as caught:
            run(cluster, fails_on_a_worker)
        assert f"at {__file__}, line " in str(caught.value)

    def test_hpcmls_own_keep_their_message(self, cluster: Cluster) -> None:
        def fail(client: Any, data: Any) -> None:
            raise DataError("no such rows", "take others")

        with pytest.raises(WorkloadError, match="no such rows\n  take others") as caught:
            run(cluster, fail)
        assert caught.value.exit_code == 1

    def test_an_exit_is_a_failure(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="failed: SystemExit: 0"):
            run(cluster, lambda client, data: sys.exit(0))


class TestRefused:
    @pytest.mark.parametrize(
        ("function", "params", "expected"),
        [
            (every_way, {}, "every_way() needs 'times'\n  type workload.arguments.times=VALUE"),
            (every_way, {"time": 1}, "workload.arguments.time: every_way() has no 'time'\n  did you mean 'times'"),
            (every_way, {"data": 1, "times": 1}, "every_way() gets 'data' from the run\n  leave it out"),
            (
                deep,
                {},
                "deep() is called with client and data, and takes 1 by position\n  define it as deep(client, data",
            ),
            ("os.nope", {}, "os has no 'nope'"),
        ],
    )
    def test_before_a_cluster_starts(self, function: Any, params: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Function(function=function, arguments=params).prepare(NOTHING)
        assert expected in str(caught.value)

    def test_values(self) -> None:
        with pytest.raises(ConfigError, match=r"workload.arguments=\[1\]: not a mapping"):
            Function(function=every_way, arguments=[1])  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"workload.function='': neither a function"):
            Function(function="")

    def test_a_model(self) -> None:
        with pytest.raises(ConfigError, match="model: workload=python takes none"):
            Function(function=every_way).prepare(Inputs(None, object(), 0))


OWN = """
import helper_of_{stem}

class Number:
    def __init__(self, value):
        self.value = value

def double(number):
    return Number(2 * number.value)

def f(client, data, start=1):
    return {{"result": client.submit(double, Number(start)).result().value + helper_of_{stem}.ONE}}

def g(x):
    return double(Number(x)).value
"""


class TestFiles:
    def write(self, directory: Path, stem: str) -> Path:
        (directory / f"helper_of_{stem}.py").write_text("ONE = 1\n")
        (directory / f"{stem}.py").write_text(OWN.format(stem=stem))
        return directory / f"{stem}.py"

    @pytest.fixture(autouse=True)
    def _path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", list(sys.path))

    def test_workers_read_what_a_file_defines(self, cluster: Cluster, tmp_path: Path) -> None:
        """The workers start before the file's directory is known."""
        file = self.write(tmp_path, "own_python")
        assert run(cluster, f"{file}:f", start=3).metrics == {"result": 7}

    def test_a_map_too(self, cluster: Cluster, tmp_path: Path) -> None:
        workload = Map(function=f"{self.write(tmp_path, 'own_map')}:g", parameters={"x": [1, 2]})
        prepared = workload.prepare(NOTHING)
        units = Units(prepared.n_units)
        outcome = prepared.run(cluster.client, units)
        assert outcome.tables["results"]["result"] == [2, 4]

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "below").mkdir()
        self.write(tmp_path / "below", "own_below")
        monkeypatch.chdir(tmp_path)
        assert Function(function="below/own_below.py:f").prepare(NOTHING).n_units == 1

    def test_mistakes(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, "own_mistakes")
        (tmp_path / "broken.py").write_text("1 / 0\n")
        (tmp_path / "json.py").write_text("def f(client, data): pass\n")
        (tmp_path / "two-words.py").write_text("def f(client, data): pass\n")
        for function, expected in {
            f"{file}:h": "own_mistakes has no 'h'",
            f"{tmp_path}/nope.py:f": f"there is no file {tmp_path}/nope.py",
            f"{tmp_path}/broken.py:f": "importing it failed: ZeroDivisionError: division by zero",
            f"{tmp_path}/json.py:f": "the name json is taken by ",
            f"{tmp_path}/two-words.py:f": "two-words.py is not the file of a module",
            f"{file}:helper_of_own_mistakes": "not a class or function",
        }.items():
            with pytest.raises(ConfigError) as caught:
                Function(function=function).prepare(NOTHING)
            assert expected in str(caught.value)


def test_what_is_said() -> None:
    workload = Function(function=every_way, arguments={"times": 1})
    assert workload.prepare(NOTHING).description == "every_way(client, data, times=1)"


def test_the_preset_says_what_the_class_says() -> None:
    path = Path(__file__).parents[2] / "conf" / "workload" / "python.yaml"
    preset = yaml.safe_load(path.read_text())
    del preset["_target_"], preset["defaults"]
    assert preset == vars(Function(function="???"))
