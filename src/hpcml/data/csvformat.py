"""Formats of CSV files, as the keys of loaders describe them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow.csv

from hpcml.errors import ConfigError, DataError


def check_delimiter(delimiter: Any) -> str:
    r"""Return the character of a delimiter, which may be spelled tab or \t.

    Raises
    ------
    DataError

    >>> check_delimiter(r"\t"), check_delimiter("tab"), check_delimiter(";")
    ('\t', '\t', ';')
    """
    text = "\t" if str(delimiter).strip("'\"") in (r"\t", "tab", "\t") else delimiter
    if not isinstance(text, str) or len(text) != 1 or not text.isascii() or text in '\r\n"':
        raise DataError(f"data.delimiter={delimiter}: must be one character", "for example ',', ';', '|', or tab")
    return text


def check_decimal(decimal: Any, delimiter: str) -> str:
    """Return the decimal mark, a point or a comma, which must differ from the delimiter.

    Raises
    ------
    ConfigError
    """
    if decimal not in (".", ","):
        raise ConfigError(f"data.decimal={decimal}: must be '.' or ','", "for example 'data.decimal=\",\"'")
    if decimal == delimiter:
        raise ConfigError(
            f"data.decimal={decimal}: is also data.delimiter",
            "type the character between the columns, for example 'data.delimiter=\";\"'",
        )
    return str(decimal)


def check_na_values(values: Any) -> tuple[str, ...] | None:
    """Return the texts that mean a missing value, from a list or a single value.

    Raises
    ------
    ConfigError

    >>> check_na_values(["?", -999, None, math.nan])
    ('?', '-999', 'null', 'nan', 'NaN')
    """
    if values is None:
        return None
    found: list[str] = []
    for value in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
            raise ConfigError(
                f"data.na_values={values}: {value} is neither text nor number", "quote a text: 'data.na_values=[\"?\"]'"
            )
        found += _spellings(value)
    return tuple(found)


def _spellings(value: str | float | None) -> list[str]:
    # Hydra parses null and nan.
    if value is None:
        return ["null"]
    if isinstance(value, float) and math.isnan(value):
        return ["nan", "NaN"]
    return [str(value)]


@dataclass(frozen=True)
class CsvFormat:
    """Format of a CSV file.

    Parameters
    ----------
    header : bool
        Whether the first line has the names; otherwise they are f0, f1, ...
    encoding : str or None
        None to detect it.
    texts : bool
        Whether only an empty cell is missing; NA, null and other words are text.
    decimal : str
        Decimal mark of numbers.
    na_values : tuple of str or None
        Texts that mean a missing value, in addition to the empty cell; None for PyArrow's default.
    """

    delimiter: str = ","
    header: bool = True
    encoding: str | None = None
    texts: bool = False
    decimal: str = "."
    na_values: tuple[str, ...] | None = None

    def parse_options(self, quoted: bool) -> Any:
        """Return PyArrow's options for a file that may contain quotes, and line breaks in them."""
        # Without newlines_in_values, PyArrow splits a file at line breaks in quotes too, and may
        # return wrong cells without an error. With it, reading takes half as long again.
        return pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=quoted)

    def convert_options(self) -> Any:
        # An empty cell is a missing value, in text columns as well; "" is an empty text.
        options = pyarrow.csv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False, decimal_point=self.decimal
        )
        if self.texts or self.na_values is not None:
            options.null_values = ["", *(self.na_values or ())]
        return options

    def read_options(self, block_size: int) -> Any:
        return pyarrow.csv.ReadOptions(autogenerate_column_names=not self.header, block_size=block_size)
