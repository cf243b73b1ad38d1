"""User functions: import by name or file, argument checks, and the location of errors."""

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
    """Check that a config value can name a function, without importing anything.

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
    """Return the function that a config names.

    Parameters
    ----------
    function : str or callable
        ``package.module.f``, ``mine.f`` of a file in the working directory, or
        ``path/to/mine.py:f``.

    Raises
    ------
    ConfigError
        If no function has that name, or importing it fails.
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
    """Return the file in ``path/to/mine.py:f``, or None for other forms."""
    path, colon, _ = function.rpartition(":") if isinstance(function, str) else ("", "", "")
    return Path.cwd() / Path(path).expanduser() if colon else None


def _import(file: Path, named: str) -> None:
    """Import a file as a top-level module, so that pickles of its contents load everywhere."""
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ConfigError(f"{_KEY}={named}: {file.name} is not the file of a module", "it must be called NAME.py")
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
    if directory not in sys.path:  # last, so that a file there named numpy.py shadows nothing
        sys.path.append(directory)


class _SearchPath(WorkerPlugin):  # type: ignore[misc]  # distributed has no types here
    """Add a directory to the import path of all workers, including later ones."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        _add_path(self.directory)


def reach(function: Any, client: Client) -> None:
    """Make a function's file importable on the workers; the working directory already is."""
    file = _file(function)
    if file is not None:
        client.register_plugin(_SearchPath(str(file.parent)), name=f"hpcml-{file.parent}")


def name(function: Any) -> str:
    """Return the name of a function for messages.

    >>> name("mine.f"), name(len), name(functools.partial(len))
    ('mine.f', 'len', 'len')
    """
    if isinstance(function, str):
        return function
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def check_arguments(function: Any, given: Mapping[str, str], leading: Sequence[str] = (), hint: str = "") -> None:
    """Check that a function accepts the given arguments and gets all that it requires.

    Parameters
    ----------
    function : callable
    given : mapping of str to str
        The config key of each argument, by the argument's name.
    leading : sequence of str
        The names of the positional arguments before them.
    hint : str
        How to pass a missing argument, with ``{}`` for its name.

    Raises
    ------
    ConfigError
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some compiled callables have no signature
        return
    _check_leading(function, parameters, leading)
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = [p.name for p in by_position[: len(leading)]]
    _check_given(function, [p for p in parameters if p.name not in taken], given, taken)
    _check_needed(function, [p for p in parameters if p.name not in taken], given, hint)


def _check_leading(function: Any, parameters: Sequence[inspect.Parameter], leading: Sequence[str]) -> None:
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(by_position) >= len(leading) or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return
    shown = name(function)
    raise ConfigError(
        f"{_KEY}: {shown}() is called with {' and '.join(leading)}, and takes {len(by_position)} by position",
        f"define it as {shown.rpartition('.')[2]}({', '.join(leading)}, ...)",
    )


def _check_given(
    function: Any, rest: Sequence[inspect.Parameter], given: Mapping[str, str], taken: Sequence[str]
) -> None:
    names = [p.name for p in rest if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in rest)
    for p in rest:
        if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise ConfigError(
                f"{_KEY}: {name(function)}() takes '{p.name}' by position only, and arguments are given by name",
                "wrap it in a function of your own",
            )
    for argument, key in given.items():
        if argument in taken:
            raise ConfigError(f"{key}: {name(function)}() gets '{argument}' from the run", "leave it out")
        if argument not in names and not open_ended:
            raise ConfigError(f"{key}: {name(function)}() has no '{argument}'", nearest(argument, names, most=5))


def _check_needed(function: Any, rest: Sequence[inspect.Parameter], given: Mapping[str, str], hint: str) -> None:
    for p in rest:
        optional = p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        if not optional and p.name not in given:
            raise ConfigError(f"{_KEY}: {name(function)}() needs '{p.name}'", hint.format(p.name))


def place(error: BaseException, function: Any) -> str | None:
    """Return the line of the user's file that raised an error; None if no line there took part."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an instance with a __call__
        file = inspect.getsourcefile(type(function))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {frames[-1].lineno}, in {frames[-1].name}: {frames[-1].line}" if frames else None
