"""What is known of a fitted model, and whether data suits it; asked before a cluster starts, and of every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from hpcml.data import Dataset
from hpcml.errors import ConfigError, DataError
from hpcml.workloads.checks import check_finite, classifies, regresses
from hpcml.workloads.sums import Score

_TEXT = "OUST"  # NumPy's kinds of what may hold text


@dataclass(frozen=True)
class Fitted:
    """A model, and what it was or will be fitted on.

    Parameters
    ----------
    model : estimator
    n_features : int or None
        None: not known.
    names : tuple of str or None
        Of the features.
    classes : ndarray or None
    """

    model: Any
    n_features: int | None
    names: tuple[str, ...] | None
    classes: Any

    @classmethod
    def of(cls, model: Any) -> Fitted:
        """Ask a model that is fitted; what it does not know of its features, its run may (:func:`from_run`)."""
        names = getattr(model, "feature_names_in_", getattr(model, "_hpcml_features", None))
        classes = getattr(model, "classes_", None)
        return cls(
            model,
            getattr(model, "n_features_in_", None),
            None if names is None else tuple(map(str, names)),
            classes if isinstance(classes, np.ndarray) and classes.ndim == 1 else None,
        )

    @classmethod
    def on(cls, data: Dataset, model: Any) -> Fitted:
        """Ask the data that a model will be fitted on."""
        classes = np.unique(data.y) if classifies(model) and data.y is not None and data.y.ndim == 1 else None
        return cls(model, None if data.is_text else data.X.shape[1], data.feature_names, classes)

    @property
    def name(self) -> str:
        return type(self.model).__name__

    def check_width(self, name: str, n_features: int | None) -> None:
        """Refuse another number of features, as far as both are known.

        Raises
        ------
        DataError
        """
        if None not in (self.n_features, n_features) and self.n_features != n_features:
            raise DataError(
                f"{name}: has {n_features} features, and {self.name} is fitted on {self.n_features}",
                "if the target or an index is among them: data.target=COLUMN, 'data.drop=[COLUMN]'",
            )

    def order(self, name: str, names: Sequence[str] | None) -> tuple[int, ...] | None:
        """Find the columns that the model knows by name: it takes them by position.

        Returns
        -------
        tuple of int or None
            Which column is the model's first, second, ...; None if they are in order, or one side knows no names.

        Raises
        ------
        DataError
            If a column is missing, or one is there that the model does not know.
        """
        if self.names is None or names is None or tuple(names) == self.names:
            return None
        missing = [column for column in self.names if column not in names]
        more = [column for column in names if column not in self.names]
        if missing:
            raise DataError(
                f"{name}: has no column {_some(missing)}, which {self.name} is fitted on",
                f"columns: {_some(names)}",
                "rename them as they were called when it was fitted",
            )
        if more:
            drop = ",".join(more[:_SHOWN])
            raise DataError(
                f"{name}: has columns that {self.name} is not fitted on: {_some(more)}",
                f"leave them out: 'data.drop=[{drop}]'; the target, if it is among them: data.target=COLUMN",
            )
        return tuple(list(names).index(column) for column in self.names)

    def check_target(self, name: str, y: Any) -> None:
        """Refuse a target of another kind than what is predicted: no prediction would ever be right.

        Parameters
        ----------
        y : array of shape (n_samples,)

        Raises
        ------
        DataError
        """
        hint = "or without a score: workload.scoring=false"
        text = y.dtype.kind in _TEXT
        if regresses(self.model) and text:
            raise DataError(
                f"{name}: the target holds text such as '{y[0]}', and {self.name} predicts numbers",
                "name another column: data.target=COLUMN", hint,
            )  # fmt: skip
        if not classifies(self.model):
            return
        if self.classes is not None and (self.classes.dtype.kind in _TEXT) != text:
            raise DataError(
                f"{name}: the target is such as {y[0]!r}, and the classes of {self.name} such as {self.classes[0]!r}",
                "write both alike", hint,
            )  # fmt: skip
        if y.dtype.kind == "f" and (y != np.trunc(y)).any():
            raise DataError(
                f"{name}: the target is continuous, such as {y[y != np.trunc(y)][0]}, and {self.name} predicts classes",
                "name another column: data.target=COLUMN", hint,
            )  # fmt: skip

    def check_block(self, data: Dataset, score: Score | None) -> None:
        """Refuse samples that the model would fail on, or worse, would not.

        Raises
        ------
        DataError
        """
        if not data.is_text:
            self.check_width(data.name, data.X.shape[1])
        check_finite(data, self.model)
        if score is not None:
            self.check_target(data.name, data.y)

    def check_score(self, score: Score) -> None:
        """Refuse a score that does not go with the classes, before all blocks are predicted for it.

        Raises
        ------
        ConfigError
            For example for ``f1``, which takes two classes, of a model of three.
        """
        misfit = None if self.classes is None else score.misfit(self.classes)
        if misfit is not None:
            raise ConfigError(
                f"workload.scoring={score.name}: does not go with the classes of {self.name}: {misfit}",
                "use workload.scoring=accuracy or f1_macro",
            )


def check_fitted(model: Any) -> None:
    """Refuse a model that is not fitted, as far as it can be asked.

    Raises
    ------
    ConfigError
    """
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise ConfigError(
            f"model: this {type(model).__name__} is not fitted, and workload.train=null names nothing to fit it on",
            "take that of an earlier run: model=from_run model.run=last",
            "or fit it first: 'workload.train={_target_: sklearn.datasets.load_iris, _partial_: true}'",
        ) from error
    except (AttributeError, TypeError):  # not of scikit-learn's family
        return


# So many columns are named in a message.
_SHOWN = 5


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
