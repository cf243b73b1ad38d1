"""Detect the format, compression and encoding of a file from its content."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from hpcml.data.files import suffix_of
from hpcml.errors import ConfigError, DataError

CSV, JSON_LINES, PARQUET, FEATHER, STREAM = "CSV", "JSON Lines", "Parquet", "Feather", "an Arrow stream"

# Western European encodings for text that is not UTF-8. latin1 decodes any bytes.
FALLBACKS = ("cp1252", "latin1")

_BEGIN = 4096

# Bytes that text in an encoding of one byte for ASCII does not contain.
_BINARY_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"\xfd7zXZ": "xz",
}  # fmt: skip
_BINARY = {b"PAR1": PARQUET, b"ARROW1": FEATHER, b"\xff\xff\xff\xff": STREAM}
_OTHERS = {
    b"PK\x03\x04": ("a zip archive", "unpack it: unzip; for NumPy's use data=npz, from Excel save as CSV"),
    b"FEA1": ("a Feather file of version 1", "write it again with a newer version: DataFrame.to_feather"),
    b"PARE": ("an encrypted Parquet file", "decrypt it first"),
    b"\x93NUMPY": ("a NumPy file", "use data=npy"),
    b"\x89HDF": ("an HDF5 file", "write it as Parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save it as CSV"),
    b"SQLite format 3": ("an SQLite database", "write the table as Parquet or CSV"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"%PDF-": ("a PDF document", "expected a table"),
}
# UTF-32 before UTF-16: its byte order mark starts with the same two bytes.
_MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


_T = TypeVar("_T")


@dataclass(frozen=True)
class Content:
    """The content of a file.

    Parameters
    ----------
    format : str
        One of :data:`CSV`, :data:`JSON_LINES`, :data:`PARQUET`, :data:`FEATHER`, :data:`STREAM`.
    compression : str or None
    mark : str or None
        Encoding according to the byte order mark.
    """

    format: str
    compression: str | None = None
    mark: str | None = None


def check_encoding(encoding: Any) -> str | None:
    """Return Python's name of a text encoding.

    Raises
    ------
    ConfigError

    >>> check_encoding("UTF8"), check_encoding("latin1")
    ('utf-8', 'iso8859-1')
    """
    if encoding is None:
        return None
    try:
        "".encode(str(encoding))  # Rejects codecs between bytes, such as zlib, as well.
        return codecs.lookup(str(encoding)).name
    except (LookupError, ValueError) as error:
        raise ConfigError(f"data.encoding={encoding}: unknown", "for example utf-8, latin1, cp1252") from error


def detect(file: Path, path: str, encoding: str | None = None) -> Content:
    """Detect the content of a file, whatever its name.

    Parameters
    ----------
    path : str
        Name of the file in messages.
    encoding : str or None
        Encoding of the file if it is text; None to detect it.

    Raises
    ------
    DataError
        If it is neither a table nor text.
    OSError
    """
    begin, compression = _begin(file)
    binary = _found(_BINARY, begin)
    if binary and compression:
        raise DataError(f"{path}: is {binary} compressed with {compression}", "unpack it: Parquet compresses itself")
    if binary:
        return Content(binary)
    mark = _found(_MARKS, begin)
    _check_text(begin, encoding or mark or "utf-8", path)
    text = begin.decode(encoding or mark or "utf-8", errors="replace")
    return Content(_text_format(text, suffix_of(file), path), compression, mark)


def _begin(file: Path) -> tuple[bytes, str | None]:
    """Return the first bytes of a file, decompressed, and its compression."""
    with file.open("rb") as raw:
        begin = raw.read(_BEGIN)
    compression = _found(_COMPRESSED, begin)
    if compression is None:
        return begin, None
    return open_bytes(file, compression).read(_BEGIN), compression


def _found(magic: Mapping[bytes, _T], begin: bytes) -> _T | None:
    return next((value for key, value in magic.items() if begin.startswith(key)), None)


def _check_text(begin: bytes, encoding: str, path: str) -> None:
    other = _found(_OTHERS, begin)
    if other is not None:
        what, remedy = other
        raise DataError(f"{path}: is {what}, not CSV, JSON Lines, Parquet or Feather", remedy)
    if encoding in ("utf-8", "utf-8-sig") and _BINARY_BYTES.search(begin):
        raise DataError(
            f"{path}: is neither text nor a table in a format that hpcml reads",
            "expected CSV, JSON Lines, Parquet or Feather; if it is UTF-16, type data.encoding=utf-16-le",
        )


def _text_format(text: str, suffix: str, path: str) -> str:
    text = text.lstrip("\ufeff \t\r\n")
    if re.match(r"\[\s*[{\[]", text):
        raise DataError(
            f"{path}: is one JSON array, not JSON Lines",
            "write one object on each line: jq -c '.[]' FILE > lines.jsonl",
        )
    # The suffix decides for damaged lines only, for the sake of the message.
    is_json = suffix in (".jsonl", ".ndjson") or re.match(r'\{\s*["}]', text)
    return JSON_LINES if is_json else CSV


def open_text(file: Path, content: Content, encoding: str) -> Any:
    """Open a text file as a PyArrow stream of UTF-8, decompressed.

    The stream closes when nothing refers to it. Do not close it: PyArrow reads ahead in other
    threads, also after an error or the last row that is wanted, and such a thread would take bytes
    from the next file that gets the same descriptor.

    Raises
    ------
    OSError
    """
    stream = open_bytes(file, content.compression)
    if encoding in ("utf-8", "utf-8-sig"):
        return stream
    return pa.transcoding_input_stream(stream, encoding, "utf-8")


def open_bytes(file: Path, compression: str | None) -> Any:
    """Open a text file as a PyArrow stream of its bytes, decompressed; see :func:`open_text`."""
    if compression == "xz":  # PyArrow does not read it.
        import lzma

        return pa.PythonFile(lzma.open(file), mode="r")
    return pa.input_stream(file, compression=compression)


def decode(content: bytes, encoding: str | None) -> tuple[str, str]:
    """Decode a text; return it with the encoding.

    Parameters
    ----------
    encoding : str or None
        None to detect it: byte order mark, UTF-8, or one of :data:`FALLBACKS`.

    Raises
    ------
    UnicodeDecodeError

    >>> decode("café".encode("latin1"), None), decode("café".encode("utf-16"), None)
    (('café', 'cp1252'), ('café', 'utf-16'))
    """
    if encoding is not None:
        return content.decode(encoding), encoding
    mark = _found(_MARKS, content) or "utf-8"
    for name in (mark, *FALLBACKS):
        try:
            return content.decode(name).removeprefix("\ufeff"), name
        except UnicodeDecodeError:
            pass
    raise AssertionError  # unreachable: latin1 decodes any bytes


def tail(file: Path, content: Content, encoding: str) -> bytes:
    """Return the last bytes of a text file in UTF-8; this reads the whole file."""
    last = b""
    stream = open_text(file, content, encoding)
    while chunk := stream.read(io.DEFAULT_BUFFER_SIZE * 128):
        last = (last + chunk)[-_BEGIN:]
    return last
