"""The 20 newsgroups, from scikit-learn's own cache; nothing is downloaded here: `hpcml fetch newsgroups` does that."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.data.dataset import Dataset
from hpcml.errors import ConfigError, DataError, nearest
from hpcml.files import others

SUBSETS = ("train", "test", "all")
PARTS = ("headers", "footers", "quotes")


def cache_file(data_home: str | None = None) -> Path:
    """Say where scikit-learn keeps the newsgroups (sklearn.datasets: get_data_home, _twenty_newsgroups.CACHE_NAME)."""
    home = data_home or os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data"
    return Path(home).expanduser() / "20news-bydate_py3.pkz"


@dataclass(frozen=True, kw_only=True)
class Newsgroups:
    """Messages of 20 newsgroups; each one's target is the name of its group.

    Parameters
    ----------
    data_home : str or None
        scikit-learn's data directory; None: $SCIKIT_LEARN_DATA, else ~/scikit_learn_data.
    subset : {"train", "test", "all"}
    categories : sequence of str or None
        The groups to take; None: all 20.
    remove : sequence of {"headers", "footers", "quotes"}
        What to cut out of the messages, because it may give the group away.

    Raises
    ------
    ConfigError
        If there is no such subset or part, or categories is an empty list.
    """

    data_home: str | None = None
    subset: str = "train"
    categories: Any = None
    remove: Any = ()

    def __post_init__(self) -> None:
        for name in ("categories", "remove"):
            value = getattr(self, name)
            if isinstance(value, str):  # data.categories=sci.space, without the brackets of a list
                object.__setattr__(self, name, (value,))
        if self.subset not in SUBSETS:
            raise ConfigError(f"data.subset={self.subset}: unknown", nearest(self.subset, SUBSETS))
        if self.categories is not None and not self.categories:
            raise ConfigError("data.categories=[]: none are left", "data.categories=null takes all")
        for part in self.remove or ():
            if part not in PARTS:
                raise ConfigError(f"data.remove=[{part}]: unknown", nearest(part, PARTS))

    def load(self) -> Dataset:
        """Read the messages, in scikit-learn's order.

        Raises
        ------
        DataError
            If the cache is not there, damaged, or may be another user's work, or there is no such group.
        """
        cache = cache_file(self.data_home)
        if not cache.is_file():
            where = "" if self.data_home is None else f" --data-home {self.data_home}"
            raise DataError(
                f"the newsgroups are not in {cache.parent}",
                f"where there is internet, such as on a login node or in a job of a copy queue: "
                f"hpcml fetch newsgroups{where}",
            )
        doubt = others(cache, root=True)
        if doubt is not None:
            raise DataError(
                f"{cache}: {doubt[0]}, and a pickle: loading it would run what code they like",
                doubt[1],
                "or get your own: hpcml fetch newsgroups --data-home DIR; then data.data_home=DIR",
            )
        bunch = self._fetch(cache, self.categories)
        return Dataset(
            X=np.array(bunch.data, dtype=object), y=np.array(bunch.target_names)[bunch.target], name="newsgroups"
        )

    def _fetch(self, cache: Path, categories: Any) -> Any:
        from sklearn.datasets import fetch_20newsgroups

        printed = io.StringIO()  # scikit-learn prints why it cannot read its cache
        try:
            with contextlib.redirect_stdout(printed):
                return fetch_20newsgroups(
                    data_home=str(cache.parent),
                    subset=self.subset,
                    categories=None if categories is None else list(categories),
                    remove=tuple(self.remove or ()),
                    download_if_missing=False,
                )
        except OSError as error:
            reason = " ".join(printed.getvalue().split("\n")[2:]).strip("_ ") or str(error)
            raise DataError(
                f"{cache}: cannot be read: {reason}", f"get it anew: rm {cache}; hpcml fetch newsgroups"
            ) from error
        except ValueError as error:
            known = [] if categories is None else self._fetch(cache, None).target_names
            for name in categories or ():
                if name not in known:
                    raise DataError(f"data.categories: there is no newsgroup {name}", nearest(name, known)) from error
            raise
