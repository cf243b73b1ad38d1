"""Contracts with other packages: what of their private interfaces hpcml depends on, and that only upstream uses them.

A test that fails here after an upgrade names the function of ``hpcml.upstream`` to mend.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from dask import delayed
from distributed import CancelledError, Client, Nanny, Scheduler, Status, Worker
from distributed.deploy.spec import ProcessInterface, SpecCluster
from sklearn.datasets import load_iris
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, get_scorer, make_scorer, zero_one_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import hpcml
from hpcml.upstream import distributed as dask
from hpcml.upstream import hydra, jobqueue, multiprocessing, sklearn
from hpcml.upstream import joblib as parallel

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hpcml"

# The packages whose private names only upstream may use.
PACKAGES = ("dask", "dask_jobqueue", "distributed", "hydra", "joblib", "omegaconf", "sklearn")

# Undocumented names without an underscore, for the same reason.
UNDOCUMENTED = {
    "all_durations", "batched_stream", "BatchedCalls", "callback_ctx", "duration_average",
    "find_handler", "get_args_parser", "GlobalHydra", "handle_worker_status_change", "http_application", "http_server",
    "memory_manager", "memory_pause_fraction", "OverridesParser", "ParallelBackendBase", "ProcessInterface",
    "stream_comms", "worker_spec",
}  # fmt: skip

# Names of hpcml.upstream that stand for such a one.
PASSED_ON = {"MEMORY_LIMIT", "heartbeat_interval"}

# Documented in spite of the underscore: collections.namedtuple.
DOCUMENTED = {"_fields"}

# Ours, on objects of others.
OWN = "_hpcml"


@contextlib.contextmanager
def contract(package: str, interface: str, function: Callable[..., Any] | str) -> Iterator[None]:
    """Report a failure as what it means: which package has changed what, and which function of ours depends on it."""
    try:
        yield
    except Exception as error:
        name = function if isinstance(function, str) else f"{function.__module__}.{function.__qualname__}"
        raise AssertionError(
            f"{package} {importlib.metadata.version(package)}: this no longer holds: {interface}; "
            f"{name} depends on it ({type(error).__name__}: {error})"
        ) from error


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.01)


class TestNothingElseUsesPrivateNames:
    """The rules are about names: a module that reads ``x._name`` must define ``_name`` itself."""

    def test_private_names(self) -> None:
        assert private_names(SOURCE) == []

    def test_undocumented_names(self) -> None:
        assert undocumented_names(SOURCE) == []

    def test_overrides(self) -> None:
        """No class overrides a private method of a package by accident, or outside of upstream on purpose."""
        found = []
        for module in pkgutil.walk_packages(hpcml.__path__, "hpcml."):
            if module.name.startswith(("hpcml.upstream", "hpcml.__main__")):
                continue
            for cls in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(cls) and cls.__module__ == module.name:
                    found += overrides(cls)
        assert found == []

    @pytest.mark.parametrize(
        "line",
        [
            "from hydra._internal.utils import get_args_parser",
            "import sklearn._config",
            "client._run(f)",
            "getattr(scorer, '_score_func', None)",
            "self._job_kwargs['jobs']",
            "from unittest import mock",
        ],
    )
    def test_what_is_found(self, line: str, tmp_path: Path) -> None:
        (tmp_path / "module.py").write_text(f"{line}\n")
        assert len(private_names(tmp_path)) == 1

    @pytest.mark.parametrize("line", ["worker.batched_stream.comm", "from hydra.core.global_hydra import GlobalHydra"])
    def test_what_else_is_found(self, line: str, tmp_path: Path) -> None:
        (tmp_path / "module.py").write_text(f"{line}\n")
        assert len(undocumented_names(tmp_path)) == 1

    def test_an_override_is_found(self) -> None:
        class Mine(SpecCluster):  # type: ignore[misc]  # distributed has no types
            def _new_worker_name(self, worker_number: int) -> str:
                return str(worker_number)

        assert overrides(Mine) == [f"{__name__}.Mine._new_worker_name is one of SpecCluster"]


@functools.cache
def modules(source: Path) -> list[tuple[str, list[ast.AST]]]:
    paths = [path for path in sorted(source.rglob("*.py")) if (source / "upstream") not in path.parents]
    return [(str(path.relative_to(source)), list(ast.walk(ast.parse(path.read_text())))) for path in paths]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED and not name.startswith(OWN)


def defined(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the private names that a module defines: functions, classes, variables, attributes of self."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
            found.add(node.attr)
    return found


def is_own(node: ast.Attribute) -> bool:
    return ast.unparse(node.value) in {"self", "cls"}


def private_names(source: Path) -> list[str]:
    """List where modules outside of upstream use private names of others, or patch what is not theirs."""
    everywhere = set().union(*(defined(nodes) for _, nodes in modules(source)))
    found = []
    for where, nodes in modules(source):
        here = defined(nodes)
        for node in nodes:
            ours = here
            if isinstance(node, ast.Attribute):
                names = [node.attr]
                ours = everywhere if is_own(node) else here  # a base class may be in another module
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr"}:
                names = [str(arg.value) for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                full = [f"{getattr(node, 'module', None) or ''}.{alias.name}".strip(".") for alias in node.names]
                theirs = [name for name in full if name.partition(".")[0] in PACKAGES]
                names = [step for name in theirs for step in name.split(".")]
                if any(name.startswith("unittest") for name in full):
                    found.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
            else:
                continue
            if any(is_private(name) and name not in ours for name in names):
                found.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    return found


def undocumented_names(source: Path) -> list[str]:
    found = []
    for where, nodes in modules(source):
        for node in nodes:
            names = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                if not str(node.module).startswith("hpcml.upstream"):
                    names |= {f"imported {name}" for name in names & PASSED_ON}
            if names & UNDOCUMENTED or any(name.startswith("imported ") for name in names):
                found.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    return found


def overrides(cls: type) -> list[str]:
    foreign = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in PACKAGES]
    return [
        f"{cls.__module__}.{cls.__name__}.{name} is one of {base.__name__}"
        for name in vars(cls)
        if is_private(name) and not name.startswith("_abc_")
        for base in [base for base in foreign if name in vars(base)][-1:]
    ]


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("dask-jobqueue", jobqueue), ("distributed", dask), ("hydra-core", hydra), ("joblib", parallel),
        ("scikit-learn", sklearn),
    ],
)  # fmt: skip
def test_the_version_verified_is_the_one_of_the_tests(package: str, module: Any) -> None:
    assert f"\n{package}=={module.VERIFIED}\n" in (ROOT / "constraints.txt").read_text()


# distributed


@dataclass
class Dask:
    """A scheduler and a worker in this process."""

    cluster: SpecCluster
    client: Client
    scheduler: Scheduler = field(init=False)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler, self.worker = self.cluster.scheduler, self.cluster.workers[0]

    def soon(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the event loop, and return its result."""

        async def call() -> Any:
            return function(*args)

        return self.cluster.sync(call)


@pytest.fixture(scope="module")
def running() -> Iterator[Dask]:
    # much memory, or the worker in this process pauses once the tests before have filled so much
    place = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with (
        SpecCluster(
            workers={0: {"cls": Worker, "options": {**place, "nthreads": 1, "memory_limit": 2**34}}},
            scheduler={"cls": Scheduler, "options": {**place, "protocol": "tcp://", "port": 0}},
            silence_logs=False,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(1)
        yield Dask(cluster, client)


class TestDistributed:
    def test_completed_futures(self, running: Dask) -> None:
        interface = "as_completed.queue holds the futures that have completed"
        with contract("distributed", interface, dask.CompletedFutures):
            completed = dask.CompletedFutures(running.client)
            assert completed.take(0.01, 0.0) == []
            futures = running.client.map(abs, [-1, -2], pure=False)
            completed.add(futures)
            found: set[Any] = set()
            wait_until(lambda: found.update(completed.take(1.0, 0.01)) or found == set(futures))

    def test_shared_connection(self, running: Dask) -> None:
        class View(dask.SharedConnection, Client):  # type: ignore[misc]  # distributed has no types
            __slots__ = ("own",)

            def nthreads(self, *args: Any, **kwargs: Any) -> Any:
                return "some"

        with contract("distributed", "all state of a Client is in its __dict__", dask.SharedConnection):
            view = View(running.client)
            view.own = 1
            assert view.nthreads() == "some"
            assert view.submit(abs, -3).result() == 3
            assert "own" not in vars(running.client)
            del view
            assert running.client.submit(abs, -4).result() == 4

    def test_identity(self, running: Dask) -> None:
        with contract("distributed", "Client.scheduler.identity(n_workers=) asks the scheduler", dask.identity):
            assert list(dask.identity(running.client, -1)["workers"]) == [running.worker.address]
            assert list(dask.identity(running.client, 0)["workers"]) == []

    def test_run_on_workers(self, running: Dask) -> None:
        with contract("distributed", "Client._run(function, on_error=)", dask.run_on_workers):
            assert dask.run_on_workers(running.client, os.getpid, 5) == {running.worker.address: os.getpid()}
            (error,) = dask.run_on_workers(running.client, lambda: 1 / 0, 5).values()
            assert isinstance(error, ZeroDivisionError)
            with pytest.raises(TimeoutError):
                dask.run_on_workers(running.client, lambda: time.sleep(0.2), 0.05)

    def test_futures_of(self, running: Dask) -> None:
        with contract("distributed", "Client.futures is a mapping by keys", dask.futures_of):
            future = running.client.submit(abs, -5)
            assert future.key in dask.futures_of(running.client)

    def test_cancel_results(self, running: Dask) -> None:
        client = running.client
        data = client.submit(abs, -5)
        data.result()
        # a task between two that the client wants, which it does not want itself
        between = delayed(time.sleep, pure=False)(delayed(lambda value: value, pure=False)(data))
        last = client.compute(between)
        wait_until(lambda: last.key in running.scheduler.tasks)
        with contract("distributed", "Client.cancel(tasks that nothing depends on)", dask.cancel_results):
            dask.cancel_results(client, {data.key, last.key})
            with pytest.raises(CancelledError):
                last.result(timeout=10)
            assert data.result(timeout=10) == 5  # the connection is there
        with contract("distributed", "Client.cancel(a task with a dependent nobody wants) fails", dask.cancel_results):
            assert "assert ts.who_wants" in inspect.getsource(Scheduler.stimulus_cancel)

    def test_seconds(self, running: Dask) -> None:
        running.client.submit(time.sleep, 0.05, pure=False).result()
        with contract("distributed", "TaskPrefix.all_durations['compute'] is in seconds", dask.compute_seconds):
            assert 0.05 <= dask.compute_seconds(running.scheduler) < 10
        with contract("distributed", "Client._run_on_scheduler(function)", dask.remote_compute_seconds):
            assert dask.remote_compute_seconds(running.client, 5.0) == dask.compute_seconds(running.scheduler)
            # by value: another's scheduler may have no hpcml
            code = dask.remote_compute_seconds.__code__.co_consts
            names = [const.co_names for const in code if inspect.iscode(const) and const.co_name == "seconds"]
            assert names
            assert not {*names[0]} & {*vars(dask)}

    def test_average_durations(self, running: Dask) -> None:
        interface = "TaskPrefix.duration_average, and TaskPrefix.states['processing'] while a task is on a worker"
        running.client.submit(time.sleep, 0.05, pure=False).result()
        future = running.client.submit(time.sleep, 0.2, pure=False)
        with contract("distributed", interface, dask.average_durations):
            wait_until(lambda: dask.average_durations(running.scheduler), 0.2)
        future.result()

    def test_drain(self, running: Dask) -> None:
        scheduler, worker = running.scheduler, running.worker
        interface = "Scheduler.handle_worker_status_change, and stream_comms that tell a worker its status"
        with contract("distributed", interface, dask.drain):
            running.soon(dask.drain, scheduler, scheduler.workers[worker.address], "test")
            assert not scheduler.running
            wait_until(lambda: worker.status is Status.closing_gracefully)
        running.soon(setattr, worker, "status", Status.running)
        wait_until(lambda: scheduler.running)

    def test_pause(self, running: Dask) -> None:
        scheduler, worker = running.scheduler, running.worker
        with contract("distributed", "Worker.memory_manager.memory_pause_fraction, and Worker.status", dask.pause):
            fraction = running.soon(dask.pause, worker)
            assert 0 < fraction < 1
            wait_until(lambda: not scheduler.running)
            running.cluster.sync(worker.memory_manager.memory_monitor, worker)
            assert worker.status is Status.paused
            running.soon(dask.unpause, worker, fraction)
            wait_until(lambda: scheduler.running)
            assert worker.memory_manager.memory_pause_fraction == fraction

    def test_memory_limit(self, running: Dask) -> None:
        with contract("distributed", "Worker.memory_manager.memory_limit", dask.memory_limit):
            assert dask.memory_limit(running.worker) == min(2**34, dask.MEMORY_LIMIT)

    def test_connection_to_scheduler(self, running: Dask) -> None:
        interface = "Worker.batched_stream.comm.stream.socket"
        with contract("distributed", interface, dask.connection_to_scheduler):
            connection = dask.connection_to_scheduler(running.worker)
            assert isinstance(connection, socket.socket)
            assert connection.getpeername()[1] == running.scheduler.port
        assert dask.connection_to_scheduler(SimpleNamespace(batched_stream=None)) is None

    def test_jobs_of_a_cluster(self, running: Dask) -> None:
        with contract("distributed", "SpecCluster.worker_spec counts jobs", dask.requested_jobs):
            assert dask.requested_jobs(running.cluster) == 1
        with contract("distributed", "SpecCluster.worker_spec and workers have a job by name", dask.forget_jobs):
            running.cluster.worker_spec["job-1"] = {}
            dask.forget_jobs(running.cluster, ["job-1", "job-2"])
            assert list(running.cluster.worker_spec) == list(running.cluster.workers) == [0]
            # what makes it start a job again, and what tells the number of the next
            assert "worker_spec" in inspect.getsource(SpecCluster._correct_state_internal)
            assert "worker_spec" in inspect.getsource(SpecCluster.scale)

    def test_worker_restarts(self) -> None:
        from distributed.nanny import WorkerProcess

        with contract("distributed", "Nanny.process.status is starting while its process does", dask.worker_restarts):
            assert "self.status = Status.starting" in inspect.getsource(WorkerProcess.start)
            assert "self.process = WorkerProcess(" in inspect.getsource(Nanny.instantiate)
            assert "self.process = None" in inspect.getsource(Nanny)
        assert not dask.worker_restarts(SimpleNamespace(process=None))
        assert dask.worker_restarts(SimpleNamespace(process=SimpleNamespace(status=Status.starting)))

    def test_constants(self) -> None:
        with contract("distributed", "system.MEMORY_LIMIT is in bytes", "hpcml.upstream.distributed.MEMORY_LIMIT"):
            assert dask.MEMORY_LIMIT > 2**26
        interface = "scheduler.heartbeat_interval(n) is in seconds, and grows with n"
        with contract("distributed", interface, "hpcml.upstream.distributed.heartbeat_interval"):
            assert 0 < dask.heartbeat_interval(1) <= dask.heartbeat_interval(10_000) < 1000

    def test_dashboard(self) -> None:
        found = importlib.util.find_spec("distributed")
        assert found is not None
        assert found.origin is not None
        # not imported: that takes a second
        tree = ast.parse((Path(found.origin).parent / "dashboard" / "scheduler.py").read_text())
        with contract("distributed", "dashboard.scheduler.connect", dask.add_dashboard):
            (connect,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "connect"]
            assert [arg.arg for arg in connect.args.args] == ["application", "http_server", "scheduler", "prefix"]

    # last, for it changes the scheduler
    def test_hide_paths(self, running: Dask) -> None:
        interface = "Scheduler.http_application.find_handler routes HTTP requests, and http_server.port"
        with contract("distributed", interface, dask.hide_paths):
            address = f"http://127.0.0.1:{dask.http_port(running.scheduler)}"
            assert status(f"{address}/health") == 200
            running.soon(dask.hide_paths, running.scheduler, lambda path: path.startswith("/info"))
            assert status(f"{address}/health") == 404
            assert status(f"{address}/info/main/workers.html") == 200


def status(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# joblib


class Recorder(parallel.CallbackBackend):
    """Runs joblib's calls here, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[parallel.Call] = []
        self.steps: list[str] = []

    def effective_n_jobs(self, n_jobs: int) -> int:
        return 2

    def start_call(self) -> None:
        self.steps.append("start")

    def stop_call(self) -> None:
        self.steps.append("stop")

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self.steps.append("abort")

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> str:
        calls = parallel.calls_of(func)
        self.calls += calls
        results: list[Any] = []
        try:
            results += [function(*args, **kwargs) for function, args, kwargs in calls]
        except Exception as error:
            results = [error]
        assert callback is not None
        callback(results)
        return "call"

    def retrieve_result_callback(self, out: Any) -> Any:
        for result in out:
            if isinstance(result, Exception):
                raise result
        return out


class TestJoblib:
    def test_backend(self) -> None:
        interface = "a backend gets submit(batch, callback=), retrieve_result_callback, start_call and stop_call"
        with contract("joblib", interface, parallel.CallbackBackend):
            backend = Recorder()
            with joblib.parallel_config(backend=backend, n_jobs=-1):
                assert joblib.Parallel()(joblib.delayed(pow)(x, exp=2) for x in range(5)) == [0, 1, 4, 9, 16]
            assert backend.steps == ["start", "stop"]
        with contract("joblib", "BatchedCalls.items are functions, arguments and keyword arguments", parallel.calls_of):
            assert backend.calls == [(pow, (x,), {"exp": 2}) for x in range(5)]

    def test_an_error_of_a_call(self) -> None:
        with contract("joblib", "retrieve_result_callback may raise, and joblib aborts", parallel.CallbackBackend):
            backend = Recorder()
            with joblib.parallel_config(backend=backend, n_jobs=-1), pytest.raises(ZeroDivisionError):
                joblib.Parallel()(joblib.delayed(divmod)(1, x) for x in [0])
            assert backend.steps[0] == "start"

    # scikit-learn

    def test_a_process_for_one_call_at_a_time(self) -> None:
        interface = "loky.ProcessPoolExecutor raises BrokenExecutor, and shutdown(kill_workers=True) stops it"
        with contract("joblib", interface, parallel.start_process):
            process = parallel.start_process(functools.partial(os.umask, 0o77), {"HPCML_CHILD": "1"})
            assert process.submit(os.getenv, "HPCML_CHILD").result() == "1"
            with pytest.raises(BrokenExecutor):
                process.submit(os._exit, 3).result()
            process.shutdown(kill_workers=True)


# scikit-learn


class TestSklearn:
    X, y = load_iris(return_X_y=True)

    def test_parameters(self) -> None:
        interface = "BaseEstimator._validate_params checks values"
        with contract("scikit-learn", interface, sklearn.validate_parameters):
            sklearn.validate_parameters(SVC())
            with pytest.raises(ValueError, match="C") as caught:
                sklearn.validate_parameters(SVC(C=-1))
        with contract("scikit-learn", "its message: The 'C' parameter of", sklearn.rejected_parameter):
            assert sklearn.rejected_parameter(caught.value) == "C"
        with contract("scikit-learn", "_parameter_constraints has the types", sklearn.takes_tuple):
            assert sklearn.takes_tuple(TfidfVectorizer(), "ngram_range")
            assert not sklearn.takes_tuple(MLPClassifier(), "hidden_layer_sizes")
            assert not sklearn.takes_tuple(SVC(), "no_such")
            assert not sklearn.takes_tuple("passthrough", "ngram_range")
        sklearn.validate_parameters(SVC)
        sklearn.validate_parameters("passthrough")

    def test_scorers(self) -> None:
        with contract("scikit-learn", "scorer._score_func is the metric", sklearn.metric_of):
            assert sklearn.metric_of(get_scorer("accuracy")) is accuracy_score
            assert sklearn.metric_of(len) is None
        interface = "scorer._sign, _score_func and _kwargs make a score of labels"
        with contract("scikit-learn", interface, sklearn.score_labels):
            true, predicted = np.array([0, 1]), np.array([0, 0])
            assert sklearn.score_labels(get_scorer("accuracy"), true, predicted, [3, 1]) == 0.75
            loss = make_scorer(zero_one_loss, greater_is_better=False, normalize=False)
            assert sklearn.score_labels(loss, true, predicted, [3, 1]) == -1

    def test_which_are_forests(self) -> None:
        with contract("scikit-learn", "forests inherit fit from one class", sklearn.is_forest):
            assert sklearn.is_forest(RandomForestClassifier())
            assert sklearn.is_forest(ExtraTreesClassifier())
            assert not sklearn.is_forest(IsolationForest())
            assert not sklearn.is_forest(SVC())

    @pytest.mark.filterwarnings("ignore:Some inputs do not have OOB scores")
    def test_trees(self) -> None:
        def forest(n: int, **keys: Any) -> RandomForestClassifier:
            return RandomForestClassifier(n, random_state=3, **keys)

        whole = forest(5).fit(self.X, self.y)
        interface = "a warm start of a forest skips the seeds of len(estimators_) trees, whatever they are"
        with contract("scikit-learn", interface, sklearn.grow_trees):
            part = sklearn.grow_trees(forest(5, warm_start=True), 3, self.X, self.y, {})
            assert [tree.random_state for tree in part.estimators_] == [
                tree.random_state for tree in whole.estimators_[3:]
            ]
            for one, other in zip(part.estimators_, whole.estimators_[3:], strict=True):
                assert np.array_equal(one.tree_.threshold, other.tree_.threshold)
        expected = forest(5, oob_score=accuracy_score).fit(self.X, self.y).oob_score_
        whole.set_params(oob_score=accuracy_score, warm_start=True)
        interface = "a warm start that grows no trees computes out-of-bag scores"
        with contract("scikit-learn", interface, sklearn.score_out_of_bag):
            added = sklearn.score_out_of_bag(whole, self.X, self.y)
            assert added["oob_score_"] == expected
            assert set(added) == {"oob_score_", "oob_decision_function_"}

    def test_calls_for_joblib(self) -> None:
        search = GridSearchCV(SVC(), {"C": [1, 2]}, cv=2, refit=False)
        backend = Recorder()
        with joblib.parallel_config(backend=backend, n_jobs=-1):
            search.fit(self.X, self.y)
        function, args, kwargs = backend.calls[0]
        with contract("scikit-learn", "delayed() wraps a function, .function is it", sklearn.called_function):
            assert sklearn.called_function(function).__name__ == "_fit_and_score"
        interface = "callback_ctx and caller are keyword arguments of a search's calls, and may be None"
        with contract("scikit-learn", interface, sklearn.without_callbacks):
            assert {"callback_ctx", "caller"} <= set(kwargs)
            lighter = sklearn.without_callbacks(kwargs)
            assert lighter["callback_ctx"] is lighter["caller"] is None
            assert "test_scores" in function(*args, **lighter)
        assert sklearn.without_callbacks({"a": 1}) == {"a": 1}


# dask_jobqueue


class TestJobqueue:
    def test_why_its_import_is_patched(self) -> None:
        """Where this fails, the patches in hpcml.upstream.jobqueue have become superfluous."""
        found = importlib.util.find_spec("dask_jobqueue")
        assert found is not None
        assert found.origin is not None
        package = Path(found.origin).parent
        where = "hpcml.upstream.jobqueue"
        with contract("dask-jobqueue", "importing runner.py replaces the handler of SIGINT", where):
            assert re.search(r"^signal\.signal\(signal\.SIGINT", (package / "runner.py").read_text(), re.MULTILINE)
            assert "from .runner import" in (package / "slurm.py").read_text()
        with contract("dask-jobqueue", "importing config.py writes to ~/.config/dask", where):
            assert re.search(r"^reconfigure\(\)", (package / "config.py").read_text(), re.MULTILINE)
            assert "dask.config.ensure_file(" in (package / "config.py").read_text()

    @pytest.mark.parametrize("name", ["pbs", "slurm"])
    def test_section(self, name: str) -> None:
        from dask import config

        with contract("dask-jobqueue", "the keys of its config sections", jobqueue.complete_section):
            known = set(config.get("jobqueue")[name])
            own = {"account", "cores", "death-timeout", "interface", "local-directory", "memory", "name", "processes"}
            own |= {"python", "queue", "walltime"}
            assert known - own == set(jobqueue.complete_section(name, {}))

    def test_job(self) -> None:
        class Job(jobqueue.OwnJob, jobqueue.PBSJob):
            submitted = False

            def job_script(self) -> str:
                return "script"

            async def submit(self) -> None:
                self.submitted = True

        values = {"cores": 1, "memory": "1GB", "processes": 1, "death-timeout": 1, "name": "job"}
        keys = ("account", "interface", "local-directory", "python", "queue", "walltime")
        section = jobqueue.complete_section("pbs", {**dict.fromkeys(keys), **values})
        from dask import config

        interface = "a job's __init__ reads the section that config_name names; start and close are its only actions"
        with (
            contract("dask-jobqueue", interface, jobqueue.OwnJob),
            config.set({f"jobqueue.{jobqueue.SECTION}": section}),
        ):
            job = Job("tcp://127.0.0.1:1", "job-0")
            assert job.name == "job-0"
            assert issubclass(Job, ProcessInterface)
            asyncio.run(job.start())
            assert job.submitted
            assert job.status is Status.running
            asyncio.run(job.close())
            assert job.status is Status.closed

    def test_names(self) -> None:
        class Cluster(jobqueue.OwnCluster, SpecCluster):  # type: ignore[misc]  # distributed has no types
            pass

        interface = "SpecCluster.new_worker_spec names a job by _new_worker_name, until the name is new"
        with contract("distributed", interface, jobqueue.OwnCluster):
            names = iter(["job-0", "job-0", "job-1"])

            async def named() -> list[Any]:
                cluster = Cluster(new_name=lambda: next(names), worker={"cls": Worker}, asynchronous=True)
                for _ in range(2):
                    cluster.worker_spec.update(cluster.new_worker_spec())
                cluster.status = Status.closed  # it was never started
                return list(cluster.worker_spec)

            assert asyncio.run(named()) == ["job-0", "job-1"]
            assert "_new_worker_name" in vars(jobqueue.PBSCluster.__mro__[1])


# Hydra


@dataclass
class Table:
    count: int = 1
    share: float = 0.5
    on: bool = True
    names: list[str] = field(default_factory=list)


@dataclass
class Schema:
    table: Table = field(default_factory=Table)
    open: Any = None
    lacking: str = "???"


@pytest.fixture
def composing(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Compose a config for contracts, of a schema and a YAML file."""
    hydra.store("contract", Schema)
    hydra.store("contract", Schema)  # a second time
    hydra.register_resolver("contract", lambda: 3)
    with hydra.initialized("hpcml.conf"):

        def compose(*overrides: str, path: str | None = None) -> Any:
            import hydra as package

            own = [] if path is None else [f"hydra.searchpath=[file://{path}]"]
            return package.compose("contract", [*own, *overrides])

        yield compose


def failure(compose: Callable[..., Any], *overrides: str, **keys: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which it is, is Hydra's
        compose(*overrides, **keys)
    return caught.value


class TestHydra:
    def test_flags(self) -> None:
        with contract("hydra-core", "_internal.utils.get_args_parser", hydra.flag_parser):
            parsed = hydra.flag_parser().parse_intermixed_args(["a=1", "--cfg", "job", "--package", "p", "b=2"])
            assert parsed.overrides == ["a=1", "b=2"]
            flags = {
                "cfg", "config_dir", "config_name", "config_path", "experimental_rerun", "help", "hydra_help", "info",
                "multirun", "package", "resolve", "run", "shell_completion",
            }  # fmt: skip
            assert flags <= set(vars(parsed))

    def test_overrides(self) -> None:
        with contract("hydra-core", "OverridesParser, and Override's attributes", hydra.parse_override):
            override = hydra.parse_override("model.C=3")
            assert (override.key_or_group, override.value(), override.input_line) == ("model.C", 3, "model.C=3")
            assert not override.is_sweep_override()
            assert hydra.parse_override("model.C=1,2").is_sweep_override()
        with contract("hydra-core", "OverridesParser.parse_overrides", hydra.parse_overrides):
            assert [each.key_or_group for each in hydra.parse_overrides(["a=1", "b.c={d: 2}"])] == ["a", "b.c"]

    def test_nodes(self, composing: Callable[..., Any]) -> None:
        config = composing("+more=${contract:}")
        with contract("omegaconf", "DictConfig._get_node returns nodes as they are", hydra.raw_node):
            assert hydra.raw_node(config, "lacking") == "???"
            assert hydra.raw_node(config, "table") is config.table
        with contract("omegaconf", "register_resolver or register_new_resolver", hydra.register_resolver):
            assert config.more == 3

    def test_files(self, composing: Callable[..., Any]) -> None:
        with contract("hydra-core", "GlobalHydra's config_loader().get_sources()", hydra.config_file):
            assert hydra.config_file("model/svc")["_target_"] == "sklearn.svm.SVC"
            assert hydra.config_file("model/nope") is None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("cuont: 2", ("table.cuont", "Table", True)),
            ("count: two", ("table.count", "Table", False)),
        ],
    )
    def test_errors_in_files(
        self, text: str, expected: tuple[str, str, bool], composing: Callable[..., Any], tmp_path: Path
    ) -> None:
        (tmp_path / "group").mkdir()
        (tmp_path / "group" / "mine.yaml").write_text(f"# @package table\n{text}\n")
        error = failure(composing, "+group=mine", path=str(tmp_path))
        with contract("hydra-core", "the message has the file, the key and its schema", hydra.file_error):
            found = hydra.file_error(error)
            assert found is not None
            assert (found.file, (found.key, found.schema, found.unknown_key)) == ("group/mine", expected)
        assert hydra.file_error(ValueError("none")) is None

    def test_errors_in_overrides(self, composing: Callable[..., Any]) -> None:
        with contract("hydra-core", "the message has the override", hydra.override_in):
            assert hydra.override_in(failure(composing, "table.count=two")) == "table.count=two"
            assert hydra.override_in(failure(composing, "table.cuont=2")) == "table.cuont=2"
            assert hydra.override_in(ValueError("none")) is None
        with contract("hydra-core", "the message about + for a key that exists", hydra.present_key):
            assert hydra.present_key(failure(composing, "+table.count=2")) == ("table.count", "table.count=2")
            assert hydra.present_key(ValueError("none")) is None
        with contract("hydra-core", "the message about ~ for a key that does not exist", hydra.absent_key):
            assert hydra.absent_key(failure(composing, "~nope")) == "nope"
            assert hydra.absent_key(ValueError("none")) is None

    @pytest.mark.parametrize(
        ("override", "name"),
        [
            ("table.count=two", "Integer"),
            ("table.share=two", "Float"),
            ("table.names=two", "list"),
        ],
    )
    def test_wrong_types(self, override: str, name: str, composing: Callable[..., Any]) -> None:
        cause = failure(composing, override).__cause__
        assert cause is not None
        with contract("omegaconf", "ValidationError's message names the type", hydra.wanted_type):
            assert hydra.wanted_type(cause) == name

    def test_a_mapping_for_a_list(self, composing: Callable[..., Any]) -> None:
        error = failure(composing, "+more=[1]", "more={a: 1}")
        with contract("omegaconf", "the message about a mapping for a list", hydra.cannot_merge):
            assert hydra.cannot_merge(error.__cause__)
            assert not hydra.cannot_merge(None)

    def test_interpolations(self, composing: Callable[..., Any]) -> None:
        config = composing("+more=${oc.env:HPCML_CONTRACT}")
        error = failure(lambda: config.more)
        with contract(
            "omegaconf", "the message of an interpolation begins with its reason", hydra.interpolation_reason
        ):
            assert "HPCML_CONTRACT" in hydra.interpolation_reason(error)
            assert "raised while" not in hydra.interpolation_reason(error)

    def test_objects(self) -> None:
        with contract("hydra-core", "utils.instantiate, with all targets allowed", hydra.instantiate):
            found = hydra.instantiate({"a": {"_target_": "sklearn.svm.SVC", "C": 2}, "b": [1]})
            assert found["a"].C == 2
            assert type(found["b"]) is list

    def test_main(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["hpcml run", "--cfg", "hydra", "--package", "hydra.job"])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        hydra.store("contract", Schema)
        with contract("hydra-core", "hydra.main reads sys.argv", hydra.main):
            hydra.main("pkg://hpcml.conf", "contract")(lambda _: None)()
            assert "name: " in capsys.readouterr().out


# Python


def test_a_child_that_imports_its_parents_script(tmp_path: Path) -> None:
    """In a script: only there a child imports its parent's main module."""
    (tmp_path / "script.py").write_text(
        "import multiprocessing\n"
        "from hpcml.upstream.multiprocessing import importing_main\n"
        "print(__name__, importing_main(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    child.start()\n"
        "    child.join()\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["__main__", "False", "__mp_main__", "True"], (
        f"Python {sys.version.split()[0]}: Process._inheriting is not set while a child imports its parent's script; "
        f"{multiprocessing.importing_main.__module__}.importing_main depends on it"
    )
