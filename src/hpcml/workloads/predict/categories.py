"""Categories of a table that a fitted model does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcml.data import samples
from hpcml.errors import printable

# Modules of estimators, parts of which may be encoders.
_PACKAGES = ("sklearn.", "skrub.", "hpcml.")

# The most values that a warning names.
_SHOWN = 3


# Texts that skrub's cleaning of columns reads as missing values.
_MISSING = frozenset(
    {"", "?", "...", "N/A", "NA", "n/a", "na", "#N/A", "<NA>", "nan", "NaN", "NAN", "None", "null", "NULL"}
)

# Parts of a model to look at, at most: some models are made of thousands of objects.
_MOST_PARTS = 10_000


def known_categories(model: Any) -> dict[str, frozenset[str]]:
    """Return the categories that the fitted encoders in a model know, as texts, by the name of the column.

    If several encoders have a column of one name, the first counts: later ones see its output.
    """
    found: dict[str, frozenset[str]] = {}
    todo, seen = [model], set[int]()
    while todo and len(seen) < _MOST_PARTS:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        for name, known in _of_encoder(part).items():
            found.setdefault(name, known)
        todo += reversed(_parts(part))
    return found


def _parts(part: Any) -> list[Any]:
    if isinstance(part, Mapping):
        return list(part.values())
    if isinstance(part, (list, tuple)):
        return list(part)
    known = type(part).__module__.startswith(_PACKAGES)
    return list(getattr(part, "__dict__", {}).values()) if known else []


def _of_encoder(part: Any) -> dict[str, frozenset[str]]:
    """Return the categories of one of scikit-learn's encoders, which document both attributes."""
    names, categories = getattr(part, "feature_names_in_", None), getattr(part, "categories_", None)
    if names is None or not isinstance(categories, list) or len(names) != len(categories):
        return {}
    return {str(name): _texts(known.tolist()) for name, known in zip(names, categories, strict=True)}


def _texts(values: Any) -> frozenset[str]:
    return frozenset(map(_text, values)) - _MISSING


def _text(value: Any) -> str:
    """Return a category as text, the same for 1, 1.0 and "1", between which preprocessing converts."""
    if isinstance(value, bool):
        return str(value)
    try:
        return str(float(value)).removesuffix(".0")
    except (TypeError, ValueError):
        return str(value)


def unknown_categories(model: Any, X: Any) -> dict[str, frozenset[str]]:
    """Return the values of a frame, as texts, that the encoders in a model do not know, by the name of the column."""
    if not hasattr(X, "iloc"):
        return {}
    known, found = known_categories(model), {}
    for name, column in zip(samples.names(X) or (), X.columns, strict=True):
        if name not in known:
            continue
        unknown = _texts(X[column].dropna().unique().tolist()) - known[name]
        if unknown:
            found[name] = unknown
    return found


def warnings(unknown: Mapping[str, frozenset[str]]) -> list[str]:
    """Render one line for each column."""
    lines = []
    for name in sorted(unknown):
        values = sorted(unknown[name])
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        shown = ", ".join(f"'{printable(value, 40)}'" for value in values[:_SHOWN])
        lines.append(f"column '{printable(name)}' has values that the model was not fitted on: {shown}{more}")
    return lines
