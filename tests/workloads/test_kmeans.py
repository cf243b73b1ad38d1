"""Test k-means over blocks: scikit-learn's numbers for any blocks and workers."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import sklearn.cluster
import skops.io
import yaml
from sklearn.datasets import make_blobs

from hpcml import Dataset
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import Blocks, in_blocks
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.parts import Parts
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.engine.persisted_blocks import PersistedBlocks
from hpcml.workloads.kmeans import KMeans, lloyd

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def blobs(n: int = 4000, offset: float = 0.0) -> Any:
    return make_blobs(n, 5, centers=12, cluster_std=3.0, random_state=1)[0] + offset


def inputs_of(X: Any, seed: int = 0) -> Inputs:
    return Inputs(X if isinstance(X, (Dataset, Blocks)) else Dataset(X=X), None, seed)


def run(cluster: Cluster, X: Any, seed: int = 0, parts: Any = None, **keys: Any) -> Outcome:
    workload, inputs = KMeans(**{"block_size": 700, "n_clusters": 8, **keys}), inputs_of(X, seed)
    prepared = workload.prepare(inputs)
    units = Units(prepared.n_units, parts)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def serial(X: Any, init: Any, **keys: Any) -> Any:
    return sklearn.cluster.KMeans(len(init), init=init, n_init=1, **keys).fit(X)


@pytest.mark.parametrize(("offset", "tol", "max_iter"), [(0, 1e-4, 300), (1e6, 0, 300), (0, 1e-4, 3)])
def test_from_the_same_centres_it_ends_as_scikit_learn_does(
    cluster: Cluster, offset: float, tol: float, max_iter: int
) -> None:
    X = blobs(offset=offset)
    found = run(cluster, X, init=X[:8], tol=tol, max_iter=max_iter)
    wanted = serial(X, X[:8], tol=tol, max_iter=max_iter)
    np.testing.assert_allclose(found.model.cluster_centers_, wanted.cluster_centers_, rtol=1e-10)
    assert found.metrics["inertia"] == pytest.approx(wanted.inertia_, rel=1e-10)
    assert found.metrics["n_iter"] == found.model.n_iter_ == wanted.n_iter_
    assert found.metrics["cluster_sizes"] == np.bincount(wanted.labels_).tolist()
    assert bool(found.warnings) == (max_iter == 3)


def test_the_model_is_scikit_learns_and_survives_skops(cluster: Cluster) -> None:
    X = blobs()
    model = run(cluster, X, init=X[:8]).model
    wanted = serial(X, X[:8])
    dumped = skops.io.dumps(model)
    loaded = skops.io.loads(dumped, trusted=skops.io.get_untrusted_types(data=dumped))
    for one in (model, loaded):
        assert type(one) is sklearn.cluster.KMeans
        assert (one.predict(X) == wanted.labels_).all()
        assert one.n_features_in_ == 5
        np.testing.assert_allclose(one.transform(X[:3]), wanted.transform(X[:3]), rtol=1e-8)
        assert -one.score(X) == pytest.approx(wanted.inertia_)
        assert not hasattr(one, "labels_")


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_any_number_of_workers_gives_the_same_bits(cluster: Cluster, tmp_path: Path, init: str) -> None:
    X = blobs()
    two = run(cluster, X, init=init, seed=3)
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as single:
        one = run(single, X, init=init, seed=3)
    assert (one.model.cluster_centers_ == two.model.cluster_centers_).all()
    assert one.metrics["inertia"] == two.metrics["inertia"]
    other = run(cluster, X, init=init, seed=4)
    assert other.tables["iterations"]["inertia"][0] != two.tables["iterations"]["inertia"][0]


@pytest.mark.parametrize("init", ["k-means||", "k-means++"])
def test_a_careful_beginning_is_about_as_good_as_scikit_learns(cluster: Cluster, init: str) -> None:
    X = make_blobs(3000, 4, centers=8, cluster_std=0.2, random_state=2)[0]
    best = sklearn.cluster.KMeans(8, n_init=10, random_state=0).fit(X).inertia_
    found = run(cluster, X, init=init)
    assert found.metrics["inertia"] == pytest.approx(best, rel=1e-6)


def test_more_clusters_than_candidates_are_filled_up(cluster: Cluster) -> None:
    X = blobs(1500)
    found = run(cluster, X, n_clusters=40, oversampling_factor=1, init_max_iter=1)
    assert min(found.metrics["cluster_sizes"]) >= 1


def test_an_empty_cluster_gets_the_farthest_sample_as_in_scikit_learn(cluster: Cluster) -> None:
    X = blobs(2000)
    init = X[:8].copy()
    init[5] = 1e4
    found = run(cluster, X, init=init)
    assert found.tables["iterations"]["relocated"][0] == 1
    wanted = serial(X, init)
    np.testing.assert_allclose(found.model.cluster_centers_, wanted.cluster_centers_, rtol=1e-10)
    assert found.metrics["n_iter"] == wanted.n_iter_


def test_fewer_distinct_samples_than_clusters_are_told(cluster: Cluster) -> None:
    X = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]]), 50, axis=0)
    found = run(cluster, X, n_clusters=3, block_size=30)
    assert found.metrics["inertia"] == 0
    assert any("2 distinct clusters only" in warning for warning in found.warnings)


def test_small_numbers_of_other_types_give_what_floats_give(cluster: Cluster) -> None:
    X = np.round(blobs()).astype(np.int8)
    found = run(cluster, X, init=X[:8].astype(float))
    wanted = serial(X.astype(float), X[:8].astype(float))
    np.testing.assert_allclose(found.model.cluster_centers_, wanted.cluster_centers_, rtol=1e-10)


def test_dask_ml_finds_the_same_and_its_inertia_is_put_right(cluster: Cluster) -> None:
    X = blobs(2000)
    found = run(cluster, X, init=X[:8], tol=0, engine="dask_ml")
    wanted = serial(X, X[:8], tol=0)
    np.testing.assert_allclose(found.model.cluster_centers_, wanted.cluster_centers_, rtol=1e-10)
    assert found.metrics["inertia"] == pytest.approx(wanted.inertia_, rel=1e-10)
    assert found.metrics["converged"] is True


def test_dask_ml_begins_by_itself_too(cluster: Cluster) -> None:
    assert run(cluster, blobs(1500), engine="dask_ml").metrics["inertia"] > 0


def test_labels_are_written_by_the_workers(cluster: Cluster, tmp_path: Path) -> None:
    X = blobs(2000)
    found = run(cluster, X, parts=lambda name: Parts(tmp_path / name), init=X[:8], labels=True)
    table = pyarrow.parquet.read_table(tmp_path / "labels")
    assert table["row"].to_pylist() == list(range(2000))
    assert (table["cluster"].to_numpy() == found.model.predict(X)).all()
    assert (table["distance"].to_numpy() ** 2).sum() == pytest.approx(found.metrics["inertia"])


def test_the_table_of_centres_names_the_features(cluster: Cluster) -> None:
    X = blobs(1000)
    data = Dataset(X=X, feature_names=("a", "b", "size", "d", "cluster"))
    table = run(cluster, data).tables["centers"]
    assert list(table) == ["cluster", "size", "a", "b", "feature size", "d", "feature cluster"]
    assert sum(table["size"]) == 1000


@dataclasses.dataclass(frozen=True)
class Killing:
    """Run an iteration, and kill the worker while a file exists, once."""

    path: str

    def __call__(self, X: Any, number: int, mean: Any, centres: Any) -> Any:
        if number == 3 and Path(self.path).exists():
            Path(self.path).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return lloyd.assign(X, number, mean, centres)


def test_a_worker_lost_in_the_middle_changes_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = blobs()
    wanted = run(cluster, X, init=X[:8])
    kill, each = tmp_path / "kill", PersistedBlocks.each
    kill.touch()

    def deadly(persisted: PersistedBlocks, name: str, function: Any, *args: Any, **more: Any) -> Any:
        return each(persisted, name, Killing(str(kill)) if name == "iteration 4" else function, *args, **more)

    monkeypatch.setattr(PersistedBlocks, "each", deadly)
    found = run(cluster, X, init=X[:8])
    assert not kill.exists()
    assert (found.model.cluster_centers_ == wanted.model.cluster_centers_).all()
    assert found.metrics["inertia"] == wanted.metrics["inertia"]


@dataclasses.dataclass(frozen=True)
class Deadly:
    """Read a block, and kill ``most`` workers that do; each leaves a file."""

    X: Any
    marks: Path
    most: int

    def __call__(self) -> Any:
        if len(list(self.marks.iterdir())) < self.most:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.X, None


def deadly_blocks(X: Any, marks: Path, most: int) -> Blocks:
    return Blocks(
        rows=[500] * 4,
        recipe=lambda n: Deadly(X[n * 500 : (n + 1) * 500], marks, most if n == 2 else 0),
        n_features=5,
        has_target=False,
    )


def test_a_block_that_kills_two_workers_when_it_is_read_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    X = blobs(2000)
    wanted = run(cluster, X, init=X[:8], block_size=500)
    found = run(cluster, deadly_blocks(X, tmp_path, 2), init=X[:8], block_size=None)
    assert len(list(tmp_path.iterdir())) == 2
    assert (found.model.cluster_centers_ == wanted.model.cluster_centers_).all()


def test_a_block_that_kills_every_worker_when_it_is_read_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"^read block 2: every worker that tried it died"):
        run(cluster, deadly_blocks(blobs(2000), tmp_path, 100), block_size=None)


def test_a_kept_block_that_cannot_be_read_again_is_made_anew_or_named(cluster: Cluster, tmp_path: Path) -> None:
    X, (lost, marks) = blobs(2000), (tmp_path / "lost", tmp_path / "marks")
    marks.mkdir()
    persisted = PersistedBlocks(
        cluster.client, Units(0), deadly_blocks(X, marks, 0), read_unless, lloyd.moments, lost, marks
    )
    for most in (2, 100):
        for mark in marks.iterdir():
            mark.unlink()
        lost.write_text(str(most))
        pids = set(cluster.client.run(os.getpid).values())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if most == 2:
            assert list(persisted.each("one", count)) == [500] * 4
            assert len(list(marks.iterdir())) == 2
        else:
            with pytest.raises(WorkloadError, match=r"^two, block 2: every worker that tried it died"):
                list(persisted.each("two", count))


def read_unless(block: Any, number: int, lost: Path, marks: Path) -> Any:
    if number == 2 and lost.exists() and len(list(marks.iterdir())) < int(lost.read_text()):
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return lloyd.read(block, number)


def count(X: Any, _: int) -> int:
    return len(X)


def test_blocks_move_to_workers_that_come_later(tmp_path: Path) -> None:
    X = blobs()
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as grown:
        units = Units(0)
        persisted = PersistedBlocks(grown.client, units, in_blocks(Dataset(X=X), 500), lloyd.read, lloyd.moments)
        wanted = list(persisted.each("one", count))
        grown.client.cluster.scale(2)
        grown.client.wait_for_workers(2)
        # Dask may send some back at first, before it knows how short these tasks are.
        for number in range(5):
            assert list(persisted.each(f"pass {number}", count)) == wanted
        holders = [there[0] for there in grown.client.who_has(persisted.futures).values()]
        assert sorted(map(holders.count, set(holders))) in ([3, 5], [4, 4])
        assert units.done == 8 * 7


@dataclasses.dataclass(frozen=True)
class Held:
    """Return a block with a shape that is unknown until it is read."""

    X: Any

    def __call__(self) -> Any:
        return self.X, None


def of_blocks(*blocks: Any) -> Blocks:
    return Blocks(rows=[None] * len(blocks), recipe=lambda n: Held(blocks[n]), n_features=None, has_target=False)


def test_what_is_found_only_when_blocks_are_read_is_told(cluster: Cluster) -> None:
    good = np.ones((10, 3))
    bad = good.copy()
    bad[2, 1] = np.nan
    for blocks, message in (
        (of_blocks(good, bad), r"data, block 1: 1 NaN or infinite value in X \(in column 1\), and KMeans rejects"),
        (of_blocks(good, np.ones((4, 2))), "data: block 1 has 2 features, block 0 has 3"),
        (of_blocks(good), r"workload.n_clusters=50: data has 10 samples only"),
        (of_blocks(good, np.ones((0, 3))), "is empty: X has shape"),
        (
            of_blocks(good, np.array([["a", "b", "c"]])),
            "data, block 1: columns that are not numeric: 'x0' .text.",
        ),
        (of_blocks(good, np.array(["a text", "another"], dtype=object)), "its samples are texts"),
    ):
        with pytest.raises(WorkloadError, match=message):
            run(cluster, blocks, n_clusters=50, block_size=None)


def test_what_can_be_known_before_is_refused_before() -> None:
    nan = blobs(100)
    nan[7, 2] = np.nan
    for data, error, message in (
        (None, ConfigError, "there is nothing to cluster"),
        (Dataset(X=nan), DataError, r"1 NaN or infinite value in X \(in column 2\)"),
        (Dataset(X=blobs(5)), ConfigError, "workload.n_clusters=8: data has 5 samples only"),
        (Dataset(X=np.array(["a", "b"] * 9, dtype=object)), DataError, "its samples are texts"),
    ):
        with pytest.raises(error, match=message):
            KMeans(n_clusters=8).prepare(Inputs(data, None, 0))
    with pytest.raises(ConfigError, match="centres of 2 features, the data has 5"):
        KMeans(n_clusters=2, init=[[0, 0], [1, 1]]).prepare(inputs_of(blobs(100)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_clusters": 0}, "workload.n_clusters=0: must be a whole number"),
        ({"n_clusters": True}, "workload.n_clusters=True"),
        ({"max_iter": 1.5}, "workload.max_iter=1.5"),
        ({"block_size": 0}, "workload.block_size=0"),
        ({"tol": -1}, "workload.tol=-1: must be a number, 0 or more"),
        ({"oversampling_factor": 0}, "workload.oversampling_factor=0: must be a number, more than 0"),
        ({"engine": "dask-ml"}, "workload.engine=dask-ml: unknown\n  did you mean 'dask_ml'"),
        ({"init": "kmeans||"}, r"workload.init=kmeans\|\|: unknown\n  did you mean 'k-means\|\|'"),
        ({"init": "k-means++", "engine": "dask_ml"}, "fails in dask_ml"),
        ({"init": [[1, 2], [3]]}, "workload.init: neither a name nor centres"),
        ({"init": [[1, 2]]}, r"workload.init: centres of shape \(1, 2\)\n  give 3 lists"),
        ({"labels": "yes"}, "workload.labels=yes: must be true or false"),
    ],
)
def test_values_out_of_range_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KMeans(**keys)


def test_a_model_that_is_configured_is_refused() -> None:
    with pytest.raises(ConfigError, match="model: workload=kmeans takes none\n  leave it out: model=null"):
        KMeans().prepare(Inputs(Dataset(X=blobs(500)), sklearn.cluster.DBSCAN(), 0))


def test_the_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((CONF / "workload" / "kmeans.yaml").read_text())
    del preset["_target_"], preset["defaults"]
    assert preset == {field.name: field.default for field in dataclasses.fields(KMeans)}
