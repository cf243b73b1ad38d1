"""Reject data that does not fit workers or head before anything is submitted, with a remedy."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from tests.unit.requests import resolved

from hpcml import Dataset, FitEstimator, Search, data, room
from hpcml.data import selection
from hpcml.errors import ConfigError, DataError
from hpcml.spec import LocalSpec
from hpcml.units import parse_size
from hpcml.workloads.base import Inputs
from hpcml.workloads.footprint import Footprint, footprint

GB = 1024**3


def big() -> Footprint:
    return Footprint(data=2 * GB, shared=int(1.5 * GB), copied=GB)


class TestFootprint:
    def test_a_search(self) -> None:
        X = np.zeros((1000, 1000))
        samples = Dataset(X=X, y=np.arange(1000) % 2)
        found = Search(cv=4, test_size=0.25).prepare(Inputs(samples, GaussianNB(), 0)).footprint
        assert found is not None
        assert found.data == pytest.approx(8e6, rel=0.01)
        assert found.shared == pytest.approx(6e6, rel=0.01)
        assert found.copied == pytest.approx(4.5e6, rel=0.01)

    def test_a_fit_copies_nothing_of_its_own(self) -> None:
        samples = Dataset(X=np.zeros((1000, 1000)))
        found = FitEstimator(test_size=None).prepare(Inputs(samples, StandardScaler(), 0)).footprint
        assert found is not None
        assert (found.shared, found.copied) == (found.data, 0)

    def test_texts_are_not_copied(self) -> None:
        texts = np.array([f"text {number} " * 100 for number in range(1000)], dtype=object)
        found = footprint(Dataset(X=texts), None, 0.5)
        assert found.data > 500 * 1000
        assert found.copied == 0

    def test_each_thread_has_its_copy(self) -> None:
        assert big().worker(3) - big().worker(1) == 2 * GB
        assert big().describe(1) == (
            "the part of the data to train on, 1.5GB, and for the fit of one thread a copy of 1GB"
        )


class TestWorkerJobs:
    def said(self, *args: str) -> list[str]:
        request, _ = resolved("gadi", ["cluster.jobs=2", *args])
        found = room.check_request(request, big(), any("threads" in arg for arg in args))
        assert all(diagnostic.severity == "error" for diagnostic in found)
        return [text for diagnostic in found for text in (diagnostic.text, diagnostic.remedy)]

    def test_workers(self) -> None:
        text, remedy = self.said("cluster.ncpus=48", "cluster.mem=96GB", "head.mem=16GB")
        assert text == (
            "data: 2GB is too much for workers of 1.89GB: each needs at least 2.6GB, with the part of the data to "
            "train on, 1.5GB, and for the fit of one thread a copy of 1GB"
        )
        found = re.fullmatch(r"use cluster.workers_per_job=(\d+) or cluster.mem=(\w+)", remedy)
        assert found
        fewer = f"cluster.workers_per_job={found[1]}"
        assert self.said("cluster.ncpus=48", "cluster.mem=96GB", "head.mem=16GB", fewer) == []
        assert self.said("cluster.ncpus=48", f"cluster.mem={found[2]}", "head.mem=16GB") == []

    def test_requested_threads_are_kept(self) -> None:
        _, remedy = self.said("cluster.workers_per_job=2", "cluster.threads=24", "cluster.mem=20GB", "head.mem=16GB")
        assert remedy.startswith("use cluster.mem=")

    def test_a_head(self) -> None:
        text, remedy = self.said("cluster.ncpus=48", "cluster.mem=192GB", "head.mem=4GB")
        assert text == (
            "data: 2GB is too much for a head of 4GB: it needs at least 6.57GB, for the data, its parts, and "
            "copies that are being sent"
        )
        assert self.said("cluster.ncpus=48", "cluster.mem=192GB", remedy.removeprefix("use ")) == []


class TestLocal:
    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hpcml.cluster.local._memory", lambda: 10 * GB)

    def test_fewer_workers(self) -> None:
        with pytest.raises(ConfigError, match=r"2GB is too much for workers of 2\.25GB") as caught:
            room.check_local(LocalSpec(workers=4), big())
        assert caught.value.hints == ("use fewer workers: cluster.workers=1",)
        room.check_local(LocalSpec(workers=1), big())

    def test_more_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hpcml.cluster.local._memory", lambda: 16 * GB)
        with pytest.raises(ConfigError) as caught:
            room.check_local(LocalSpec(workers=2, memory_limit="1500MB"), big())
        (hint,) = caught.value.hints
        found = re.fullmatch("increase their memory: cluster.memory_limit=(\\w+)", hint)
        assert found
        assert parse_size(found[1], "") < 4 * GB
        room.check_local(LocalSpec(workers=2, memory_limit=found[1]), big())

    def test_a_head_beside_its_workers(self) -> None:
        """The workers fit, but leave too little for the head: 6.57 GB of 10 GB, and 2 x 2.6 GB."""
        with pytest.raises(
            ConfigError, match=r"too much for this machine's 10GB: the head needs at least 6\.57GB"
        ) as caught:
            room.check_local(LocalSpec(workers=2), big())
        assert caught.value.hints == ("use fewer workers: cluster.workers=1",)
        room.check_local(LocalSpec(workers=1), big())

    def test_not_even_one_worker_fits(self) -> None:
        with pytest.raises(ConfigError, match="too much") as caught:
            room.check_local(LocalSpec(workers=1), Footprint(20 * GB, 20 * GB, 0))
        assert "use fewer samples, or a machine with more memory" in caught.value.hints[0]


@pytest.mark.parametrize("name", ["d.npz", "d.csv"])
def test_a_file_that_is_larger_than_memory_is_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"x" * 2000)
    if name == "d.npz":
        np.savez_compressed(tmp_path / name, X=np.random.default_rng(0).random((100, 10)))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    kind = data.TableFile if name.endswith("csv") else data.ArrayFile
    with pytest.raises(DataError, match="of memory are free"):
        data.load(kind(path=str(tmp_path / name)))


def test_an_array_in_a_file_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array may be larger than memory, because no process reads all of it at once."""
    monkeypatch.setattr(selection, "LARGE", 1)
    np.save(tmp_path / "d.npy", np.ones((100, 10)))
    np.savez(tmp_path / "d.npz", X=np.ones((100, 10)))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    for name in ("d.npy", "d.npz"):
        found = data.load(data.ArrayFile(path=str(tmp_path / name)))
        assert isinstance(found, Dataset)
        assert isinstance(found.X, np.memmap)
