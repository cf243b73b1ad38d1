"""Parameter spaces of a search: mappings of names to values, or to distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid

from hpcml.describe import describe
from hpcml.errors import ConfigError
from hpcml.files import plain

Space = dict[str, Any]


def normalise(grid: Any, method: str) -> list[Space]:
    """Normalise the grid of a config to a list of spaces.

    Parameters
    ----------
    grid : mapping, sequence of mappings, or None
        None is the single candidate that changes nothing.
    method : {"grid", "random"}

    Raises
    ------
    ConfigError
        If a value is neither a list nor, for a random search, a distribution.
    """
    spaces = [{}] if grid is None else [grid] if isinstance(grid, Mapping) else grid
    if not isinstance(spaces, Sequence) or isinstance(spaces, str) or not spaces:
        raise ConfigError(f"workload.grid={grid!r}: not a mapping", "for example 'workload.grid={C: [0.1, 1, 10]}'")
    for space in spaces:
        if not isinstance(space, Mapping):
            raise ConfigError(f"workload.grid: {space!r} is not a mapping of parameter names to lists of values")
        for name, values in space.items():
            _check_values(name, values, method)
    return [dict(space) for space in spaces]


def with_prefix(space: Space, model: Any, prefix: str) -> Space:
    """Return a space whose names are those of a model with preprocessing before it.

    Parameters
    ----------
    prefix : str
        The text before the names of the parameters of the model itself; empty if it has no
        preprocessing.
    """
    known = model.get_params(deep=True) if prefix else {}
    return {name if name in known or not prefix else f"{prefix}{name}": values for name, values in space.items()}


def _check_values(name: str, values: Any, method: str) -> None:
    if hasattr(values, "rvs"):
        if method == "grid":
            raise ConfigError(
                f"workload.grid.{name} is a distribution, and a grid search needs a list of values",
                "use workload.method=random workload.n_iter=20",
            )
    elif isinstance(values, (str, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
        raise ConfigError(f"workload.grid.{name}={values!r}: not a list", f"write [{values}]")
    elif len(values) == 0:
        raise ConfigError(f"workload.grid.{name}=[]: an empty list leaves no candidate")


def check_distributions(space: Space) -> None:
    """Check every distribution by drawing once, since bad parameters show up only then.

    Raises
    ------
    ConfigError
    """
    for name, values in space.items():
        if not hasattr(values, "rvs"):
            continue
        try:
            drawn = values.rvs(random_state=0)
            bad = isinstance(drawn, float) and math.isnan(drawn)
        except Exception as error:
            raise ConfigError(f"workload.grid.{name}: nothing can be drawn from it: {error}") from error
        if bad:
            raise ConfigError(f"workload.grid.{name}: what is drawn from it is NaN", "check its parameters")


def count(spaces: Sequence[Space], method: str, n_iter: int) -> int:
    """Count the candidates.

    Samples from lists are drawn without replacement, so there are no more candidates than
    combinations.
    """
    continuous = any(hasattr(values, "rvs") for space in spaces for values in space.values())
    if method == "random" and continuous:
        return n_iter
    combinations = len(ParameterGrid(list(spaces)))
    return min(n_iter, combinations) if method == "random" else combinations


def show(parameters: Mapping[str, Any]) -> str:
    """Render a candidate for the screen.

    >>> show({"C": 3, "kernel": "rbf"}), show({})
    ('C=3, kernel=rbf', 'as configured')
    >>> show({"score_func": count})
    'score_func=hpcml.workloads.search.grid.count'
    """
    return ", ".join(f"{name}={label(value)}" for name, value in parameters.items()) or "as configured"


def label(value: Any) -> Any:
    """Return a value as tables show it: a function by its name, an estimator by its repr."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return plain(value)


def described(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a candidate as JSON that a config can contain.

    >>> from sklearn.decomposition import PCA
    >>> described({"C": 1, "reduce": PCA(2)})["reduce"]["_target_"]
    'sklearn.decomposition.PCA'
    """
    return {name: plain(value) if _is_plain(value) else plain(describe(value)) for name, value in parameters.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.generic))
