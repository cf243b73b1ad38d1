"""Import the class or function of a ``_target_``, and check its parameters before it is called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from hpcml.errors import ConfigError, nearest

# Hydra's own keys beside _target_ (hydra.utils.instantiate).
_HYDRA_KEYS = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}

# Optional dependencies of hpcml in pyproject.toml.
_EXTRAS = {"lightgbm", "xgboost"}


def locate(path: str, key: str) -> Any:
    """Import a class or function by its dotted path.

    Parameters
    ----------
    path : str
        For example ``sklearn.svm.SVC``, or ``mymodule.MyModel`` in a file of the working directory.
    key : str
        Config key of the path, for error messages.

    Raises
    ------
    ConfigError
        If a module or attribute does not exist, or importing the module fails.
    """
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{key}={path}: not a dotted path", "for example sklearn.svm.SVC")
    found, depth = _import(parts, key, path)
    for name in parts[depth:]:
        try:
            found = getattr(found, name)
        except AttributeError:
            where = getattr(found, "__name__", str(found))
            public = [n for n in dir(found) if not n.startswith("_")]
            hint = nearest(name, public)
            hints = [hint] if hint.startswith("did you mean") else []
            raise ConfigError(f"{key}={path}: {where} has no '{name}'", *hints) from None
    if not callable(found):
        raise ConfigError(f"{key}={path}: a {type(found).__name__}, not a class or function")
    return found


def _import(parts: list[str], key: str, path: str) -> tuple[Any, int]:
    """Import the longest importable prefix, and return the module and the length of the prefix."""
    found, depth = None, 0
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name and found is not None:
                return found, depth - 1
            if error.name == name:
                raise ConfigError(
                    f"{key}={path}: no module named '{name}'",
                    f"pip install 'hpcml[{name}]'"
                    if name in _EXTRAS
                    else "install its package, or start hpcml in the directory that contains the file",
                ) from error
            raise ConfigError(f"{key}={path}: importing '{name}' failed: {error}") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{key}={path}: importing '{name}' failed: {type(error).__name__}: {error}") from error
    return found, depth


def parameters(target: Any) -> tuple[list[str], bool]:
    """Return the parameters of a class or function, and whether it accepts any others."""
    try:
        found = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # Some compiled callables have no signature.
        return [], True
    names = [p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return names, any(p.kind is p.VAR_KEYWORD for p in found)


def check(node: Any, key: str) -> None:
    """Check that each ``_target_`` in a node can be imported and accepts its parameters.

    Parameters
    ----------
    node : object
        Plain containers with interpolations resolved.
    key : str
        Config key of the node, for error messages.

    Raises
    ------
    ConfigError
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in _HYDRA_KEYS:
                check(value, f"{key}.{name}")
        if "_target_" in node:
            _check_target(node, key)
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            check(value, f"{key}[{number}]")


def _check_target(node: Mapping[str, Any], key: str) -> None:
    target = locate(str(node["_target_"]), f"{key}._target_")
    given = [str(name) for name in node if name not in _HYDRA_KEYS]
    _check_accepted(target, given, key)
    if not node.get("_partial_") and not node.get("_args_"):
        _check_required(target, given, key)


def _check_accepted(target: Any, given: list[str], key: str) -> None:
    names, open_ended = parameters(target)
    unknown = [name for name in given if name not in names]
    if unknown and not open_ended:
        name = unknown[0]
        raise ConfigError(f"{key}.{name}: {target.__name__}() has no '{name}'", nearest(name, names, most=5))


def _check_required(target: Any, given: list[str], key: str) -> None:
    names, _ = parameters(target)
    known = inspect.signature(target).parameters if names else {}
    for name in names:
        if known[name].default is inspect.Parameter.empty and name not in given:
            raise ConfigError(f"{key}: {target.__name__}() needs '{name}'", f"type +{key}.{name}=VALUE")
