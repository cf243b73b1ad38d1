"""Facts about a fitted model, and checks that data suits it.

The checks run before a cluster starts, and on every block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from hpcml.data import Dataset, samples
from hpcml.errors import ConfigError, DataError
from hpcml.workloads.inputs.block_scores import Score
from hpcml.workloads.inputs.checks import check_finite, classifies, regresses, rejected_columns

_TEXT = "OUST"  # NumPy's dtype kinds that may hold text


@dataclass(frozen=True)
class Fitted:
    """A model and facts about its training data, known before or after the fit.

    Parameters
    ----------
    model : estimator
    n_features : int or None
        None: unknown.
    names : tuple of str or None
        The names of the features.
    classes : ndarray or None
    """

    model: Any
    n_features: int | None
    names: tuple[str, ...] | None
    classes: Any

    @classmethod
    def of(cls, model: Any) -> Fitted:
        """Build from a fitted model; its run may supply feature names (:func:`from_run`)."""
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
        """Build from the data to which a model will be fitted."""
        classes = np.unique(data.y) if classifies(model) and data.y is not None and data.y.ndim == 1 else None
        return cls(model, data.n_features, data.feature_names, classes)

    @property
    def name(self) -> str:
        return type(self.model).__name__

    def check_width(self, name: str, n_features: int | None) -> None:
        """Check the number of features, if both numbers are known.

        Raises
        ------
        DataError
        """
        if None not in (self.n_features, n_features) and self.n_features != n_features:
            raise DataError(
                f"{name}: has {n_features} features, and {self.name} is fitted on {self.n_features}",
                "if the target or an index is among them: data.target=COLUMN, 'data.drop=[COLUMN]'",
            )

    def check_types(self, name: str, types: Mapping[str, str]) -> None:
        """Check that the model takes the columns that are not numbers.

        Raises
        ------
        DataError
        """
        rejected = rejected_columns(self.model, types)
        if rejected:
            raise samples.reject(rejected, name, self.name)

    def order(self, name: str, names: Sequence[str] | None) -> tuple[int, ...] | None:
        """Return the order of columns by the model's names, because it takes them by position.

        Returns
        -------
        tuple of int or None
            The index in the data of the model's first, second, ... column; None if they are in
            order, or one side has no names.

        Raises
        ------
        DataError
            If a column is missing, or the model does not know one.
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
        """Check that the target is of the predicted kind; otherwise no prediction could be right.

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
        """Reject samples on which the model would fail or give meaningless predictions.

        Raises
        ------
        DataError
        """
        self.check_width(data.name, data.n_features)
        self.check_types(data.name, samples.not_numeric(data.X))
        check_finite(data, self.model)
        if score is not None and len(data.targets):
            self.check_target(data.name, data.targets)

    def check_score(self, score: Score) -> None:
        """Check that the score fits the classes, before any block is predicted.

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
    """Check that a model is fitted, as far as scikit-learn can detect it.

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
    except (AttributeError, TypeError):  # not a scikit-learn estimator
        return


# The most columns named in a message.
_SHOWN = 5


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
