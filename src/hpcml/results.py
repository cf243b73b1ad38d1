"""Write the outcome of a run to its directory: models with skops, tables as Parquet and CSV."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hpcml.errors import ConfigError, ResultsError
from hpcml.files import plain, replacing, write_json
from hpcml.runs import RunPaths
from hpcml.workloads.base import Outcome

log = logging.getLogger(__name__)

_JOBLIB_HINT = "use model_format=joblib, a pickle that only you should load, or none"


# The most types from outside scikit-learn that the summary lists for skops.io.load.
_MOST_NAMED = 3


def check_model_format(model: Any, model_format: str) -> None:
    """Validate that a model can be saved, before it is fitted for hours.

    Raises
    ------
    ConfigError
    """
    if model_format == "skops" and not _is_surely_safe(model):
        import skops.io  # Imports all of scikit-learn, which takes a second.

        try:
            dumped = skops.io.dumps(model)
            # skops writes objects such as lambdas by name, and fails only when it loads them.
            skops.io.loads(dumped, trusted=skops.io.get_untrusted_types(data=dumped))
        except Exception as error:
            raise ConfigError(
                f"model_format=skops: {type(model).__name__} is not skops-safe: {type(error).__name__}: {error}",
                _JOBLIB_HINT,
            ) from error
    if model_format == "joblib":
        try:
            pickle.dumps(model)
        except Exception as error:
            raise ConfigError(
                f"model_format=joblib: {type(model).__name__} cannot be pickled: {error}",
                "use a function of a module instead of a lambda, or do not save the model: model_format=none",
            ) from error


def _is_surely_safe(value: Any) -> bool:
    """Return whether skops can write a value: scikit-learn objects, plain parameters."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return True
    if isinstance(value, (list, tuple)):
        return all(map(_is_surely_safe, value))
    if isinstance(value, Mapping):
        return all(map(_is_surely_safe, value.values()))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    own = type(value).__module__.partition(".")[0] == "sklearn" and hasattr(value, "get_params")
    return own and _is_surely_safe(value.get_params(deep=False))


def warn_of_script(model: Any, model_format: str) -> None:
    """Warn of classes that are defined in the script itself, which no other program can load."""
    if model_format == "none" or not hasattr(model, "get_params"):
        return
    parts = (model, *model.get_params(deep=True).values())
    names = dict.fromkeys(type(part).__qualname__ for part in parts if type(part).__module__ == "__main__")
    if names:
        warnings.warn(
            f"model: {', '.join(names)} is defined in the script itself, so another program cannot load the saved "
            "model; define it in a file of its own, and import it",
            stacklevel=2,
        )


def save(outcome: Outcome, paths: RunPaths, model_format: str) -> tuple[str | None, list[str]]:
    """Write metrics, tables and model; if that fails, write them to a rescue directory.

    Returns
    -------
    str or None
        Python expression that loads the model.
    list of str
        Warnings for the user.

    Raises
    ------
    ResultsError
        If the run directory is not writable; the message names the rescue directory.
    """
    try:
        return _save(outcome, paths, model_format)
    except OSError as error:
        failed = f"the results could not be written to {paths.root}: {error.strerror or error}"
        try:
            rescue = RunPaths(Path(tempfile.mkdtemp(prefix=f"hpcml-{paths.run_id}-")))
            _save(outcome, rescue, model_format)
        except OSError as second:
            raise ResultsError(f"{failed}; nor to a temporary directory: {second.strerror or second}") from error
        raise ResultsError(failed, f"they are in {rescue.root}: copy them before that is deleted") from error


def _save(outcome: Outcome, paths: RunPaths, model_format: str) -> tuple[str | None, list[str]]:
    write_json(paths.metrics, outcome.metrics)
    if outcome.tables:
        paths.tables.mkdir(exist_ok=True)
    for name, columns in outcome.tables.items():
        table = to_table(columns)
        with replacing(paths.table(name, "parquet")) as aside:
            pyarrow.parquet.write_table(table, aside)
        with replacing(paths.table(name, "csv")) as aside:
            pyarrow.csv.write_csv(table, aside)
    for name, figure in outcome.figures.items():
        paths.figure(name).parent.mkdir(exist_ok=True)
        with replacing(paths.figure(name)) as aside:
            figure.savefig(aside, format="png", dpi=150)
    if outcome.model is None or model_format == "none":
        return None, []
    width = getattr(outcome.model, "n_features_in_", None)
    if outcome.features and width in (None, len(outcome.features)):
        write_json(paths.features, {"features": outcome.features})
    return _save_model(outcome.model, paths, model_format)


def _save_model(model: Any, paths: RunPaths, model_format: str) -> tuple[str, list[str]]:
    """Save a model; return how to load it, and warnings."""
    if model_format == "joblib":
        return _save_with_joblib(model, paths.model("joblib")), []
    try:
        return _save_with_skops(model, paths.model("skops")), []
    except OSError:
        raise
    except Exception as error:
        # The unfitted model passed check_model_format, so fitting added something. A pickle is
        # better than losing the fit, and harmless until it is loaded.
        log.warning("skops cannot write the fitted model", exc_info=True)
        warning = f"the fitted model is not skops-safe ({type(error).__name__}: {error}); it is saved as a pickle"
        return _save_with_joblib(model, paths.model("joblib")), [warning]


def _save_with_joblib(model: Any, path: Path) -> str:
    import joblib

    try:
        with replacing(path) as aside:
            joblib.dump(model, aside)
    except OSError:
        raise
    except Exception as error:
        raise ResultsError(
            f"the fitted model cannot be saved: {type(error).__name__}: {error}", "everything else is saved"
        ) from error
    return f"joblib.load('{path}')"


def _save_with_skops(model: Any, path: Path) -> str:
    import skops.io

    with replacing(path) as aside:
        skops.io.dump(model, aside)
        untrusted = skops.io.get_untrusted_types(file=aside)
        nameless = [name for name in untrusted if "<" in name]
        if nameless:
            raise TypeError(f"{nameless[0]} cannot be imported by its name")
    if len(untrusted) > _MOST_NAMED:
        return f"hpcml.models.from_run('{path}')"
    return f"skops.io.load('{path}'{f', trusted={untrusted}' if untrusted else ''})"


def to_table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Build an Arrow table; columns of mixed types become JSON text."""
    arrays = {}
    for name, values in columns.items():
        cells = [plain(value) for value in values]
        if any(isinstance(cell, (dict, list)) for cell in cells):
            arrays[name] = _as_json(cells)
            continue
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # OverflowError: beyond 64 bits
            arrays[name] = _as_json(cells)
    return pa.table(arrays)


def _as_json(cells: Sequence[Any]) -> pa.Array:
    return pa.array([None if cell is None else json.dumps(cell) for cell in cells], pa.string())
