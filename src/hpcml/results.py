"""Results: an outcome written to the run directory; models with skops, tables as Parquet and CSV."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hpcml.errors import ConfigError, ResultsError
from hpcml.files import plain, replacing, write_json
from hpcml.runs import RunPaths
from hpcml.workloads.base import Outcome

log = logging.getLogger(__name__)

_JOBLIB_HINT = "save it as a pickle instead, to be loaded by yourself only: model_format=joblib; or not at all: none"


def check_model_format(model: Any, model_format: str) -> None:
    """Refuse a model that cannot be written, before hours are spent on fitting it.

    Raises
    ------
    ConfigError
    """
    if model_format == "skops" and model is not None:
        import skops.io

        try:
            dumped = skops.io.dumps(model)
            # what it writes by name, such as a lambda, need not be found again by that name
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
                "give it a function of a module instead of a lambda; or do not save it: model_format=none",
            ) from error


def save(outcome: Outcome, paths: RunPaths, model_format: str) -> tuple[str | None, list[str]]:
    """Write metrics, tables and model; should the run directory fail, to a rescue directory.

    Returns
    -------
    str or None
        How to load the model.
    list of str
        What the user should be warned of.

    Raises
    ------
    ResultsError
        If the run directory cannot take the results; it says where they are instead.
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
        raise ResultsError(failed, f"they are safe in {rescue.root}: copy them before that is purged") from error


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
    path = paths.model(model_format)
    if model_format == "joblib":
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
        return f"joblib.load('{path}')", []
    import skops.io

    try:
        with replacing(path) as aside:
            skops.io.dump(model, aside)
            untrusted = skops.io.get_untrusted_types(file=aside)
            nameless = [name for name in untrusted if "<" in name]
            if nameless:
                raise TypeError(f"nothing is found again by the name {nameless[0]}")
    except OSError:
        raise
    except Exception as error:
        # It passed check_model_format, so it is something that fitting added. Losing the fit would be worse than a
        # pickle that nobody asked for: a pickle is harmless until it is loaded.
        log.warning("skops cannot write the fitted model", exc_info=True)
        how, _ = _save_model(model, paths, "joblib")
        return how, [f"the fitted model is not skops-safe ({type(error).__name__}: {error}); it is saved as a pickle"]
    return f"skops.io.load('{path}'{f', trusted={untrusted}' if untrusted else ''})", []


def to_table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Make an Arrow table; a column of mixed types becomes JSON text, because Parquet has one type a column."""
    arrays = {}
    for name, values in columns.items():
        cells = [plain(value) for value in values]
        if any(isinstance(cell, (dict, list)) for cell in cells):
            arrays[name] = _as_json(cells)
            continue
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # the last: whole numbers beyond 64 bits
            arrays[name] = _as_json(cells)
    return pa.table(arrays)


def _as_json(cells: Sequence[Any]) -> pa.Array:
    return pa.array([None if cell is None else json.dumps(cell) for cell in cells], pa.string())
