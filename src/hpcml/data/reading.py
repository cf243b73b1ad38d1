"""Read tables from files, detecting the format by content, with one clear error message."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hpcml.errors import DataError, printable

SEPARATOR = "is the separator another one? 'data.delimiter=\";\"', or data.delimiter=tab"

# Block sizes in bytes. PyArrow rejects longer lines, so the second is for tables with many columns.
_BLOCKS = (None, 1024**3)

# Magic bytes: compression that PyArrow can read, and formats that are not text.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_PARQUET = b"PAR1"
_OTHERS = {
    b"ARROW1": ("an Arrow (Feather) file", "write it as Parquet"),
    b"PK\x03\x04": ("a zip archive", "unpack it; for NumPy's use data=npz"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it: unxz"),
    b"\x93NUMPY": ("a NumPy file", "use data=npy"),
    b"\x89HDF": ("an HDF5 file", "write it as Parquet"),
    b"SQLite format 3": ("an SQLite database", "write the table as Parquet or CSV"),
    b"\xff\xfe": ("text in UTF-16", "convert it: iconv -f utf16 -t utf8"),
    b"\xfe\xff": ("text in UTF-16", "convert it: iconv -f utf16 -t utf8"),
}


def check_delimiter(delimiter: Any) -> str:
    r"""Return the character of a delimiter, which may be spelled tab or \t.

    Raises
    ------
    DataError

    >>> check_delimiter(r"\t"), check_delimiter("tab"), check_delimiter(";")
    ('\t', '\t', ';')
    """
    text = "\t" if delimiter in (r"\t", "tab") else delimiter
    if not isinstance(text, str) or len(text) != 1 or not text.isascii() or text in '\r\n"':
        raise DataError(f"data.delimiter={delimiter}: must be one character", "for example ',', ';', '|', or tab")
    return text


def check_column(key: str, name: Any) -> str | None:
    """Return the name of a column as text; a numeric name is parsed as a number before.

    Parameters
    ----------
    key : str
        The key of the name, such as ``target``, for the message.

    Raises
    ------
    DataError
    """
    if name is None or isinstance(name, str):
        return name
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        return str(name)
    raise DataError(f"data.{key}={name}: must be the name of one column", f"quote it: 'data.{key}=\"NAME\"'")


def check_columns(key: str, names: Any) -> tuple[str, ...]:
    """Return column names as texts, from a list or a single name.

    Raises
    ------
    DataError
    """
    if names is None:
        return ()
    if not isinstance(names, (list, tuple)):
        names = [names]
    return tuple(check_column(key, name) or "" for name in names)


@dataclass(frozen=True)
class CsvFormat:
    """Format of a CSV file.

    Parameters
    ----------
    header : bool
        Whether the first line has the names; otherwise they are f0, f1, ...
    texts : bool
        Whether cells may contain line breaks, and words such as NA and null that otherwise mean a
        missing value.
    """

    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    texts: bool = False

    def parse_options(self) -> Any:
        return pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=self.texts)

    def convert_options(self) -> Any:
        # An empty cell is a missing value, in text columns as well; "" is an empty text.
        options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        if self.texts:
            options.null_values = [""]
        return options

    def read_options(self, block_size: int | None) -> Any:
        options = pyarrow.csv.ReadOptions(autogenerate_column_names=not self.header, encoding=self.encoding)
        if block_size is not None:
            options.block_size = block_size
        return options


def read_table(path: str, csv: CsvFormat) -> pa.Table:
    """Read a CSV or Parquet file, or a directory of Parquet files, unchanged.

    Parameters
    ----------
    path : str
        CSV files may be compressed (gzip, bz2, zstd, lz4).

    Raises
    ------
    DataError
        If the file is missing, empty, ragged, damaged, or in another format.
    """
    file = Path(str(path)).expanduser()
    with readable(path, encoding_is_a_key=csv.texts):
        check_room(file, path)
        if file.is_dir():
            _check_directory(file, path)
            table = pyarrow.parquet.read_table(file)
        elif is_parquet(file):
            table = pyarrow.parquet.read_table(file)
        else:
            table = _read_csv(file, path, csv)
    check_names(table, path)
    return table


def check_room(file: Path, path: str) -> None:
    """Check that files fit into free memory, before the system kills this process.

    Raises
    ------
    DataError
    """
    parts = [part for part in file.rglob("*") if part.is_file()] if file.is_dir() else [file]
    size, free = sum(part.stat().st_size for part in parts), psutil.virtual_memory().available
    if size > free:
        raise DataError(
            f"{path}: has {size / 1024**3:.3g}GB, but only {free / 1024**3:.3g}GB of memory are free",
            "use a larger machine, or read it in parts: data=parquet_blocks, workload=incremental, kmeans or predict",
        )


@contextmanager
def readable(path: str, encoding_is_a_key: bool = False) -> Iterator[None]:
    """Convert exceptions while a file is read to an error that names the file.

    Parameters
    ----------
    encoding_is_a_key : bool
        Whether the loader has a key ``data.encoding``.

    Raises
    ------
    DataError
    """
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {printable(error.strerror or error)}") from error
    except (pa.ArrowException, ValueError, EOFError) as error:
        # A ragged line, an empty file, a damaged footer or another encoding: PyArrow gives the
        # details.
        hints = _hints(str(error), path, encoding_is_a_key)
        raise DataError(f"{path}: cannot be read: {printable(error)}", *hints) from error


def _hints(message: str, path: str, encoding_is_a_key: bool = False) -> list[str]:
    if "columns, got" in message:
        return [SEPARATOR, 'put a cell that contains a separator or line break in "quotes"']
    if "decode" in message or "UTF" in message:
        if encoding_is_a_key:
            return ["is the encoding another one? For example data.encoding=latin1"]
        convert = f"convert it: iconv -f latin1 -t utf8 {shlex.quote(str(path))} > utf8.csv"
        return [f"is the encoding another one? {convert}"]
    return []


def is_parquet(file: Path) -> bool:
    """Return whether a file contains Parquet, whatever its name.

    Raises
    ------
    OSError
    """
    with file.open("rb") as content:
        begin = content.read(len(_PARQUET))
    return begin == _PARQUET


def check_names(table: pa.Table, path: str) -> None:
    """Check that the names of the columns can be decoded.

    Raises
    ------
    DataError
    """
    try:
        _ = table.schema.names
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the names of the columns are not in UTF-8", *_hints("decode", path)) from error


def _check_directory(directory: Path, path: str) -> None:
    if any(directory.rglob("*.parquet")):
        return
    others = sorted(file.name for file in directory.iterdir() if file.suffix in {".csv", ".tsv", ".gz"})
    hints = [f"name one file: data.path={directory / others[0]}"] if others else []
    raise DataError(f"{path}: contains no file *.parquet", *hints)


def _read_csv(file: Path, path: str, csv: CsvFormat) -> pa.Table:
    compression = _check_content(file, path)
    for block_size in _BLOCKS:
        read, parse, convert = csv.read_options(block_size), csv.parse_options(), csv.convert_options()
        try:
            with pa.input_stream(file, compression=compression) as stream:
                return pyarrow.csv.read_csv(stream, read, parse, convert)
        except pa.ArrowInvalid as error:
            # PyArrow's errors for a line longer than the block.
            too_long = "straddling" in str(error) or "Empty CSV file or block" in str(error)
            if block_size is not None or not too_long or file.stat().st_size == 0:
                raise
    raise AssertionError  # unreachable: the last block size returns or raises


def _check_content(file: Path, path: str) -> str | None:
    """Return the compression of a text file; None if it is not compressed.

    Raises
    ------
    DataError
        If it is not a text file.
    """
    with file.open("rb") as content:
        begin = content.read(4096)
    for magic, name in _COMPRESSED.items():
        if begin.startswith(magic):
            return name
    for magic, (what, remedy) in _OTHERS.items():
        if begin.startswith(magic):
            raise DataError(f"{path}: is {what}, not CSV or Parquet", remedy)
    if b"\0" in begin:
        raise DataError(f"{path}: is not a text file: it contains zero bytes", "expected CSV or Parquet")
    return None
