"""Test that map applies the user's function to every row, in order, despite failures."""

from __future__ import annotations

import datetime
import functools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.config.compose import compose
from hpcml.data import Dataset
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.results import to_table
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.functions import Map

NOTHING = Inputs(None, None, 0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def run(cluster: Cluster, function: Any, seed: int = 0, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload, given = Map(function=function, **keys), Inputs(None, None, seed)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def without_seconds(outcome: Outcome, table: str = "results") -> dict[str, list[Any]]:
    return {name: values for name, values in outcome.tables[table].items() if name != "seconds"}


def add(x: float, y: float = 10, *, scale: float = 1) -> float:
    time.sleep(0.05 if x == 1 else 0)  # so that the first row is not the first to finish
    return (x + y) * scale


class TestRows:
    def test_each_with_each(self, cluster: Cluster) -> None:
        outcome = run(cluster, add, parameters={"x": [1, 2], "y": [3, 4, 5]}, arguments={"scale": 2})
        assert without_seconds(outcome) == {
            "row": [0, 1, 2, 3, 4, 5],
            "x": [1, 1, 1, 2, 2, 2],
            "y": [3, 4, 5, 3, 4, 5],
            "result": [8, 10, 12, 10, 12, 14],
        }
        assert all(seconds >= 0 for seconds in outcome.tables["results"]["seconds"])
        metrics = {name: value for name, value in outcome.metrics.items() if name != "function_s"}
        assert metrics == {"n_rows": 6, "n_done": 6, "n_failed": 0}
        assert not outcome.warnings

    def test_a_list_of_rows(self, cluster: Cluster) -> None:
        outcome = run(cluster, add, parameters=[{"x": 5, "y": 1}, {"x": 1}])
        assert without_seconds(outcome) == {"row": [0, 1], "x": [5, 1], "y": [1, None], "result": [6, 11]}

    def test_tables(self, cluster: Cluster, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
        pyarrow.parquet.write_table(pa.table({"x": [1, 3], "y": [2, 4]}), tmp_path / "a.parquet")
        (tmp_path / "a.jsonl").write_text('{"x": 1, "y": 2}\n\n{"x": 3, "y": 4}\n')
        for name in ("a.csv", "a.parquet", "a.jsonl"):
            outcome = run(cluster, add, table=str(tmp_path / name))
            assert without_seconds(outcome) == {"row": [0, 1], "x": [1, 3], "y": [2, 4], "result": [3, 7]}, name

    def test_batches_give_the_same(self, cluster: Cluster) -> None:
        keys = {"parameters": {"x": list(range(10))}, "seed_argument": "rng"}
        single = run(cluster, draw, **keys)
        workload = Map(function=draw, batch=4, **keys)
        units, finished = Units(workload.prepare(NOTHING).n_units), []
        assert units.total == 3
        units.finish = lambda key, result=None: finished.append(key)  # type: ignore[method-assign]
        batches = workload.prepare(NOTHING).run(cluster.client, units)
        assert sorted(finished) == ["rows 0-3", "rows 4-7", "rows 8-9"]
        assert without_seconds(batches) == without_seconds(single)

    def test_a_generator_of_its_own_for_each_row(self, cluster: Cluster) -> None:
        found = run(cluster, draw, seed=5, parameters={"x": [0, 0, 0]}, seed_argument="rng").tables["results"]["result"]
        streams = np.random.SeedSequence(5).spawn(3)
        assert found == [np.random.default_rng(stream).random() for stream in streams]

    def test_functions_that_have_no_module(self, cluster: Cluster) -> None:
        big = 3
        assert run(cluster, lambda x: x + big, parameters={"x": [1]}).tables["results"]["result"] == [4]
        outcome = run(cluster, functools.partial(add, y=1), parameters={"x": [1]})
        assert outcome.tables["results"]["result"] == [2]


def draw(x: int, rng: np.random.Generator) -> float:
    return x + rng.random()


class Point(NamedTuple):
    east: float
    north: float


def anything(x: str) -> Any:
    results: dict[str, Any] = {
        "number": np.float64(1.5),
        "text": np.str_("a"),
        "nothing": None,
        "mapping": {"a": np.int64(1), "x": 2, "seconds": 3, "when": datetime.date(2024, 2, 29)},
        "tuple": (1, [2, 3]),
        "named": Point(1.0, 2.0),
        "array": np.eye(2),
        "huge": 2**70,
        "lock": threading.Lock(),
        "lazy": None,
    }
    if x == "lazy":
        import dask.array as da

        return {"sum": da.ones(3).sum()}
    return results[x]


class TestResults:
    def one(self, cluster: Cluster, what: str) -> dict[str, Any]:
        columns = run(cluster, anything, parameters={"x": [what]}).tables["results"]
        to_table(columns)  # it can be written
        return {name: values[0] for name, values in columns.items() if name not in {"row", "x", "seconds"}}

    def test_kinds(self, cluster: Cluster) -> None:
        assert self.one(cluster, "number") == {"result": 1.5}
        assert self.one(cluster, "text") == {"result": "a"}
        assert self.one(cluster, "nothing") == {"result": None}
        assert self.one(cluster, "tuple") == {"result_0": 1, "result_1": [2, 3]}
        assert self.one(cluster, "named") == {"east": 1.0, "north": 2.0}
        assert self.one(cluster, "array") == {"result": [[1.0, 0.0], [0.0, 1.0]]}
        assert self.one(cluster, "huge") == {"result": 2**70}

    def test_names_that_are_taken_get_an_underscore(self, cluster: Cluster) -> None:
        columns = run(cluster, anything, parameters={"x": ["mapping"]}).tables["results"]
        assert list(columns) == ["row", "x", "a", "x_", "seconds", "when", "seconds_"]
        assert (columns["x_"], columns["seconds"], columns["when"]) == ([2], [3], ["2024-02-29"])
        assert columns["seconds_"][0] < 60

    def test_what_is_no_result(self, cluster: Cluster) -> None:
        outcome = run(cluster, anything, parameters={"x": ["lock", "lazy", "number"]})
        errors = outcome.tables["failures"]["error"]
        assert errors[0] == "a _thread.lock was returned; return numbers, texts, or lists and mappings of them"
        assert errors[1].startswith("a dask Array was returned, which is still to be computed")
        assert outcome.tables["results"]["row"] == [2]


def fragile(x: int, y: int = 0) -> int:
    if x == 2:
        raise ValueError("not two")
    if x == 3:
        raise SystemExit(3)
    if x == 4:
        os._exit(1)
    return x + y


class TestFailures:
    def test_they_are_kept_beside_the_results(self, cluster: Cluster) -> None:
        outcome = run(cluster, fragile, parameters={"x": [1, 2, 3, 5], "y": [7]})
        assert without_seconds(outcome) == {"row": [0, 3], "x": [1, 5], "y": [7, 7], "result": [8, 12]}
        failures = outcome.tables["failures"]
        assert (failures["row"], failures["x"], failures["y"]) == ([1, 2], [2, 3], [7, 7])
        assert failures["error"] == ["ValueError: not two", "SystemExit: 3"]
        assert 'raise ValueError("not two")' in failures["traceback"][0]
        assert "rows.py" not in failures["traceback"][0]
        assert outcome.warnings[0] == "row 1 (x=2, y=7) failed: ValueError: not two"
        assert outcome.metrics["n_failed"] == 2
        assert outcome.summary["rows"].startswith("2 of 4 done")

    def test_a_row_that_kills_its_worker_is_named_and_takes_no_other_with_it(self, cluster: Cluster) -> None:
        workload, finished = Map(function=fragile, parameters={"x": [0, 4, 5, 6]}, batch=2), []
        units = Units(workload.prepare(NOTHING).n_units)
        finish = units.finish
        units.finish = lambda key, result=None: finished.append(key) or finish(key)  # type: ignore[method-assign,func-returns-value]
        outcome = workload.prepare(NOTHING).run(cluster.client, units)
        assert outcome.tables["results"]["result"] == [0, 5, 6]
        assert outcome.tables["failures"]["x"] == [4]
        assert outcome.warnings == ["row 1 (x=4) failed: every worker that tried it died, probably out of memory"]
        assert sorted(finished) == ["row 0", "row 1", "rows 2-3"]
        assert units.done == units.total == 3

    def test_all_fail(self, cluster: Cluster) -> None:
        with pytest.raises(
            WorkloadError, match="all 2 rows failed; first cause: ValueError: not two\n  with x=2"
        ) as told:
            run(cluster, fragile, parameters={"x": [2, 3]})
        assert told.value.outcome.tables["failures"]["row"] == [0, 1]

    def test_the_first_ends_all_if_that_is_asked_for(self, cluster: Cluster) -> None:
        workload = Map(function=fragile, parameters={"x": [1, 1, 1, 1, 1, 1, 2, *[1] * 500]}, on_error="raise")
        units = Units(workload.prepare(NOTHING).n_units)
        with pytest.raises(WorkloadError, match=r"row 6 \(x=2\) failed: ValueError: not two"):
            workload.prepare(NOTHING).run(cluster.client, units)
        assert units.done < 500
        assert units.so_far().tables["results"]["result"][0] == 1
        assert units.so_far().metrics["n_rows"] == 507

    def test_many_are_told_in_short(self, cluster: Cluster) -> None:
        outcome = run(cluster, fragile, parameters={"x": [1] + [2] * 8}, batch=9)
        assert len(outcome.warnings) == 6
        assert outcome.warnings[-1] == "3 more rows failed: see the table failures"


def by_position(x: int, /) -> int:
    return x


def open_ended(x: int, **others: int) -> int:
    return x + sum(others.values())


class TestRefused:
    @pytest.mark.parametrize(
        ("function", "keys", "expected"),
        [
            (
                add,
                {"parameters": {"x": [1], "scal": [2]}},
                "workload.parameters: add() has no 'scal'\n  did you mean 'scale'",
            ),
            (add, {"parameters": {"y": [1]}}, "add() needs 'x'\n  give it one value, workload.arguments.x=VALUE"),
            (add, {"parameters": [{"x": 1}, {"y": 1}]}, "add() needs 'x'"),
            (add, {"parameters": {"x": [1]}, "arguments": {"z": 1}}, "workload.arguments: add() has no 'z'"),
            (add, {"parameters": {"x": [1]}, "arguments": {"x": 1}}, "'x' is given by workload.arguments too"),
            (add, {"parameters": {"x": [1]}, "seed_argument": "x"}, "'x' is given by workload.seed_argument too"),
            (add, {"parameters": {"x": [1]}, "seed_argument": "rng"}, "workload.seed_argument: add() has no 'rng'"),
            (
                add,
                {"parameters": {"x": [1]}, "arguments": {"y": 1}, "seed_argument": "y"},
                "workload.seed_argument=y: workload.arguments gives it too",
            ),
            (functools.partial(add, y=1), {"parameters": {"x": [1], "y": [1]}}, "given by workload._partial_ too"),
            (by_position, {"parameters": {"x": [1]}}, "takes 'x' by position only"),
            ("os.nope", {"parameters": {"x": [1]}}, "workload.function=os.nope: os has no 'nope'"),
            ("nowhere.f", {"parameters": {"x": [1]}}, "no module named 'nowhere'"),
            ("os.sep", {"parameters": {"x": [1]}}, "not a class or function"),
            (add, {"parameters": {f"x{n}": list(range(100)) for n in range(5)}}, "make 10000000000 rows"),
            (add, {"table": "nope.csv"}, "nope.csv: cannot be read: No such file or directory"),
            (add, {"table": "nope.jsonl"}, "nope.jsonl: cannot be read: No such file or directory"),
        ],
    )
    def test_before_a_cluster_starts(self, function: Any, keys: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Map(function=function, **keys).prepare(NOTHING)
        assert expected in str(caught.value)

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({}, "workload.parameters, workload.table: one of them must be given"),
            ({"parameters": {"x": [1]}, "table": "a.csv"}, "only one of them must be given"),
            ({"parameters": {"x": 3}}, "workload.parameters.x=3: not a list\n  write [3]"),
            ({"parameters": {"x": "abc"}}, "workload.parameters.x='abc': not a list"),
            ({"parameters": {"x": []}}, "workload.parameters.x=[]: an empty list leaves no row"),
            ({"parameters": "x"}, "neither a mapping nor a list of mappings"),
            ({"parameters": [1]}, "1 is not a mapping"),
            ({"parameters": []}, "it has no rows"),
            ({"table": ""}, "workload.table=: not a file's path"),
            ({"parameters": {"x": [1]}, "arguments": [1]}, "workload.arguments=[1]: not a mapping"),
            ({"parameters": {"x": [1]}, "batch": 0}, "workload.batch=0: must be a whole number, 1 or more"),
            ({"parameters": {"x": [1]}, "seed_argument": 1}, "must be an argument's name"),
            ({"parameters": {"x": [1]}, "on_error": "rais"}, "workload.on_error=rais: unknown\n  did you mean 'raise'"),
            ({"parameters": {"x": [1]}, "function": 3}, "workload.function=3: neither a function nor the name of one"),
        ],
    )
    def test_values(self, keys: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Map(**{"function": add, **keys})
        assert expected in str(caught.value)

    def test_tables_that_hold_no_rows(self, tmp_path: Path) -> None:
        texts = {
            "empty.csv": "x,y\n", "twice.csv": "x,x\n1,2\n", "ragged.csv": "x,y\n1,2\n1,2,3\n",
            "list.jsonl": "[1]\n", "broken.jsonl": '{"x": 1}\n{"x": \n', "empty.jsonl": "\n",
        }  # fmt: skip
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        for name, expected in {
            "empty.csv": "has no rows", "twice.csv": "duplicate column names: x",
            "ragged.csv": "Expected 2 columns, got 3", "list.jsonl": "line 1: not a JSON object",
            "broken.jsonl": "line 2: invalid JSON", "empty.jsonl": "has no rows",
        }.items():  # fmt: skip
            with pytest.raises(DataError) as caught:
                Map(function=add, table=str(tmp_path / name)).prepare(NOTHING)
            assert f"{tmp_path / name}" in str(caught.value)
            assert expected in str(caught.value)
            assert "data.delimiter" not in str(caught.value)

    def test_a_function_that_cannot_travel(self) -> None:
        lock = threading.Lock()
        with pytest.raises(ConfigError, match="cannot be sent to workers"):
            Map(function=lambda x: lock, parameters={"x": [1]}).prepare(NOTHING)

    def test_data(self) -> None:
        with pytest.raises(ConfigError, match="data: workload=map takes none"):
            Map(function=add, parameters={"x": [1]}).prepare(Inputs(Dataset(X=np.eye(2)), None, 0))

    def test_any_name_is_good_for_a_function_that_takes_all(self, cluster: Cluster) -> None:
        outcome = run(cluster, open_ended, parameters={"x": [1], "anything": [2]})
        assert outcome.tables["results"]["result"] == [3]


def test_what_is_said() -> None:
    workload = Map(function=add, parameters={"x": [1, 2], "y": [3]}, batch=2)
    assert workload.prepare(NOTHING).n_units == 1
    assert workload.prepare(NOTHING).description == "add over 2 rows of x, y, 2 at a time"


def test_the_preset_says_what_the_class_says() -> None:
    path = Path(__file__).parents[2] / "conf" / "workload" / "map.yaml"
    preset = yaml.safe_load(path.read_text())
    del preset["_target_"], preset["defaults"]
    assert preset == vars(Map(function="???", parameters=[{}])) | {"parameters": None}


def test_choosing_it_leaves_out_data_and_model_unless_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "study.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: iris\n  - override /workload: python\n"
        "workload:\n  function: mine.f\n  params: {a: 1, b: 2}\n"
    )

    def composed(*args: str) -> dict[str, Any]:
        found = compose("hpcml run", [*args, f"--config-dir={tmp_path}"])
        assert found is not None
        return found.config

    chosen = ["workload=map", "workload.function=mine.f", "workload.parameters={x: [1]}"]
    assert (composed(*chosen)["data"], composed(*chosen)["model"]) == (None, None)
    assert composed(*chosen, "data=iris")["data"] == {"_target_": "sklearn.datasets.load_iris"}
    study = composed("experiment=study")
    assert study["data"] == {"_target_": "sklearn.datasets.load_iris"}
    assert (study["model"], study["workload"]["params"]) == (None, {"a": 1, "b": 2})
    assert composed("experiment=study", "data=null")["data"] is None
    assert composed("experiment=study", "workload.params.a=3")["workload"]["params"] == {"a": 3, "b": 2}
    assert composed("experiment=study", "workload.params={c: 3}")["workload"]["params"] == {"c": 3}
    own = composed("experiment=study", "workload._target_=mine.Own")["workload"]
    assert own == {"_target_": "mine.Own", "function": "mine.f", "params": {"a": 1, "b": 2}}


def test_a_unit_s_result_is_small_and_self_contained(cluster: Cluster) -> None:
    workload, results = Map(function=fragile, parameters={"x": [1, 2]}), {}
    units = Units(2)
    units.finish = results.__setitem__  # type: ignore[method-assign]
    workload.prepare(NOTHING).run(cluster.client, units)
    for key, number in (("row 0", 0), ("row 1", 1)):
        (row,) = results[key]
        assert row.number == number
        json.dumps(vars(row))
