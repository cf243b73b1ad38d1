"""Test a user's own functions from the command line: in a module, in a file, over a table.

An option is priced as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from hpcml.runs import RunPaths

Hpcml = Any

OWN = """
from hpcml import Outcome

def add(x, y=0, scale=1, rng=None):
    if x == 3:
        raise ValueError("not three")
    return {"sum": (x + y) * scale, "drawn": None if rng is None else rng.random()}

def study(client, data, power=2):
    squares = client.map(pow, range(4), [power] * 4)
    print("said by the user's function")
    return Outcome(
        metrics={"sum": sum(client.gather(squares)), "samples": None if data is None else data.n_samples},
        tables={"numbers": {"n": [0, 1, 2, 3]}},
        summary={"sum": "as it is"},
    )

def broken(client, data):
    return helper()

def helper():
    return {}["missing"]
"""


def only_run(directory: Path) -> RunPaths:
    (found,) = (directory / "runs").iterdir()
    return RunPaths(found)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def _own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "deeper.py").write_text(OWN)


def test_a_map_over_lists(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml(
        "run", "workload=map", "workload.function=mine.add", "workload.parameters.x=[1, 2, 3]",
        "workload.parameters.y=[10, 20]", "workload.arguments.scale=2", "workload.seed_argument=rng",
        "workload.batch=2", "cluster.workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path)
    table = pyarrow.parquet.read_table(paths.table("results", "parquet")).to_pydict()
    assert (table["x"], table["y"], table["sum"]) == ([1, 1, 2, 2], [10, 20, 10, 20], [22, 42, 24, 44])
    assert len(set(table["drawn"])) == 4
    assert pyarrow.parquet.read_table(paths.table("failures", "parquet"))["x"].to_pylist() == [3, 3]
    assert "warning: row 4 (x=3, y=10) failed: ValueError: not three" in done.stdout
    assert read(paths.record)["units_done"] == 3
    config = yaml.safe_load(paths.config.read_text())
    assert (config["data"], config["model"]) == (None, None)


def test_a_map_over_a_table_by_a_function_in_a_file(hpcml: Hpcml, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,2\n5,6\n")
    done = hpcml(
        "run", "workload=map", "workload.function=below/deeper.py:add", "workload.table=rows.csv",
        "workload.arguments={scale: 3}", "cluster.workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(only_run(tmp_path).table("results", "parquet")).to_pydict()
    assert table["sum"] == [9, 33]


def test_a_function_with_the_client_and_data(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml(
        "run", "workload=python", "workload.function=mine.study", "workload.arguments.power=3", "data=iris",
        "cluster.workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path)
    assert read(paths.metrics) == {"sum": 36, "samples": 150}
    assert pyarrow.parquet.read_table(paths.table("numbers", "parquet"))["n"].to_pylist() == [0, 1, 2, 3]
    assert "sum      as it is" in done.stdout


def test_an_error_names_the_users_line(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("run", "workload=python", "workload.function=mine.broken", "cluster.workers=1")
    assert done.returncode == 1
    paths = only_run(tmp_path)
    line = OWN.splitlines().index('    return {}["missing"]') + 1
    first, *hints = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert first == "error: mine.broken() failed: KeyError: 'missing'"
    assert hints[0] == f'  at {tmp_path}/mine.py, line {line}, in helper: return {{}}["missing"]'
    assert "Traceback" not in done.stderr
    assert "in broken" in paths.log.read_text()
    assert read(paths.record)["state"] == "FAILED"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["workload=map"], "workload.function is not set"),
        (["workload=map", "workload.function=mine.add"], "one of them must be given"),
        (["workload=map", "workload.function=mine.ad", "workload.parameters.x=[1]"], "did you mean 'add'"),
        (["workload=map", "workload.function=mine.add", "workload.parameters.z=[1]"], "add() has no 'z'"),
        (["workload=map", "workload.function=mine.add", "workload.table=no.csv"], "no.csv: cannot be read"),
        (["workload=python", "workload.function=mine.py:nope"], "mine has no 'nope'"),
        (["workload=python", "workload.function=mine.study", "workload.arguments.powr=3"], "did you mean 'power'"),
        (["experiment=asian_option", "workload.sigma=-1"], "workload.sigma=-1: must be a number, 0 or more"),
        (["experiment=asian_option", "data=iris"], "leave it out: data=null"),
        (["data=null", "model=svc"], "a search needs some"),
    ],
)
def test_mistakes_are_told_before_a_cluster_starts(hpcml: Hpcml, args: list[str], expected: str) -> None:
    done = hpcml("plan", *args)
    assert done.returncode == 2, done.stdout
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plan_of_an_option(hpcml: Hpcml) -> None:
    done = hpcml("plan", "experiment=asian_option", "cluster.workers=2")
    assert done.returncode == 0, done.stderr
    assert "compute        Asian call, 10000 paths of 1460 days in 20 batches" in done.stdout
    assert "data           none" in done.stdout
    assert "units of work  20" in done.stdout
    assert "the model as" not in done.stdout


def test_an_option(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("run", "experiment=asian_option", "size=small", "cluster.workers=1")
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path)
    metrics = read(paths.metrics)
    assert metrics["n"] == 1000
    assert abs(metrics["expected_payoff"] - 11.71) < 4 * metrics["standard_error"]
    assert paths.figure("convergence").is_file()
    assert "expected payoff  " in done.stdout
    assert "asian_option" in hpcml("list").stdout
