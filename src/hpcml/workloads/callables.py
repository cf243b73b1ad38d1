"""The user's own function: found by its name or in its file, its arguments checked, its errors told by its lines."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from hpcml.errors import ConfigError, nearest
from hpcml.targets import locate

if TYPE_CHECKING:
    from distributed import Client

_KEY = "workload.function"


def check_function(function: Any) -> None:
    """Refuse what cannot name a function; imports nothing.

    Raises
    ------
    ConfigError
    """
    if not callable(function) and not (isinstance(function, str) and function):
        raise ConfigError(
            f"{_KEY}={function!r}: neither a function nor the name of one",
            f"for example {_KEY}=mine.f or {_KEY}=path/to/mine.py:f",
        )


def find(function: Any) -> Any:
    """Give the function that a config names.

    Parameters
    ----------
    function : str or callable
        ``package.module.f``, ``mine.f`` of a file in the working directory, or ``path/to/mine.py:f``.

    Raises
    ------
    ConfigError
        If there is none of that name, or importing it fails.
    """
    if not isinstance(function, str):
        return function
    file = _file(function)
    if file is None:
        return locate(function, _KEY)
    name = function.rpartition(":")[2]
    _import(file, function)
    return locate(f"{file.stem}.{name}", _KEY)


def _file(function: Any) -> Path | None:
    """Give the file of ``path/to/mine.py:f``."""
    path, colon, _ = function.rpartition(":") if isinstance(function, str) else ("", "", "")
    return Path.cwd() / Path(path).expanduser() if colon else None


def _import(file: Path, named: str) -> None:
    """Import a file by its own name, as a script beside it would: so pickles of what it defines are read anywhere."""
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ConfigError(f"{_KEY}={named}: {file.name} is no module's file", "it must be called NAME.py")
    if not file.is_file():
        raise ConfigError(f"{_KEY}={named}: there is no file {file}")
    _add_path(str(file.parent))
    try:
        module = importlib.import_module(file.stem)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{_KEY}={named}: importing it failed: {type(error).__name__}: {error}") from error
    other = getattr(module, "__file__", None)
    if other is None or Path(other).resolve() != file.resolve():
        raise ConfigError(
            f"{_KEY}={named}: the name {file.stem} is taken by {other or 'a module of Python itself'}",
            "give the file another name",
        )


def _add_path(directory: str) -> None:
    if directory not in sys.path:  # last, so that a file there called numpy.py breaks nothing of ours
        sys.path.append(directory)


class _SearchPath(WorkerPlugin):  # type: ignore[misc]  # distributed has no types here
    """Has workers, also those that come later, import what lies in a directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        _add_path(self.directory)


def reach(function: Any, client: Client) -> None:
    """Have the workers find the file of a function; a module in the working directory they find anyway."""
    file = _file(function)
    if file is not None:
        client.register_plugin(_SearchPath(str(file.parent)), name=f"hpcml-{file.parent}")


def name(function: Any) -> str:
    """Name a function for messages.

    >>> name("mine.f"), name(len), name(functools.partial(len))
    ('mine.f', 'len', 'len')
    """
    if isinstance(function, str):
        return function
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def check_arguments(function: Any, given: Mapping[str, str], leading: Sequence[str] = (), hint: str = "") -> None:
    """Refuse arguments that a function does not have, and a lack of those that it needs.

    Parameters
    ----------
    function : callable
    given : mapping of str to str
        By the arguments' names, the config keys that give them.
    leading : sequence of str
        What it is called with before them, by position.
    hint : str
        How to give an argument that is lacking, with ``{}`` for its name.

    Raises
    ------
    ConfigError
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some compiled callables have none
        return
    shown = name(function)
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(by_position) < len(leading) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise ConfigError(
            f"{_KEY}: {shown}() is called with {' and '.join(leading)}, and takes {len(by_position)} by position",
            f"define it as {shown.rpartition('.')[2]}({', '.join(leading)}, ...)",
        )
    taken = [p.name for p in by_position[: len(leading)]]
    rest = [p for p in parameters if p.name not in taken]
    names = [p.name for p in rest if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in rest)
    needed = [p for p in rest if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for p in needed:
        if p.kind is p.POSITIONAL_ONLY:
            raise ConfigError(
                f"{_KEY}: {shown}() takes '{p.name}' by position only, and arguments are given by name",
                "wrap it in a function of your own",
            )
    for argument, key in given.items():
        if argument in taken:
            raise ConfigError(f"{key}: {shown}() gets '{argument}' from the run", "leave it out")
        if argument not in names and not open_ended:
            raise ConfigError(f"{key}: {shown}() has no '{argument}'", nearest(argument, names, most=5))
    for p in needed:
        if p.name not in given:
            raise ConfigError(f"{_KEY}: {shown}() needs '{p.name}'", hint.format(p.name))


def place(error: BaseException, function: Any) -> str | None:
    """Say which line of the user's file raised an error; None if none of its lines took part."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an instance with a __call__
        file = inspect.getsourcefile(type(function))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {frames[-1].lineno}, in {frames[-1].name}: {frames[-1].line}" if frames else None
