"""The rules of the house: which way imports point, what is public, that every config option builds and is read."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skops.io
import yaml
from sklearn.svm import LinearSVC

import hpcml
from hpcml.config.compose import compose
from hpcml.data import ArrayFile, TableFile
from hpcml.launcher import run
from hpcml.record import Origin
from hpcml.spec import HeadSpec, LocalSpec, RunSpec
from hpcml.workloads.search import Search

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hpcml"
CONF = ROOT / "conf"

# What each part may import of ours; a package stands for all of its modules.
ALLOWED = {
    "__init__": {"data", "errors", "launcher", "record", "spec", "workloads"},  # for type checkers only
    "__main__": {"cli"},
    "cli": {
        "__init__", "completion", "config", "data", "display", "errors", "fetch", "heads", "interrupt", "launcher",
        "leftovers", "plan", "record", "runs", "submission",
    },
    "completion": {"config", "runs"},
    "config": {"config", "errors", "runs", "site", "spec", "targets"},
    "launcher": {
        "batch", "cluster", "describe", "display", "errors", "files", "interrupt", "logs", "parts", "plan", "progress",
        "record", "results", "runs", "spec", "units", "workloads",
    },
    "plan": {"batch", "cluster", "data", "errors", "results", "runs", "spec", "workloads"},
    "cluster": {"batch", "client", "cluster", "errors", "files", "interrupt", "runs", "spec", "units"},
    "batch": {"batch", "errors", "runs", "site", "spec", "units"},
    "display": {"cluster", "errors", "plan", "record", "runs", "submission", "units"},  # for type checkers only
    "progress": {"cluster", "files", "units", "workloads"},  # cluster, workloads: for type checkers only
    "results": {"errors", "files", "runs", "workloads"},
    "record": {"__init__", "files", "runs"},
    "workloads": {"client", "data", "errors", "files", "parts", "targets", "units", "workloads"},
    "parts": {"files"},
    "data": {"data", "errors", "files"},
    "describe": {"files"},
    "examples": {"data", "workloads"},  # data: for type checkers only
    "fetch": {"errors", "files", "units"},
    "heads": {"batch", "record", "runs"},
    "leftovers": {"batch", "heads", "record", "runs"},
    "submission": {"batch", "errors", "files", "interrupt", "plan", "record", "runs", "spec"},
    "worker": {"cluster"},
    "runs": {"errors"},
    "spec": {"errors", "site", "units"},
    "site": {"errors", "units"},
    "targets": {"errors"},
    "units": {"errors"},
    "interrupt": {"errors"},
    "client": set(),
    "errors": set(),
    "files": set(),
    "logs": set(),
    "models": {"errors", "files", "runs"},
}  # fmt: skip

# The only parts that may import these.
OWNERS = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "sklearn": {"data", "fetch", "models", "workloads"},
    "joblib": {"models", "results", "workloads"},
    "dask_jobqueue": {"cluster"},
    "distributed": {"client", "cluster", "examples", "launcher", "logs", "workloads"},
    "dask_ml": {"data", "workloads"},
    "matplotlib": {"workloads"},
    "pyarrow": {"data", "parts", "results"},
    "rich": {"cli", "display", "launcher", "progress"},
}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "hpcml":
            yield from (f"hpcml.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    for name in imports(path):
        top, _, below = name.partition(".")
        if top == "hpcml":
            target = below.split(".")[0]
            target = target if target in ALLOWED else "__init__"
            assert target in ALLOWED[part(path)], f"{part(path)} must not import {name}"
        elif top in OWNERS:
            assert part(path) in OWNERS[top], f"{part(path)} must not import {name}"


def test_the_map_of_imports_names_every_part() -> None:
    assert {part(path) for path in SOURCE.rglob("*.py")} == set(ALLOWED)


def test_public_names() -> None:
    workloads = {
        "AsianOption", "DaskFit", "FitEstimator", "Function", "Incremental", "KMeans", "Map", "Predict", "Search",
    }  # fmt: skip
    others = {"Blocks", "Dataset", "HpcmlError", "LocalSpec", "Outcome", "Record", "RunSpec", "run"}
    assert set(hpcml.__all__) == workloads | others
    assert hpcml.__all__ == sorted(hpcml.__all__)
    for name in hpcml.__all__:
        assert getattr(hpcml, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        hpcml.nope  # noqa: B018


def test_quick_verbs_import_nothing_heavy(tmp_path: Path) -> None:
    for args in (["--help"], ["list"], ["list", "--json"], ["status", "last"], ["completion"], ["fetch", "--help"]):
        code = (
            "import contextlib, sys\nfrom hpcml.cli import main\n"
            "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
            "heavy = {'hydra', 'omegaconf', 'dask', 'distributed', 'sklearn', 'numpy', 'pyarrow', 'pandas', 'skops'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout.splitlines()[-1] == "[]", args


def options() -> list[tuple[str, str]]:
    return sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))


# What an option leaves for the user to say.
NEEDED = {
    ("data", "csv"): ["data.path=x.csv", "data.target=y"],
    ("data", "parquet"): ["data.path=x.parquet", "data.target=y"],
    ("data", "parquet_blocks"): ["data.path=x.parquet"],
    ("data", "text"): ["data.path=x.jsonl", "data.target=y"],
    ("data", "npy"): ["data.path=x.npy"],
    ("data", "npz"): ["data.path=x.npz"],
    ("data", "custom"): ["data._target_=sklearn.datasets.load_iris"],
    ("model", "custom"): ["model._target_=sklearn.svm.LinearSVC"],
    ("model", "from_run"): ["model.run=model.skops"],
    **{("cluster", kind): ["site=generic_pbs"] for kind in ("pbs", "allocation")},
    ("cluster", "slurm"): ["site=generic_slurm"],
    ("cluster", "attach"): ["cluster.scheduler_file=scheduler.json"],
    ("workload", "custom"): ["workload._target_=hpcml.workloads.search.Search"],
    ("workload", "map"): ["workload.function=math.hypot", "workload.table=x.csv"],
    ("workload", "python"): ["workload.function=mine.f"],
}


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_composes_and_builds(
    group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    skops.io.dump(LinearSVC(), tmp_path / "model.skops")  # for model=from_run
    composed = compose("hpcml run", [f"{group}={option}", *NEEDED.get((group, option), [])])
    assert composed is not None
    assert isinstance(composed.build(), RunSpec)


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_says_how_it_is_chosen(group: str, option: str) -> None:
    comments = [line for line in (CONF / group / f"{option}.yaml").read_text().splitlines() if line.startswith("#")]
    assert f"{group}={option}" in " ".join(comments)


def test_the_search_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((CONF / "workload" / "search.yaml").read_text())
    del preset["_target_"]
    fields = {field.name: field.default for field in dataclasses.fields(Search)}
    assert preset.keys() == fields.keys()
    for name, value in fields.items():
        assert str(preset[name]) == str(value), name


class Reads:
    """Records which attributes of a class are read, outside of the machinery of dataclasses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cls: type) -> None:
        self.names = {field.name for field in dataclasses.fields(cls)}
        self.unread = set(self.names)
        original = cls.__getattribute__

        def read(instance: Any, name: str) -> Any:
            caller = sys._getframe(1).f_code.co_name
            if caller not in {"__post_init__", "__init__", "__repr__", "__eq__", "asdict", "_asdict_inner"}:
                self.unread.discard(name)
            return original(instance, name)

        monkeypatch.setattr(cls, "__getattribute__", read)


def test_every_key_of_a_config_is_read_by_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.csv").write_text("id,a,y,g\n" + "".join(f"{i},{i % 7},{i % 2},{i % 5}\n" for i in range(60)))
    watched = {cls: Reads(monkeypatch, cls) for cls in (RunSpec, LocalSpec, Search, TableFile)}
    composed = compose(
        "hpcml run",
        [
            "data=csv", f"data.path={tmp_path / 'data.csv'}", "data.target=y", "data.groups=g", "data.drop=[id]",
            "workload.method=random", "workload.grid={C: [1, 2]}", "workload.n_iter=2", "cluster.workers=1",
            f"scratch={tmp_path}",
        ],
    )  # fmt: skip
    assert composed is not None
    record = run(composed.build(), origin=Origin(config=composed.config))
    assert record.state == "DONE"
    for cls, reads in watched.items():
        assert not reads.unread, f"nothing reads these keys of {cls.__name__}: {reads.unread}"


def test_every_key_of_array_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    np.savez(tmp_path / "a.npz", X=np.eye(3), y=np.arange(3), g=np.arange(3))
    reads = Reads(monkeypatch, ArrayFile)
    ArrayFile(path=str(tmp_path / "a.npz"), target="y", groups="g").load()
    assert not reads.unread


def test_no_key_of_the_root_config_is_left_over() -> None:
    composed = compose("hpcml run", [])
    assert composed is not None
    assert set(composed.config) == {field.name for field in dataclasses.fields(RunSpec)}
    assert set(composed.config["cluster"]) == {field.name for field in dataclasses.fields(LocalSpec)}
    assert set(composed.config["head"]) == {field.name for field in dataclasses.fields(HeadSpec)}
