"""Check imports, public names, and that every config option builds and is used."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
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
WORKLOADS = SOURCE / "workloads"
CONF = ROOT / "conf"

# Parts of hpcml that each part may import; a package stands for all of its modules.
ALLOWED = {
    "__init__": {"data", "errors", "examples", "launcher", "record", "spec", "workloads"},  # for type checkers only
    "__main__": {"cli"},
    "cli": {"__init__", "display", "errors", "interrupt", "orphans", "verbs"},
    "verbs": {
        "catalogue", "completion", "config", "data", "display", "errors", "fetch", "heads", "launcher", "orphans",
        "plan", "record", "runs", "submission", "units",
    },
    "catalogue": {"errors", "keys", "site", "spec", "targets"},
    "completion": {"config", "runs"},
    "config": {"config", "errors", "models", "runs", "site", "spec", "targets", "upstream"},
    "launcher": {
        "batch", "cluster", "data", "describe", "display", "errors", "files", "interrupt", "logs", "parts", "plan",
        "progress", "record", "results", "runs", "spec", "units", "upstream", "workloads",
    },
    "plan": {"batch", "cluster", "data", "errors", "results", "room", "runs", "spec", "units", "workloads"},
    "room": {"batch", "cluster", "errors", "spec", "units", "workloads"},
    "cluster": {
        "background", "batch", "client", "cluster", "errors", "files", "interrupt", "runs", "spec", "units", "upstream",
    },
    "batch": {"batch", "errors", "keys", "runs", "site", "spec", "units"},
    # for type checkers only
    "display": {"catalogue", "cluster", "errors", "plan", "record", "runs", "submission", "units"},
    "progress": {"background", "cluster", "files", "units", "workloads"},  # cluster, workloads: for type checkers only
    "results": {"errors", "files", "runs", "workloads"},
    "record": {"__init__", "errors", "files", "fingerprints", "runs"},
    "fingerprints": set(),
    "boosters": {"data"},
    "workloads": {
        "background", "boosters", "client", "data", "describe", "errors", "files", "keys", "models", "parts", "targets",
        "units", "upstream", "workloads",
    },
    "parts": {"files"},
    "data": {"data", "errors", "files", "keys", "units"},
    "describe": {"files"},
    "examples": {"data", "errors", "examples", "keys", "workloads"},  # data: for type checkers only
    "fetch": {"errors", "files", "units"},
    "heads": {"batch", "files", "record", "runs"},
    "orphans": {"batch", "heads", "record", "runs"},
    "submission": {"batch", "errors", "files", "heads", "interrupt", "plan", "record", "runs", "spec"},
    "worker": {"cluster"},
    "runs": {"errors"},
    "spec": {"errors", "keys", "site", "units"},
    "site": {"errors", "keys", "units"},
    "targets": {"errors"},
    "units": {"errors"},
    "interrupt": {"errors"},
    "keys": {"errors", "units"},
    "background": set(),
    "client": {"upstream"},
    "errors": set(),
    "files": set(),
    "logs": set(),
    "models": {"data", "errors", "files", "runs"},
    "upstream": set(),
}  # fmt: skip

# The same within workloads, by names of modules and folders: no workload imports another.
ALLOWED_WORKLOADS: dict[str, set[str]] = {
    "__init__": set(),
    "base": {"footprint", "trial"},
    "footprint": set(),
    "trial": set(),
    "preload": {"search"},
    "engine": {"base"},
    "inputs": {"base", "trial"},
    "dask_fit": {"base", "engine", "inputs"},
    "fit": {"base", "engine", "footprint", "inputs", "trial"},
    "functions": {"base", "engine"},
    "incremental": {"base", "engine", "inputs", "trial"},
    "kmeans": {"base", "engine", "inputs"},
    "predict": {"base", "engine", "inputs", "trial"},
    "scaling": {"base"},
    "search": {"base", "engine", "footprint", "inputs", "trial"},
}

# Parts that may import these packages.
OWNERS = {
    "hydra": {"config", "upstream"},
    "omegaconf": {"config", "upstream"},
    "sklearn": {"boosters", "data", "fetch", "models", "upstream", "workloads"},
    "joblib": {"models", "results", "upstream", "workloads"},
    "dask_jobqueue": {"upstream"},
    "distributed": {"client", "cluster", "examples", "launcher", "logs", "upstream", "workloads"},
    "dask_ml": {"data", "workloads"},
    "matplotlib": {"examples", "workloads"},
    "pyarrow": {"data", "parts", "results"},
    "rich": {"cli", "display", "launcher", "progress"},
}

# What each module of upstream may import: who uses Hydra must not wait for Dask.
OWNERS_UPSTREAM = {
    "distributed": {"distributed", "tornado"},
    "hydra": {"hydra", "omegaconf"},
    "joblib": {"joblib"},
    "jobqueue": {"dask_jobqueue", "distributed"},
    "multiprocessing": set[str](),
    "sklearn": {"sklearn"},
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


@pytest.mark.parametrize("path", sorted(WORKLOADS.rglob("*.py")), ids=lambda p: str(p.relative_to(WORKLOADS)))
def test_workloads_do_not_import_each_other(path: Path) -> None:
    own = path.relative_to(WORKLOADS).parts[0].removesuffix(".py")
    for name in imports(path):
        if name.startswith("hpcml.workloads."):
            target = name.split(".")[2]
            assert target in ALLOWED_WORKLOADS[own] | {own}, f"workloads/{own} must not import {name}"


@pytest.mark.parametrize("name", sorted(OWNERS_UPSTREAM))
def test_a_module_of_upstream_imports_its_own_package_only(name: str) -> None:
    found = {each.partition(".")[0] for each in imports(SOURCE / "upstream" / f"{name}.py")} - sys.stdlib_module_names
    assert found <= OWNERS_UPSTREAM[name]


def test_only_schedulers_name_their_commands() -> None:
    commands = re.compile(r"\b(qsub|qstat|qdel|qselect|pbsdsh|sbatch|squeue|scontrol|scancel|srun)\b")
    allowed = (SOURCE / "batch" / "schedulers", SOURCE / "cluster" / "jobqueue.py")
    found = [
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*.py")
        if not any(place in (path, *path.parents) for place in allowed) and commands.search(path.read_text())
    ]
    assert found == []


def test_every_package_is_installed() -> None:
    there = {".".join(path.parent.relative_to(ROOT / "src").parts) for path in SOURCE.rglob("__init__.py")}
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert there | {"hpcml.conf", "hpcml.scripts"} == set(named)


def test_the_map_of_imports_names_every_part() -> None:
    assert {part(path) for path in SOURCE.rglob("*.py")} == set(ALLOWED)
    assert {path.stem for path in (SOURCE / "upstream").glob("*.py")} == {"__init__", *OWNERS_UPSTREAM}


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


# Values that an option requires from the user.
NEEDED = {
    ("data", "csv"): [f"data.path={ROOT}/README.md", "data.target=y"],
    ("data", "parquet"): [f"data.path={ROOT}/README.md", "data.target=y"],
    ("data", "feather"): [f"data.path={ROOT}/README.md", "data.target=y"],
    ("data", "jsonl"): [f"data.path={ROOT}/README.md", "data.target=y"],
    ("data", "parquet_blocks"): [f"data.path={ROOT}/README.md"],
    ("data", "text"): [f"data.path={ROOT}/README.md", "data.target=y"],
    ("data", "npy"): [f"data.path={ROOT}/README.md"],
    ("data", "npz"): [f"data.path={ROOT}/README.md"],
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
def test_every_option_documents_its_choice(group: str, option: str) -> None:
    comments = [line for line in (CONF / group / f"{option}.yaml").read_text().splitlines() if line.startswith("#")]
    assert f"{group}={option}" in " ".join(comments)


def test_the_search_preset_matches_the_class() -> None:
    preset = yaml.safe_load((CONF / "workload" / "search.yaml").read_text())
    del preset["_target_"]
    fields = {field.name: field.default for field in dataclasses.fields(Search)}
    assert preset.keys() == fields.keys()
    for name, value in fields.items():
        assert str(preset[name]) == str(value), name


class Reads:
    """Records the attributes of a class that are read, except by dataclasses."""

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


def test_a_run_reads_every_config_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_root_config_matches_the_spec() -> None:
    composed = compose("hpcml run", [])
    assert composed is not None
    assert set(composed.config) == {field.name for field in dataclasses.fields(RunSpec)}
    assert set(composed.config["cluster"]) == {field.name for field in dataclasses.fields(LocalSpec)}
    assert set(composed.config["head"]) == {field.name for field in dataclasses.fields(HeadSpec)}
