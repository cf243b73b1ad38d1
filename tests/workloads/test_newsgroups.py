"""Test that hpcml and scikit-learn read the same newsgroups from an archive."""

from __future__ import annotations

import os
import pickle
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks._corpus import GROUPS, archive
from sklearn.datasets import _twenty_newsgroups, fetch_20newsgroups, load_files

from hpcml import fetch
from hpcml.config.compose import compose
from hpcml.data import Newsgroups, load
from hpcml.data.newsgroups import cache_file
from hpcml.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("archive") / "20news-bydate.tar.gz"
    return path, archive(path, train=200, test=60)


@pytest.fixture(scope="module")
def home(made: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("home")
    fetch.newsgroups(cache_file(str(directory)), made[0].as_uri(), made[1], lambda text: None)
    return str(directory)


def test_the_archive_is_the_one_that_scikit_learn_fetches() -> None:
    assert _twenty_newsgroups.ARCHIVE.url == fetch.NEWSGROUPS_URL
    assert _twenty_newsgroups.ARCHIVE.checksum == fetch.NEWSGROUPS_SHA256


def test_the_cache_holds_what_scikit_learns_own_would(made: tuple[Path, str], home: str, tmp_path: Path) -> None:
    with tarfile.open(made[0]) as tar:
        tar.extractall(tmp_path, filter="data")
    written = pickle.loads(zlib.decompress(cache_file(home).read_bytes()))
    for subset in ("train", "test"):
        ours, theirs = written[subset], load_files(tmp_path / f"20news-bydate-{subset}", encoding="latin1")
        assert type(ours) is type(theirs)
        assert ours.keys() == theirs.keys()
        assert ours.data == theirs.data
        assert ours.target_names == theirs.target_names == sorted(GROUPS)
        assert ours.DESCR == theirs.DESCR
        np.testing.assert_array_equal(ours.target, theirs.target)
        relative = [str(Path(name).relative_to(tmp_path)) for name in theirs.filenames]
        assert list(ours.filenames) == [f"{home}/20news_home/{name}" for name in relative]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"subset": "test"},
        {"subset": "all"},
        {"categories": ["sci.space", "alt.atheism"]},
        {"subset": "all", "remove": ["headers", "quotes"]},
    ],
)
def test_it_is_read_as_scikit_learn_reads_it(home: str, keys: dict[str, Any]) -> None:
    data = load(Newsgroups(data_home=home, **keys))
    theirs = fetch_20newsgroups(
        data_home=home, download_if_missing=False, **{**keys, "remove": tuple(keys.get("remove", ()))}
    )
    assert list(data.X) == theirs.data
    assert list(data.y) == [theirs.target_names[number] for number in theirs.target]


def test_one_category_may_stand_without_brackets(home: str) -> None:
    assert set(Newsgroups(data_home=home, categories="sci.med", remove="headers").load().y) == {"sci.med"}


def test_without_the_data_it_says_how_to_get_them_and_makes_no_directory(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"are not in .*/away\n.*internet access, .* hpcml fetch newsgroups --data-home"
    ):
        Newsgroups(data_home=str(tmp_path / "away")).load()
    assert not (tmp_path / "away").exists()


def test_a_cache_that_others_may_have_written_is_not_read(home: str, tmp_path: Path) -> None:
    cache = Path(shutil.copy(cache_file(home), tmp_path))
    tmp_path.chmod(0o755)
    cache.chmod(0o664)
    told = (
        f"{cache}: is writable by its group, and loading a pickle.*\n.*chmod go-w .*\n.*hpcml fetch newsgroups --data"
    )
    with pytest.raises(DataError, match=told):
        Newsgroups(data_home=str(tmp_path)).load()
    cache.chmod(0o644)
    assert Newsgroups(data_home=str(tmp_path)).load().n_samples


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_cache_of_another_user_is_not_read(home: str, tmp_path: Path) -> None:
    cache = Path(shutil.copy(cache_file(home), tmp_path))
    os.chown(cache, 65534, -1)
    with pytest.raises(DataError, match=f"{cache}: belongs to another user, and loading a pickle.*\n.*cp {cache} DIR"):
        Newsgroups(data_home=str(tmp_path)).load()


def test_the_cache_is_written_by_nobody_else(made: tuple[Path, str], tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        cache = cache_file(str(tmp_path / "data"))
        fetch.newsgroups(cache, made[0].as_uri(), made[1], lambda text: None)
    finally:
        os.umask(before)
    assert not (cache.stat().st_mode | cache.parent.stat().st_mode) & 0o022


def test_the_places_are_scikit_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_file() == Path.home() / "scikit_learn_data" / "20news-bydate_py3.pkz"
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    assert cache_file() == tmp_path / "20news-bydate_py3.pkz"
    with pytest.raises(DataError, match=f"the newsgroups are not in {tmp_path}\n.*hpcml fetch newsgroups$"):
        Newsgroups().load()


@pytest.mark.parametrize("content", [b"", b"no zlib", zlib.compress(b"no pickle")])
def test_a_damaged_cache(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    cache_file(str(tmp_path)).write_bytes(content)
    with pytest.raises(
        DataError, match=r"py3.pkz: cannot be read: .+\n  download it again: rm .*; hpcml fetch newsgroups"
    ):
        Newsgroups(data_home=str(tmp_path)).load()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"subset": "training"}, "data.subset=training: unknown\n  did you mean 'train'"),
        ({"remove": ["header"]}, r"data.remove=\[header\]: unknown\n  did you mean 'headers'"),
        ({"categories": []}, r"data.categories=\[\]: no newsgroups"),
        ({"categories": ["sci.med", "sci.spac"]}, "no newsgroup named sci.spac\n  did you mean 'sci.space'"),
    ],
)
def test_keys_that_cannot_be_right(home: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Newsgroups(data_home=home, **keys).load()


def test_the_small_experiment_takes_two_groups_unless_others_are_named(home: str) -> None:
    for words, groups in (
        (["size=small"], ["alt.atheism", "sci.space"]),
        (["size=small", "data.categories=[sci.med, sci.crypt]"], ["sci.crypt", "sci.med"]),
        ([], sorted(GROUPS)),
    ):
        composed = compose("hpcml run", ["experiment=newsgroups_grid", f"data.data_home={home}", *words])
        assert composed is not None
        assert sorted(set(load(composed.build().data).y)) == groups
