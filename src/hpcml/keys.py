"""Declare config keys, each once, on the dataclass field of its value.

The declaration provides validation, ``hpcml keys``, ``docs/keys.md``, the comments of the YAML
files and the docstring of the class.
"""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from hpcml.errors import ConfigError, nearest
from hpcml.units import parse_size, parse_walltime

_METADATA = "hpcml"

# Names of types, for fields without a rule.
_TYPES = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true or false",
    "list[str]": "list of texts",
    "list[int]": "list of whole numbers",
    "tuple[str, ...]": "list of texts",
    "dict[str, str]": "mapping of texts",
    "Mapping[str, Any]": "mapping",
}


@dataclass(frozen=True)
class Rule:
    """A constraint on a value.

    Parameters
    ----------
    text : str
        Description of valid values.
    check : callable
        Called with the full key and the value; raises :class:`ConfigError` for an invalid value.
    pbs : bool
        Whether values are in PBS's notation.
    """

    text: str
    check: Callable[[str, Any], Any]
    pbs: bool = False


@dataclass(frozen=True)
class Violation:
    """A value that its rule rejects.

    Parameters
    ----------
    name : str
        Name of the field.
    default : object
        Value to continue with.
    """

    name: str
    rule: Rule
    error: ConfigError
    default: Any


@dataclass(frozen=True)
class Key:
    """Declaration of a key.

    Parameters
    ----------
    text : str
        The meaning of the value, in one sentence.
    rule : Rule or None
        Rule for valid values; None for any value of the field's type.
    unit : str or None
    example : str or None
        A value as typed after ``KEY=``.
    """

    text: str
    rule: Rule | None = None
    unit: str | None = None
    example: str | None = None


def config_key(
    default: Any,
    text: str,
    rule: Rule | None = None,
    *,
    unit: str | None = None,
    example: str | None = None,
) -> Any:
    """Declare a key on a dataclass field; see :class:`Key`.

    Parameters
    ----------
    default : object
        Default value, or a list, dict or class that is used as a factory.
        :data:`dataclasses.MISSING` for a required key.
    """
    metadata = {_METADATA: Key(" ".join(text.split()), rule, unit, example)}
    if default is MISSING:
        return field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def declared(cls: type) -> dict[str, Key]:
    """Return the keys that a dataclass declares or inherits, by name."""
    found = ((entry.name, entry.metadata.get(_METADATA)) for entry in fields(cls))
    return {name: declaration for name, declaration in found if declaration is not None}


def violations(instance: Any, prefix: str, names: Collection[str] | None = None) -> Iterator[Violation]:
    """Check the values of a dataclass instance against the rules of its keys.

    A key with a type that allows None may be null.

    Parameters
    ----------
    prefix : str
        Config group for messages: ``cluster.``
    names : collection of str or None
        Keys to check; None for all.
    """
    for entry in fields(instance):
        declaration: Key | None = entry.metadata.get(_METADATA)
        if declaration is None or declaration.rule is None or (names is not None and entry.name not in names):
            continue
        value = getattr(instance, entry.name)
        if value is None and _optional(entry):
            continue
        try:
            declaration.rule.check(f"{prefix}{entry.name}", value)
        except ConfigError as error:
            yield Violation(entry.name, declaration.rule, error, entry.default)


def check_keys(instance: Any, prefix: str, names: Collection[str] | None = None) -> None:
    """Check the values of a dataclass instance as :func:`violations` does.

    Raises
    ------
    ConfigError
        For the first invalid value.
    """
    for violation in violations(instance, prefix, names):
        raise violation.error


def type_text(entry: dataclasses.Field[Any]) -> str:
    """Return a description of the values that a key accepts.

    >>> [type_text(entry) for entry in fields(Key)]
    ['text', 'Rule, or null', 'text, or null', 'text, or null']
    """
    declaration: Key | None = entry.metadata.get(_METADATA)
    bare = re.sub(r" \| None$", "", str(entry.type))
    text = _TYPES.get(bare, bare)
    if dataclasses.is_dataclass(entry.default_factory):
        text = "mapping of keys"
    if declaration is not None and declaration.rule is not None:
        text = declaration.rule.text
    return text if "null" in text or not _optional(entry) else f"{text}, or null"


def default_text(entry: dataclasses.Field[Any]) -> str:
    """Return the default of a key in YAML; empty for a mapping of keys."""
    value = entry.default
    if value is MISSING and entry.default_factory is MISSING:
        return "required"
    if value is MISSING:
        assert entry.default_factory is not MISSING
        value = entry.default_factory()
    if dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    words = {None: "null", True: "true", False: "false", "???": "required"}
    if value is None or isinstance(value, (bool, str)):
        return words.get(value, str(value))
    return str(list(value)) if isinstance(value, tuple) else str(value)


def documented(cls: type) -> type:
    """Add a Parameters section to a dataclass's docstring, from its declarations."""
    lines = ["Parameters", "----------"]
    for entry in fields(cls):
        declaration: Key | None = entry.metadata.get(_METADATA)
        if declaration is not None:
            lines.append(f"{entry.name} : {type_text(entry).replace('null', 'None')}")
            lines.append(textwrap.indent(textwrap.fill(_sentence(declaration), 110), "    "))
    summary, heading, rest = (cls.__doc__ or "").partition("\n    Raises\n")
    section = textwrap.indent("\n".join(lines), "    ")
    cls.__doc__ = f"{summary.rstrip()}\n\n{section}\n\n{heading.lstrip(chr(10))}{rest}"
    return cls


def whole(least: int = 1) -> Rule:
    """Accept whole numbers of at least ``least``."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value}: must be a whole number, {least} or more", f"for example {name}={least}")

    return Rule(f"whole number, {least} or more", check)


def number(least: float | None = None, above: float | None = None, below: float | None = None) -> Rule:
    """Accept finite numbers between bounds."""
    bounds = []
    if least is not None:
        bounds.append(f"{least:g} or more")
    if above is not None:
        bounds.append(f"more than {above:g}")
    if below is not None:
        bounds.append(f"less than {below:g}")
    text = ", ".join(["number", *bounds])

    def check(name: str, value: Any) -> None:
        fits = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
        fits = fits and (least is None or value >= least)
        fits = fits and (above is None or value > above)
        if not fits or (below is not None and value >= below):
            raise ConfigError(f"{name}={value}: must be a {text}")

    return Rule(text, check)


def share() -> Rule:
    """Accept a fraction of the samples that leaves some for training: from 0 to below 1."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ConfigError(f"{name}={value}: must be between 0 and 1, for example 0.25")

    return Rule("share, 0 to below 1", check)


def flag() -> Rule:
    """Accept true and false."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"{name}={value}: must be true or false")

    return Rule("true or false", check)


def choice(*names: str) -> Rule:
    """Accept one of several names."""

    def check(name: str, value: Any) -> None:
        if value not in names:
            close = nearest(str(value), names)
            choices = f"choices: {', '.join(names)}"
            raise ConfigError(f"{name}={value}: unknown", *([close] if "did you mean" in close else []), choices)

    return Rule("one of " + ", ".join(names), check)


def kind(text: str) -> Rule:
    """Describe values that the class validates itself."""
    return Rule(text, lambda *_: None)


def size(zero: bool = False) -> Rule:
    """Accept a size in PBS's notation, optionally including 0."""

    def check(name: str, value: Any) -> None:
        if parse_size(value, name) == 0 and not zero:
            raise ConfigError(f"{name}={value}: must be more than 0", "write it as PBS does, for example 4GB or 512MB")

    return Rule("size, such as 4GB", check, pbs=True)


def walltime() -> Rule:
    """Accept a duration in PBS's notation."""
    return Rule("[[HH:]MM:]SS", lambda name, value: parse_walltime(value, name), pbs=True)


def _optional(entry: dataclasses.Field[Any]) -> bool:
    return "None" in str(entry.type) or entry.default is None


def _sentence(declaration: Key) -> str:
    end = "" if declaration.text.endswith(".") else "."
    unit = "" if declaration.unit is None else f" In {declaration.unit}."
    return f"{declaration.text}{end}{unit}"
