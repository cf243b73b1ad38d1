"""Estimators that take Dask arrays: detection, data requirements, and fitting."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import type_of_target

from hpcml.data import Dataset
from hpcml.errors import ConfigError, DataError
from hpcml.units import count
from hpcml.workloads.inputs.checks import classifies, regresses

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# Modules of dask_ml without a working estimator of Dask arrays, each with an alternative.
_NOT_THESE = {
    "dask_ml.model_selection": "use workload=search with the estimator itself",
    "dask_ml._partial": "use workload=incremental with the estimator itself",
    "dask_ml.wrappers": "use workload=predict or workload=incremental with the estimator itself",
    "dask_ml.cluster.spectral": "it can break Dask's scheduler; use sklearn.cluster.SpectralClustering on a sample",
}

# Parameters of XGBoost and LightGBM that stop a fit by a score on samples of its own.
_EARLY_STOPPING = ("early_stopping_rounds", "early_stopping_round")

# Modules of dask_ml that accept NaN.
_TAKE_NAN = ("dask_ml.preprocessing", "dask_ml.impute")


def check_kind(model: Any) -> None:
    """Reject estimators that would gather all samples in one place, or that are known to fail.

    Raises
    ------
    ConfigError
    """
    name = type(model).__name__
    for part in [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]:
        if _module(part).split(".")[0] == "sklearn":
            raise ConfigError(
                f"model: {type(part).__name__} is of scikit-learn, and would gather all samples in one worker",
                "use workload=search, or workload=incremental if it has partial_fit",
                "or an estimator that takes Dask arrays: model=dask_logistic, dask_linear, dask_pca, xgboost, lightgbm",
            )
    for module, instead in _NOT_THESE.items():
        if _module(model).startswith(module):
            raise ConfigError(f"model: {name} of {module} is not for workload=dask_fit", instead)
    stopping = next((key for key in _EARLY_STOPPING if getattr(model, key, None)), None)
    if stopping is not None:
        raise ConfigError(
            f"model.{stopping}={getattr(model, stopping)}: workload=dask_fit has no samples to evaluate {name} on",
            "leave it out, or use workload=search",
        )
    if getattr(model, "svd_solver", None) == "randomized":
        raise ConfigError(
            f"model.svd_solver=randomized: {name} of dask_ml cannot transform afterwards with today's scikit-learn",
            "use model.svd_solver=tsqr",
        )


def has_classes(model: Any) -> bool:
    """Return whether the model predicts classes; dask_ml's models have no tags for it."""
    return classifies(model) or hasattr(model, "predict_proba")


def is_boosted(model: Any) -> bool:
    """Return whether the model is XGBoost's or LightGBM's: their workers talk during a fit."""
    return _module(model).startswith(("xgboost", "lightgbm"))


def has_target(model: Any) -> bool:
    """Return whether the model is fitted to a target."""
    return has_classes(model) or regresses(model) or _module(model).startswith("dask_ml.linear_model")


def check_samples(data: Dataset, model: Any) -> None:
    """Check for texts, an unsuitable target, and NaN that the estimator would silently mishandle.

    Raises
    ------
    DataError
    """
    name = type(model).__name__
    takes_nan = not _module(model).startswith("dask_ml") or _module(model).startswith(_TAKE_NAN)
    bad = 0 if data.X.dtype.kind != "f" or takes_nan else int((~np.isfinite(data.X)).sum())
    if bad:
        raise DataError(
            f"{data.name}: {count(bad, 'NaN or infinite value')} in X, and {name} takes none", "remove those samples"
        )
    if not has_target(model):
        return
    if data.y is None:
        raise DataError(f"{data.name}: {name} needs a target, and there is none", "name it: data.target=COLUMN")
    if data.y.ndim > 1:
        raise DataError(f"{data.name}: has {data.y.shape[1]} targets, and {name} takes one")
    if has_classes(model) and type_of_target(data.y).startswith("continuous"):
        raise DataError(f"{data.name}: the target is continuous, {name} is a classifier", "use a regressor")
    if not has_classes(model) and data.y.dtype.kind in "OUS":
        raise DataError(f"{data.name}: the target holds text such as '{data.y[0]}', {name} is a regressor")


def check_classes(classes: Any, model: Any, name: str) -> None:
    """Check that the estimator supports the classes.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The classes of all samples, sorted.
    name : str
        The name of the data.

    Raises
    ------
    DataError
    """
    kind, shown = type(model).__name__, ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
    if len(classes) < 2:
        raise DataError(f"{name}: only one class in the target: {shown}", f"{kind} needs two or more")
    # dask_ml's linear models predict True and False, and accept any target without an error.
    wanted = 2 if _module(model).startswith("dask_ml.linear_model") else len(classes)
    numbered = _module(model).startswith(("dask_ml.linear_model", "xgboost"))
    if numbered and not np.array_equal(classes, np.arange(wanted)):
        upto = "0 and 1" if wanted == 2 else f"0 to {wanted - 1}"
        raise DataError(
            f"{name}: the classes are {shown}; {kind} takes {upto} only", "number them so; model=lightgbm takes any"
        )


def check_each(found: Sequence[Any], classes: Any, model: Any, name: str) -> None:
    """Check that every block has every class, where that matters.

    Each of LightGBM's workers numbers the classes that it sees; if one sees fewer than the others,
    they abort, or wait for each other indefinitely.

    Parameters
    ----------
    found : sequence of array
        The classes of each block.
    classes : array of shape (n_classes,)
        The classes of all blocks.

    Raises
    ------
    DataError
    """
    if not _module(model).startswith("lightgbm"):
        return
    for number, some in enumerate(found):
        lacking = np.setdiff1d(classes, some)
        if len(lacking):
            raise DataError(
                f"{name}: block {number} has no sample of class {lacking[0]} to train on, and LightGBM needs every "
                "class in every block",
                "shuffle the samples, or take larger blocks; model=xgboost does without",
            )


def fit(model: Any, X: Any, y: Any, client: Client) -> Any:
    """Fit a copy of an estimator to Dask arrays.

    Its warnings and output go to the log, because dask_ml warns of deprecations that do not concern
    the user.
    """
    model = clone(model)
    with client.as_current(), _quiet():
        if "client" in model.get_params() or isinstance(getattr(type(model), "client", None), property):
            model.client = client
        if _module(model).startswith("xgboost"):
            _meet_at_the_scheduler(model, client)
        model.fit(*(X,) if y is None else (X, y))
        return _plain(model, len(X))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys([*(str(warning.message) for warning in caught), *printed.getvalue().splitlines()]):
        log.info("while fitting: %s", text)


def _plain(model: Any, n_samples: int) -> Any:
    """Return a fitted model that can be saved and used without a cluster."""
    if hasattr(model, "to_local"):  # LightGBM
        return model.to_local()
    if _module(model).startswith("xgboost"):
        return _of_booster(model)
    for name, value in list(vars(model).items()):
        if dask.is_dask_collection(value):
            if getattr(value, "shape", ())[:1] == (n_samples,):  # such as labels_, one per sample
                delattr(model, name)
            else:
                setattr(model, name, value.compute())
    return model


def _meet_at_the_scheduler(model: Any, client: Client) -> None:
    """Make XGBoost's workers meet at the address by which Dask's workers know the scheduler.

    Otherwise XGBoost guesses one of the host's addresses. On a host with several networks the
    workers may not be able to reach it, and on a single machine it is needlessly open to the
    network.
    """
    import xgboost.collective
    from distributed.comm import get_address_host

    if model.coll_cfg is None:
        host = get_address_host(client.scheduler_info(n_workers=0)["address"])
        model.coll_cfg = xgboost.collective.Config(tracker_host_ip=host)


def _of_booster(model: Any) -> Any:
    import xgboost

    parameters = {name: value for name, value in model.get_params().items() if name != "coll_cfg"}
    local = getattr(xgboost, type(model).__name__.removeprefix("Dask"))(**parameters)
    local.load_model(model.get_booster().save_raw("ubj"))
    return local


@dataclass(frozen=True)
class Predictor:
    """A fitted model for scoring on a worker.

    It returns NumPy arrays, and classes where dask_ml returns booleans.
    """

    model: Any
    classes_: Any = None

    def predict(self, X: Any) -> Any:
        found = _here(self.model.predict(X))
        return self.classes_[found.astype(int)] if found.dtype.kind == "b" and self.classes_ is not None else found

    def predict_proba(self, X: Any) -> Any:
        return _here(self.model.predict_proba(X))


def _here(found: Any) -> Any:
    # On the cluster, this task would wait for a free thread while occupying one.
    return np.asarray(dask.compute(found, scheduler="sync")[0])


def _module(model: Any) -> str:
    return type(model).__module__
