"""Text and JSON output of OpenPBS, sizes and times, ported from its C sources with their quirks."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from .state import ORDER, TIMES, Data

Attribute = tuple[str, str | None, str]

SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_LINE = 78  # CHAR_LINE_LIMIT
_STRINGS = {"Job_Name", "project", "Account_Name"}  # Others are parsed as JSON if possible.


# --- values ---


def read_size(text: str) -> tuple[int, str]:
    """Parse a size into number and unit, as to_size does; sizes in words count as bytes.

    >>> read_size("1GB"), read_size("7"), read_size("500m")
    ((1, 'g'), (7, ''), (500, 'm'))
    """
    match = re.fullmatch(r"(\d+)([kmgtp]?)[bw]?", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError(text)
    return int(match[1]), match[2].lower()


def write_size(number: int, unit: str) -> str:
    return f"{number}{unit}b"


def size_bytes(text: str) -> int:
    number, unit = read_size(text)
    return number << SHIFTS[unit]


def size_kb(text: str) -> int:
    return -(-size_bytes(text) // 1024)


def exact_size(number: int) -> str:
    """Render bytes in the largest exact unit, as the scheduler's comments do.

    >>> exact_size(12 << 30), exact_size(1536 << 20), exact_size(0)
    ('12gb', '1536mb', '0kb')
    """
    if number == 0:
        return "0kb"
    unit = next(unit for unit in ("t", "g", "m", "k", "") if number % (1 << SHIFTS[unit]) == 0)
    return write_size(number >> SHIFTS[unit], unit)


def add_sizes(one: str, other: str) -> str:
    """Add sizes as set_size does, in the smaller of the two units."""
    (a, a_unit), (b, b_unit) = read_size(one), read_size(other)
    unit = min(a_unit, b_unit, key=SHIFTS.__getitem__)
    shift = SHIFTS[unit]
    return write_size((a << SHIFTS[a_unit] - shift) + (b << SHIFTS[b_unit] - shift), unit)


def read_time(text: str) -> int:
    """Parse [[hours:]minutes:]seconds[.milliseconds], as decode_time does.

    >>> read_time("1:75"), read_time("1.5"), read_time("90")
    (135, 2, 90)
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?(?::(\d*))?(?:\.(\d*))?", text, re.ASCII)
    if match is None:
        raise ValueError(text)
    seconds = 0
    for part in match.groups()[:3]:
        if part is not None:
            seconds = seconds * 60 + int(part or 0)
    return seconds + (int(f"{match[4] or ''}000"[:3]) >= 500)


def write_time(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


# --- a job's attributes ---


def attributes(job: Data) -> Iterator[Attribute]:
    """Return the attributes of a job as the server sends them."""
    attrs = job["attrs"]
    for name in ORDER:
        value = attrs.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, dict):
            yield from ((name, resource, str(value[resource])) for resource in sorted(value))
        else:
            yield name, None, time.ctime(value) if name in TIMES else str(value)


def split_variables(text: str) -> list[str]:
    """Split a list of variables and unescape it, as the server does (parse_comma_string_bs)."""
    found, word, chars = [], "", iter(text)
    for char in chars:
        if char == "\\":
            follower = next(chars, "")
            word += follower if follower in ('"', "'", ",", "\\") else "\\" + follower
        elif char == ",":
            found.append(word)
            word = ""
        else:
            word += char
    return [part for part in (part.strip() for part in [*found, word]) if part]


def join_variables(variables: Iterable[str]) -> str:
    """Render a list of variables, as the server does (encode_arst_bs)."""
    return ",".join(re.sub(r"([\"',\\])", r"\\\1", variable) for variable in variables)


# --- text ---


def job_text(job_id: str, found: Iterable[Attribute]) -> str:
    """Render one job of ``qstat -f``."""
    named = ((f"{name}.{resource}" if resource else name, value) for name, resource, value in found)
    lines = (f"    {name} = {_wrapped(name, value)}\n" for name, value in named)
    return f"Job Id: {job_id}\n{''.join(lines)}\n"


def _wrapped(name: str, value: str) -> str:
    """Wrap a value as prt_attr does, which counts bytes."""
    start = len(name) + 7
    out = []
    for index, part in enumerate([part for part in _bytewise(value).split(",") if part]):
        if index:
            out.append(",")
        if len(part) + start < _LINE:
            out.append(_visible(part))
            start += len(part)
            continue
        if index:
            out.append("\n\t")
            start = 9
        for char in part:
            out.append(_visible(char))
            start += 1
            if start > _LINE:
                start = 8
                out.append("\n\t")
    return "".join(out).encode("latin-1").decode(errors="surrogateescape")


def _bytewise(text: str) -> str:
    return text.encode(errors="surrogateescape").decode("latin-1")


def _visible(text: str) -> str:
    return "".join(f"^{chr(ord(char) + 64)}" if char < " " and char not in "\n\t" else char for char in text)


HEADER = (
    "Job id            Name             User              Time Use S Queue\n"
    "----------------  ---------------- ----------------  -------- - -----\n"
)


def job_row(job_id: str, job: Data) -> str:
    """Render one row of qstat's table."""
    attrs = job["attrs"]
    used = attrs.get("resources_used") or {}

    def cut(text: str, limit: int) -> str:
        return text if len(text) <= limit else text[: limit - 1] + "*"

    short = ".".join(job_id.split(".")[:2])
    name = attrs["Job_Name"] if len(attrs["Job_Name"]) < 16 else attrs["Job_Name"][:15] + "*"
    owner = attrs["Job_Owner"].partition("@")[0]
    columns = f"{cut(short, 17):<17} {name:<16} {cut(owner, 16):<16}  {cut(used.get('cput', '0'), 8):>8}"
    return f"{columns} {attrs['job_state']} {cut(attrs['queue'], 16):<16}\n"


# --- JSON as printed by cJSON ---


class Token(str):
    """A value that is already JSON."""


def render(value: Any, depth: int = 0) -> str:
    if isinstance(value, Token):
        return value
    if isinstance(value, dict):
        tabs = "\t" * depth
        items = ",\n".join(f"{tabs}\t{_quoted(key)}:\t{render(item, depth + 1)}" for key, item in value.items())
        return f"{{\n{items}\n{tabs}}}" if items else f"{{\n{tabs}}}"
    if isinstance(value, list):
        return f"[{', '.join(render(item, depth + 1) for item in value)}]"
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _number(float(value))


def _quoted(text: str) -> str:
    named = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(named.get(c, f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def _number(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return "null"
    if value == int(value) and -(2**31) <= value < 2**31:
        return str(int(value))
    short = f"{value:.15g}"
    return short if float(short) == value else f"{value:.17g}"


def parsed(text: str) -> Any:
    """Return a value as pbs_json_insert_parsed converts it: parsed as JSON, or unchanged."""
    # cJSON collects these characters and applies strtod; the rest must be blank.
    if match := re.match(r"[\x01-\x20]*([-\d][-+\d.eE]{0,62})", text, re.ASCII):
        number = re.match(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", match[1], re.ASCII)
        if number is None or text[match.start(1) + number.end() :].strip(" \t\r\n\v\f"):
            return text
        value = float(number[0])
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    try:
        return json.loads(text, strict=False, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(text: str) -> None:
    raise ValueError(text)


def job_json(found: Iterable[Attribute]) -> dict[str, Any]:
    """Render one job as ``qstat -f -F json`` does."""
    out: dict[str, Any] = {}
    for name, resource, value in found:
        if name == "Variable_List":
            out[name] = _Pairs(_variables(value))
        elif resource is not None:
            out.setdefault(name, {})[resource] = parsed(value)
        else:
            out[name] = value if name in _STRINGS else parsed(value)
    return out


class _Pairs(dict[str, Any]):
    """A JSON object that may repeat a key, as after qsub -v with -V."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = list(pairs)
        super().__init__(self._pairs)

    def items(self) -> Any:
        return self._pairs


def _variables(text: str) -> Iterator[tuple[str, Any]]:
    """Split as prt_attr does, which unescapes only commas."""
    for part in re.split(r"(?<!\\),", text):
        key, _, value = part.replace("\\,", ",").partition("=")
        yield key, parsed(value)


def envelope(server: str, now: int, version: str, **lists: Any) -> str:
    """Render the header and footer of -F json."""
    return render({"timestamp": now, "pbs_version": version, "pbs_server": server, **lists}) + "\n"
