"""Load the 20 newsgroups from scikit-learn's cache, which `hpcml fetch newsgroups` downloads."""

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
from hpcml.files import writable_by_others
from hpcml.keys import check_keys, choice, config_key, documented, kind

SUBSETS = ("train", "test", "all")
PARTS = ("headers", "footers", "quotes")


def cache_file(data_home: str | None = None) -> Path:
    """Return scikit-learn's cache (get_data_home, _twenty_newsgroups.CACHE_NAME)."""
    home = data_home or os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data"
    return Path(home).expanduser() / "20news-bydate_py3.pkz"


@documented
@dataclass(frozen=True, kw_only=True)
class Newsgroups:
    """Messages of 20 newsgroups, with the name of the newsgroup as target.

    Raises
    ------
    ConfigError
        If a subset or part is unknown, or categories is an empty list.
    """

    data_home: str | None = config_key(
        None, "scikit-learn's data directory. null: $SCIKIT_LEARN_DATA, else ~/scikit_learn_data"
    )
    subset: str = config_key("train", "Part of the messages", choice(*SUBSETS))
    categories: Any = config_key(
        None, "Newsgroups to load. null: all 20", kind("list of names or null"), example="[sci.med, sci.space]"
    )
    remove: Any = config_key(
        (),
        "Parts to cut out of the messages because they may give the newsgroup away",
        kind("list of headers, footers, quotes"),
        example="[headers, footers, quotes]",
    )

    def __post_init__(self) -> None:
        for name in ("categories", "remove"):
            value = getattr(self, name)
            if isinstance(value, str):  # data.categories=sci.space, without brackets
                object.__setattr__(self, name, (value,))
        check_keys(self, "data.")
        if self.categories is not None and not self.categories:
            raise ConfigError("data.categories=[]: no newsgroups", "data.categories=null loads all")
        for part in self.remove or ():
            if part not in PARTS:
                raise ConfigError(f"data.remove=[{part}]: unknown", nearest(part, PARTS))

    def load(self) -> Dataset:
        """Read the messages, in scikit-learn's order.

        Raises
        ------
        DataError
            If the cache is missing, damaged or may be another user's, or a newsgroup is unknown.
        """
        cache = cache_file(self.data_home)
        if not cache.is_file():
            where = "" if self.data_home is None else f" --data-home {self.data_home}"
            raise DataError(
                f"the newsgroups are not in {cache.parent}",
                f"with internet access, such as on a login node or in a job of a copy queue, type: "
                f"hpcml fetch newsgroups{where}",
            )
        problem = writable_by_others(cache, root=True)
        if problem is not None:
            raise DataError(
                f"{cache}: {problem[0]}, and loading a pickle can run their code",
                problem[1],
                "or download it: hpcml fetch newsgroups --data-home DIR; then set data.data_home=DIR",
            )
        bunch = self._fetch(cache, self.categories)
        return Dataset(
            X=np.array(bunch.data, dtype=object), y=np.array(bunch.target_names)[bunch.target], name="newsgroups"
        )

    def _fetch(self, cache: Path, categories: Any) -> Any:
        from sklearn.datasets import fetch_20newsgroups

        printed = io.StringIO()  # scikit-learn prints the reason if it cannot read its cache.
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
                f"{cache}: cannot be read: {reason}", f"download it again: rm {cache}; hpcml fetch newsgroups"
            ) from error
        except ValueError as error:
            known = [] if categories is None else self._fetch(cache, None).target_names
            for name in categories or ():
                if name not in known:
                    raise DataError(f"data.categories: no newsgroup named {name}", nearest(name, known)) from error
            raise
