"""qsub: options, directives, rejections by client and server, and the resulting job."""

from __future__ import annotations

import grp
import os
import platform
import re
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .formats import add_sizes, join_variables, read_size, read_time, split_variables, write_size, write_time
from .state import CONSUMABLE, Data, depend_attribute, end_by_dependency, finished, meet

USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version
"""
NOT_DONE = 99  # exit code for requests that PBS would accept but the fake does not support
BAD_VALUE = "Illegal attribute or resource value"

SPEC = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:XzP:"
CMDLINE, SCRIPT = 3, 2  # An option is set only with at least the priority of its current value.

# Resources: parser of the value, and whether a chunk of select may contain it
_SIZE, _LONG, _TIME, _TEXT = "size", "long", "time", "text"
BUILTIN = {
    "cput": (_TIME, False), "walltime": (_TIME, False), "pcput": (_TIME, False), "mem": (_SIZE, True),
    "vmem": (_SIZE, True), "pmem": (_SIZE, False), "pvmem": (_SIZE, False), "file": (_SIZE, False),
    "ncpus": (_LONG, True), "mpiprocs": (_LONG, True), "ompthreads": (_LONG, True), "nice": (_LONG, False),
    "arch": (_TEXT, True), "host": (_TEXT, True), "vnode": (_TEXT, True), "software": (_TEXT, False),
}  # fmt: skip
CUSTOM = {"jobfs": (_SIZE, True), "ngpus": (_LONG, True), "storage": (_TEXT, False), "filesystems": (_TEXT, False)}
KNOWN = BUILTIN | CUSTOM
_PLACE = r"(?=.)(free|pack|scatter|vscatter)?(:?(excl|exclhost|shared))?(:?group=\w+)?"
_SUMMED = {"ncpus", "mem", "vmem", "mpiprocs", "jobfs", "ngpus"}

# Options that only set an attribute
_ATTRIBUTES = {
    "A": "Account_Name", "P": "project", "e": "Error_Path", "o": "Output_Path", "j": "Join_Path", "m": "Mail_Points",
    "M": "Mail_Users", "S": "Shell_Path_List", "p": "Priority", "k": "Keep_Files",
}  # fmt: skip

Chunk = tuple[int, dict[str, str]]


class RefusedError(Exception):
    """End of a qsub without a job."""

    def __init__(self, code: int, text: str = "", *, usage: bool = False) -> None:
        self.code = code
        self.text = text + (USAGE if usage else "")


def not_done(what: str) -> RefusedError:
    return RefusedError(NOT_DONE, f"qsub: the PBS double does not know {what}; see tests/double/qsub.py\n")


def illegal(option: str) -> RefusedError:
    return RefusedError(2, f"qsub: illegal -{option} value\n", usage=True)


# --- options ---


def getopt(words: list[str], spec: str, program: str) -> tuple[list[tuple[str, str]], list[str], int, bool]:
    """Parse like glibc's getopt: options, operands, number of errors, options after an operand."""
    options: list[tuple[str, str]] = []
    operands: list[str] = []
    errors, late, rest = 0, False, list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return options, [*operands, "--", *rest], errors, late
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        late = late or bool(operands)
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            place = spec.find(letter) if letter != ":" else -1
            if place < 0:
                sys.stderr.write(f"{program}: invalid option -- '{letter}'\n")
                errors += 1
            elif spec[place + 1 : place + 2] != ":":
                options.append((letter, ""))
            elif letters or rest:
                options.append((letter, letters or rest.pop(0)))
                letters = ""
            else:
                sys.stderr.write(f"{program}: option requires an argument -- '{letter}'\n")
                errors += 1
    return options, operands, errors, late


@dataclass
class Request:
    """The request, from the command line and the directives."""

    words: list[str]
    set_by: dict[str, int] = field(default_factory=dict)
    # Attribute, resource and value, in the order given, as sent to the server.
    said: list[tuple[str, str | None, str]] = field(default_factory=list)
    queue: str = ""
    variables: str | None = None
    everything: bool = False
    block: bool = False
    quiet: bool = False
    prefix: str = "#PBS"

    def wins(self, option: str, priority: int) -> bool:
        """Return whether an option takes effect: the command line wins, and of each the last."""
        if self.set_by.get(option, 0) > priority:
            return False
        self.set_by[option] = priority
        return True

    def say(self, name: str, value: str) -> None:
        self.said.append((name, None, value))

    def value(self, name: str, default: str = "") -> str:
        return next((value for said, _, value in reversed(self.said) if said == name), default)

    def process(self, options: Iterable[tuple[str, str]], priority: int) -> int:
        """Apply options, print an error for each invalid one, and count the errors."""
        errors = 0
        for letter, value in options:
            if error := self._take(letter, value, priority):
                sys.stderr.write(error)
                errors += 1
        return errors

    def _take(self, letter: str, value: str, priority: int) -> str | None:
        if letter == "l":
            return self._resources(value, add=priority == CMDLINE)
        if letter == "W":
            return self._more(value, priority)
        if letter == "f" or not self.wins(letter, priority):
            return None
        if letter in _ATTRIBUTES:
            self.say(_ATTRIBUTES[letter], value.lstrip() if letter in "mp" else value)
            return None
        if letter == "r":
            if value not in ("y", "n"):
                return "qsub: illegal -r value\n"
            self.say("Rerunable", value)
            return None
        self._set(letter, value)
        return None

    def _set(self, letter: str, value: str) -> None:
        """Apply an option that sets more than an attribute."""
        match letter:
            case "N":
                self.said = [said for said in self.said if said[0] != "Job_Name"]
                self.say("Job_Name", value)
            case "h":
                self.say("Hold_Types", "u")
            case "q":
                self.queue = value
            case "v":
                self.variables = expand_variables(value)
            case "V":
                self.everything = True
            case "z":
                self.quiet = True
            case "C":
                self.prefix = value
            case "J" if not re.fullmatch(r"\d+-\d+(:\d+)?(%\d+)?", value):
                raise illegal("J")
            case _:
                raise not_done(f"the option -{letter}")

    def _resources(self, text: str, *, add: bool) -> str | None:
        """Apply resources: the last of a name wins on the command line, the first in a script."""
        place = 0
        while place < len(text):
            place = _after_blanks(text, place)
            end = next((at for at in range(place, len(text)) if text[at] in "=,"), len(text))
            name, value = text[place:end].strip(), ""
            if end == place:
                return _BAD_L
            if text[end : end + 1] == "=":
                value, end, problem = _quoted_value(text, _after_blanks(text, end + 1))
                if problem:
                    return f"{_BAD_L} {problem}:\n{text}\n{' ' * end}^\n"
            if add or all(said[:2] != ("Resource_List", name) for said in self.said):
                self.said.append(("Resource_List", name, value))
            if text[end : end + 1] == ",":
                end += 1
                if end == len(text):
                    return _BAD_L
            place = end
        return None

    def _more(self, text: str, priority: int) -> str | None:
        """Apply -W: name=value, where a value ends at a comma followed by another name=."""
        text = text.lstrip()
        for part in re.split(r",(?=\s*\w+\s*=)", text):
            name, equals, value = part.partition("=")
            name, value = name.strip(), value.strip()
            if not name or not equals:
                return "qsub: illegal -W value\n"
            if name == "depend":
                if self.wins("W depend", priority):
                    self.say("depend", value)
            elif name == "block":
                if value.lower() not in ("true", "false"):
                    return "qsub: illegal -W value\n"
                if self.wins("W block", priority):
                    self.block = value.lower() == "true"
            elif name in ("umask", "group_list", "sandbox"):
                self.say(name, value)
            elif name in ("stagein", "stageout", "interactive", "run_count", "create_resv_from_job", "pwd",
                          "max_run_subjobs", "release_nodes_on_stageout", "tolerate_node_failures"):  # fmt: skip
                raise not_done(f"-W {name}")
            else:
                self.say("unknown attribute", value)
        return None


_BAD_L = "qsub: illegal -l value\n"


def _after_blanks(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _quoted_value(text: str, place: int) -> tuple[str, int, str]:
    """Parse a value up to an unquoted comma or blank (pbs_quote_parse): value, end and error."""
    value, quote = "", ""
    quoting = False
    while place < len(text):
        char = text[place]
        if char == "&" or (not char.isprintable() and not char.isspace()):
            return value, place, "illegal character"
        if quoting:
            quoting = char != quote
            value += char if quoting else ""
        elif char in "\"'" and quote in ("", char):
            quote, quoting = char, True
        elif char == "," or char.isspace():
            break
        else:
            value += char
        place += 1
    return value, place, "no closing quote" if quoting else ""


# --- the job's environment ---


def _copied(text: str, place: int, *, whole: bool) -> tuple[str, int] | None:
    """Copy and escape a value (copy_env_value) up to a comma; None for an open quote."""
    out, quote = "", ""
    while place < len(text):
        char = text[place]
        if char in "\"'":
            if (quote and quote != char) or (not quote and whole):
                out += "\\" + char
            else:
                quote = "" if quote else char
        elif char == "\\":
            out += "\\" if text[place + 1 : place + 2] == "," else "\\\\"
        elif char == ",":
            if quote or whole:
                out += "\\,"
            elif out.endswith("\\"):
                out += ","
            else:
                return out, place + 1
        else:
            out += char
        place += 1
    return None if quote else (out, place)


_NO_ENVIRONMENT = "qsub: cannot send environment with the job\n"


def expand_variables(text: str) -> str:
    """Fill in the values of variables that -v only names (expand_varlist)."""
    parts = []
    for item in _comma_tokens(text):
        name, equals, value = item.partition("=")
        if not equals and name.startswith("PBS_O_"):
            continue
        source = value if equals else os.environ.get(name)
        copied = None if source is None else _copied(source, 0, whole=not equals)
        if copied is None:
            raise RefusedError(1, _NO_ENVIRONMENT)
        parts.append(f"{name}={copied[0]}")
    return ",".join(parts)


def _comma_tokens(text: str) -> list[str]:
    """Split at unquoted commas (comma_token)."""
    tokens, quote, start, place = [], "", 0, 0
    while place < len(text):
        char = text[place]
        if char in "\"'":
            quote = "" if char == quote else char
        elif char == "," and not quote:
            tokens.append(text[start:place])
            start = place + 1
        elif char == "\\" and place + 1 < len(text):
            place += 1
        place += 1
    return [*tokens, text[start:]] if start < len(text) else tokens


def job_variables(request: Request, directory: str) -> str:
    """Render the list of variables (job_env_basic, set_job_env); values of -v are escaped twice."""
    basic = [("PBS_O_HOME", os.environ.get("HOME", "/"))]
    basic += [(f"PBS_O_{name}", os.environ[name]) for name in ("LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ")
              if name in os.environ]  # fmt: skip
    basic += [("PBS_O_INTERACTIVE_AUTH_METHOD", "resvport"), ("PBS_O_INTERACTIVE_ENCRYPT_METHOD", ""),
              ("PBS_O_WORKDIR", directory), ("PBS_O_SYSTEM", platform.system())]  # fmt: skip
    parts = [f"{name}={value.replace(',', chr(92) + ',')}" for name, value in basic]
    text, place = request.variables or "", 0
    while place < len(text):
        if text[place] in ",=":
            raise RefusedError(1, _NO_ENVIRONMENT)
        name, _, _ = text[place:].partition("=")
        copied = _copied(text, place + len(name) + 1, whole=False)
        if copied is None:
            raise RefusedError(1, _NO_ENVIRONMENT)
        if not name.startswith("PBS_O_"):
            parts.append(f"{name}={copied[0]}")
        place = copied[1]
    if request.everything:
        for name, value in os.environ.items():
            if not name.startswith("PBS_O_") and name not in ("PBS_JOBCOOKIE", "PBS_INTERACTIVE_COOKIE"):
                copied = _copied(value, 0, whole=True)
                parts.append(f"{name}={copied[0] if copied else ''}")
    return ",".join(parts)


def working_directory() -> str:
    """Return $PWD if it is valid, which may be a symbolic link, as qsub does."""
    named = os.environ.get("PWD", "")
    try:
        return named if named and Path(named).samefile(".") else str(Path.cwd())
    except OSError:
        return str(Path.cwd())


# --- the script ---


def read_script(request: Request, operands: list[str]) -> bytes:
    """Read the script and its directives, which end at the first command."""
    name = operands[0] if operands else "-"
    named = request.set_by.get("N", 0)
    if name == "-":
        content = sys.stdin.buffer.read()
        base = "STDIN"
    else:
        try:
            if not stat.S_ISREG(Path(name).stat().st_mode):
                raise RefusedError(1, "qsub: script not a file\n")
            content = Path(name).read_bytes()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            where, code = ("script file:", 1) if missing else ("opening script file:", 8)
            raise RefusedError(code, f"qsub: {where}: {error.strerror}\n") from None
        base = Path(name).name
    if not named:
        request.say("Job_Name", base)
    commands = False
    lines = content.decode(errors="surrogateescape").splitlines(keepends=True)
    while lines:
        line = lines.pop(0)
        directive = None if commands else _directive(line, request.prefix)
        if directive is not None:
            while directive.rstrip("\r\n").endswith("\\") and lines:
                directive = directive.rstrip("\r\n")[:-1] + lines.pop(0)
            _process_directive(request, directive)
        elif not commands:
            commands = _is_command(line)
        if line.endswith("\r\n"):
            raise RefusedError(1, "qsub: script contains cr, lf\n")
    return content


def _directive(line: str, prefix: str) -> str | None:
    line = line.lstrip()
    return line[len(prefix) :] if line.startswith(prefix) else None


def _is_command(line: str) -> bool:
    """Return whether a line ends the directives, unlike one that starts with a colon."""
    return not line.startswith((":", "#!")) and bool(line.strip()) and not line.lstrip().startswith("#")


def _process_directive(request: Request, text: str) -> None:
    words = _words(text)
    options, operands, errors, _ = getopt(words, SPEC, "qsub")
    errors += request.process(options, SCRIPT)
    if errors or operands:
        raise RefusedError(1, f"qsub: directive error: {''.join(f'{word} ' for word in words)}\n")


def _words(text: str) -> list[str]:
    """Split a directive (make_argv): with quotes and backslashes, but without comments."""
    words, word, chars = [], "", iter(text.strip() + " ")
    for char in chars:
        if char in "\"'":
            for quoted in chars:
                if quoted == char:
                    break
                word += quoted
            else:
                raise RefusedError(1, "qsub: unmatched \0\n")  # PBS prints the position: the end.
        elif char == "\\":
            word += next(chars, "")
        elif not char.isspace():
            word += char
        elif word:
            words.append(word)
            word = ""
    return words


# --- rejections by the client ---


def verify(request: Request, state: Data, directory: str) -> None:
    """Validate values as the client does (ecl_verify_values.c), and make paths absolute."""
    for index, (name, resource, value) in enumerate(request.said):
        if name == "unknown attribute":
            raise RefusedError(154, "qsub: Error (15002) submitting job\n")
        if name == "Resource_List":
            _verify_resource(resource or "", value)
        elif name in ("Output_Path", "Error_Path"):
            path = _whole_path(value, state, directory)
            if path is None:
                raise illegal(name[0].lower())
            request.said[index] = (name, None, path)
        else:
            _verify_attribute(name, value, state)


def _verify_attribute(name: str, value: str, state: Data) -> None:
    if name == "Mail_Points" and "j" in value:
        raise RefusedError(1, "qsub: mail option 'j' can not be used without array job\n")
    if name == "Job_Name" and len(value.encode(errors="surrogateescape")) > 230:
        raise RefusedError(2, "qsub: Job name is too long \n")
    if name == "depend":
        parents = parse_depend(value)
        servers = {parent.partition(".")[2] for ids in (parents or {}).values() for parent in ids} - {""}
        if parents is None or servers - {state["settings"]["server"], state["settings"]["host"]}:
            raise illegal("W")
    if name in _CHECKS and not _CHECKS[name][1](value):
        raise illegal(_CHECKS[name][0])


def _mail_points(value: str) -> bool:
    return value == "n" or bool(re.fullmatch("[abe]+", value))


def _keep(value: str) -> bool:
    keeps, drops = set(value) & set("oe"), "n" in value
    return (
        bool(re.fullmatch("[oedn]+", value))
        and not (keeps and drops)
        and not ("d" in value and not keeps and not drops)
    )


_CHECKS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "Job_Name": ("N", lambda value: bool(re.fullmatch(r"[\w.+-]+", value, re.ASCII))),
    "Join_Path": ("j", lambda value: value in ("oe", "eo", "n")),
    "Keep_Files": ("k", _keep),
    "Mail_Points": ("m", _mail_points),
    "Mail_Users": ("M", bool),
    "Priority": ("p", lambda value: bool(re.fullmatch(r"[+-]?\d+", value)) and -1024 <= int(value) <= 1023),
    "Shell_Path_List": ("S", lambda value: bool(value) and all(p.strip().startswith("/") for p in value.split(","))),
    "umask": ("W", lambda value: bool(re.fullmatch("[0-7]+", value))),
    "sandbox": ("W", lambda value: value.lower() in ("home", "o_workdir", "private")),
}


def _verify_resource(name: str, value: str) -> None:
    if name == "select":
        chunks = parse_select(value)
        if chunks is None:
            raise RefusedError(166, f"qsub: {BAD_VALUE} Resource_List.select\n")
        for _, resources in chunks:
            for key, text in resources.items():
                if key in BUILTIN and normal_value(key, text) is None:
                    raise RefusedError(166, f"qsub: {BAD_VALUE} select.{key}\n")
    elif name in ("nodes", "nodect", "resc", "preempt_targets", "min_walltime", "max_walltime"):
        raise not_done(f"-l {name}")
    elif name in BUILTIN and (value or name == "ncpus") and normal_value(name, value) is None:
        raise RefusedError(166, f"qsub: {BAD_VALUE} Resource_List.{name}\n")


def normal_value(name: str, value: str) -> str | None:
    """Render a resource's value as the server does; None if it is invalid."""
    kind = KNOWN[name][0]
    try:
        if kind == _SIZE:
            if value[-1:] in "wW" and re.fullmatch(r"\d+\w+", value):
                raise not_done(f"sizes in words as {value}")
            return write_size(*read_size(value))
        if kind == _TIME:
            return write_time(read_time(value))
    except ValueError:
        return None
    if kind == _LONG:
        if not re.fullmatch(r"[+-]?\d+" if name == "ngpus" else r"\+?\d+", value, re.ASCII):
            return None
        return str(int(value))
    return value


def parse_select(text: str) -> list[Chunk] | None:
    """Parse a select specification; None if it is invalid."""
    chunks: list[Chunk] = []
    for part in text.split("+"):
        words = part.strip().split(":")
        count = int(words.pop(0)) if re.fullmatch(r"\d+", words[0], re.ASCII) else 1
        pairs = [word.partition("=") for word in words]
        if not part.strip() or not all(re.fullmatch(r"\w+", key) and equals and value for key, equals, value in pairs):
            return None
        chunks.append((count, {key: value.strip("\"'") for key, _, value in pairs}))
    return chunks


def parse_depend(text: str) -> dict[str, list[str]] | None:
    """Parse ``afterok:1:2,afterany:3``; None if it is invalid."""
    found: dict[str, list[str]] = {}
    for part in text.split(","):
        kind, *ids = part.strip().removesuffix(":").split(":")
        known = ("on", "runone", "after", "afterok", "afternotok", "afterany", "before", "beforeok", "beforenotok",
                 "beforeany")  # fmt: skip
        if kind not in known or not ids or not all(re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?(@[\w.-]+)?", i) for i in ids):
            return None
        if not kind.startswith("after") or any("[" in i for i in ids):
            raise not_done(f"-W depend={part}")
        found.setdefault(kind, []).extend(ids)
    return found


def _whole_path(value: str, state: Data, directory: str) -> str | None:
    """Add host and directory to an output path (prepare_path); None if it is invalid."""
    text = value.lstrip()
    host = state["settings"]["host"]
    if not text or not text.isprintable():
        return None
    if match := re.match(r"([\w.-]*):", text, re.ASCII):
        if match[1] not in ("", host, "localhost", *state["nodes"]):
            return None
        if match[1]:
            return f"{match[1]}:{text[match.end() :]}"
        text = text[1:]
    if not text.endswith("/") and Path(text).is_dir():
        text += "/"
    return f"{host}:{text}" if text.startswith("/") else f"{host}:{directory}/{text}"


# --- rejections by the server, and the job ---


def enter(data: Data, request: Request, variables: str, directory: str, now: int) -> Data:
    """Add a job to the server and return it, or reject the request."""
    settings = data["settings"]
    number = data["next"]
    data["next"] += 1  # Rejected requests use a number as well.
    _hook(request, settings)
    destination = _destination(request, settings)
    queue = data["queues"].get(destination)
    if queue is None:
        raise RefusedError(170, "qsub: Unknown queue\n")
    resources = _decoded(request, settings)
    _check_select(resources)
    _check_group(request)
    listed, chunks = _with_defaults(resources, queue)
    if settings["gadi"]:
        listed, chunks = _gadi_select(listed, chunks, destination, settings)
    name = queue.get("exec", destination)
    _check_queue(data, queue, name, listed)
    job = _job(settings, request, variables, directory)
    _number(job, number, now, name, listed, settings)
    job["chunks"] = chunks
    data["jobs"][job["id"]] = job
    _depend(data, job, request, now)
    return job


def _check_queue(data: Data, queue: Data, name: str, listed: dict[str, str]) -> None:
    if not queue.get("enabled", True):
        raise RefusedError(173, "qsub: Queue is not enabled\n")
    if queue.get("denied"):
        raise RefusedError(159, "qsub: Unauthorized Request \n")
    for resource, limit in queue.get("max", {}).items():
        if resource in listed and _measure(resource, listed[resource]) > _measure(resource, str(limit)):
            raise RefusedError(188, "qsub: Job violates queue and/or server resource limits\n")
    there = [job for job in data["jobs"].values() if job["attrs"]["queue"] == name and not finished(job)]
    if len(there) >= queue.get("max_queued", len(there) + 1):
        raise RefusedError(38, f"qsub: would exceed queue {data['settings']['max_queued_of']}'s per-user limit\n")


def _destination(request: Request, settings: Data) -> str:
    queue = request.queue.partition("@")[0].strip()
    return queue or str(settings["default_queue"])


def _decoded(request: Request, settings: Data) -> dict[str, str]:
    """Read the resources in the order given; the last of a name wins."""
    found: dict[str, str] = {}
    for name, resource, value in request.said:
        if name != "Resource_List" or resource is None or (settings["gadi"] and resource == "wd"):
            continue
        if resource not in KNOWN and resource not in ("select", "place"):
            raise RefusedError(187, f"qsub: Unknown resource Resource_List.{resource}\n")
        if resource == "place" and not re.fullmatch(_PLACE, value):
            raise RefusedError(166, f"qsub: {BAD_VALUE} Resource_List.place\n")
        given = "0" if not value and KNOWN.get(resource, ("",))[0] == _LONG else value
        normal = given if resource in ("select", "place") or not given else normal_value(resource, given)
        if normal is None and resource in CUSTOM:  # A queuejob hook drops an invalid value.
            continue
        if normal is None:
            raise RefusedError(166, f"qsub: {BAD_VALUE} Resource_List.{resource}\n")
        found[resource] = normal
    return {resource: value for resource, value in found.items() if value}


def _check_select(resources: dict[str, str]) -> None:
    flat = sorted(name for name in resources if name in KNOWN and KNOWN[name][1])
    if flat and resources.keys() & {"select", "place"}:
        text = f'"-lresource=" cannot be used with "select" or "place", resource is: {flat[-1]}'
        raise RefusedError(5, f"qsub: {text}\n")
    if "place" in resources and "select" not in resources:
        raise RefusedError(7, 'qsub: Cannot have "place" without "select"\n')
    for count, chunk in parse_select(resources.get("select", "1")) or []:
        for name, value in chunk.items():
            if name not in KNOWN:
                raise RefusedError(187, f"qsub: Unknown resource: {name}\n")
            if not KNOWN[name][1]:
                raise RefusedError(4, f'qsub: Resource invalid in "select" specification: {name}\n')
            if normal_value(name, value) is None:
                raise RefusedError(166, f"qsub: {BAD_VALUE}\n")
        if count == 0:
            raise RefusedError(166, f"qsub: {BAD_VALUE}\n")


def _check_group(request: Request) -> None:
    for group in filter(None, request.value("group_list").split(",")):
        try:
            grp.getgrnam(group.partition("@")[0])
        except KeyError:
            raise RefusedError(197, "qsub: Bad GID for job execution\n") from None


def _with_defaults(resources: dict[str, str], queue: Data) -> tuple[dict[str, str], list[Chunk]]:
    """Apply defaults, convert flat resources to select, and sum up the chunks."""
    listed = dict(resources)
    for name, value in {**queue.get("max", {}), **queue.get("default", {})}.items():
        # A maximum is the default of other resources than cores, unless the queue has a default.
        if name not in listed and not (name in _SUMMED and ("select" in listed or name == "ncpus")):
            listed[name] = normal_value(name, str(value)) or ""
    if "select" not in listed:
        listed.setdefault("ncpus", "1")
        flat = [f":{name}={listed[name]}" for name in sorted(listed) if KNOWN[name][1]]
        listed.update(select=f"1{''.join(flat)}", place="pack")
    listed.setdefault("place", "free")
    chunks = parse_select(listed["select"]) or []
    chunks = [(count, {key: normal_value(key, value) or "" for key, value in chunk.items()}) for count, chunk in chunks]
    for _, chunk in chunks:
        chunk.setdefault("ncpus", "1")
    for name in sorted({key for _, chunk in chunks for key in chunk} & _SUMMED):
        total = ""
        for count, chunk in chunks:
            if name in chunk:
                for _ in range(count):
                    total = _sum(name, total, chunk[name])
        listed[name] = total
    listed["nodect"] = str(sum(count for count, _ in chunks))
    return listed, chunks


def _sum(name: str, one: str, other: str) -> str:
    if not one:
        return other
    return add_sizes(one, other) if KNOWN[name][0] == _SIZE else str(int(one) + int(other))


def _measure(name: str, value: str) -> int:
    if KNOWN[name][0] == _TIME:
        return read_time(value)
    number, unit = read_size(value)
    return number << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}[unit]


def _job(settings: Data, request: Request, variables: str, directory: str) -> Data:
    """Build a job from a request."""
    routed = f"PBS_O_QUEUE={_destination(request, settings)}"
    everything = [*split_variables(variables), routed, f"PBS_O_HOST={settings['host']}"]
    held = request.value("Hold_Types", "n")
    attrs: Data = {
        "Job_Name": request.value("Job_Name"),
        "Job_Owner": f"{settings['user']}@{settings['host']}",
        "job_state": "Q" if held == "n" else "H",
        "server": settings["server"],
        "Checkpoint": "u",
        "Hold_Types": held,
        "Join_Path": request.value("Join_Path", "n"),
        "Keep_Files": request.value("Keep_Files", "n"),
        "Mail_Points": request.value("Mail_Points", "a"),
        "Output_Path": request.value("Output_Path") or f"{settings['host']}:{directory}/",
        "Error_Path": request.value("Error_Path") or f"{settings['host']}:{directory}/",
        "Priority": int(request.value("Priority", "0")),
        "Rerunable": str(request.value("Rerunable", "y") == "y"),
        "substate": 10 if held == "n" else 20,
        "Variable_List": join_variables(everything),
        "Submit_arguments": " ".join(word for word in request.words if word),
        "project": request.value("project") or "_pbs_project_default",
        "Submit_Host": settings["host"],
    }
    for option in ("Account_Name", "Mail_Users", "Shell_Path_List", "group_list", "sandbox"):
        attrs[option] = request.value(option)
    if umask := request.value("umask"):
        attrs["umask"] = int(umask)  # the octal digits as a decimal number
    if request.block:
        attrs["block"] = "True"
    named = {kind for kind in ("Output_Path", "Error_Path") if request.value(kind)}
    return {"attrs": attrs, "variables": everything, "depend": {}, "delete": None, "named": sorted(named)}


def _number(job: Data, number: int, now: int, queue: str, listed: Data, settings: Data) -> None:  # noqa: PLR0917
    """Add the attributes that the server sets."""
    attrs = job["attrs"]
    job["id"] = f"{number}.{settings['server']}"
    attrs.update(queue=queue, Resource_List=listed, ctime=now, mtime=now, qtime=now)
    if attrs["job_state"] == "Q":
        attrs["etime"] = now
    for kind in {"Output_Path", "Error_Path"} - set(job.pop("named")):
        attrs[kind] += f"{attrs['Job_Name']}.{kind[0].lower()}{number}"


def _depend(data: Data, job: Data, request: Request, now: int) -> None:
    """Register dependencies; an impossible one, as on an unknown job, ends the job."""
    server = data["settings"]["server"]
    wanted = [(kind, f"{one.partition('.')[0]}.{server}") for kind, ids in
              (parse_depend(request.value("depend")) or {}).items() for one in ids]  # fmt: skip
    for kind, parent_id in wanted:
        job["depend"].setdefault(kind, []).append(parent_id)
    if not wanted:
        return
    attrs = job["attrs"]
    attrs.update(job_state="H", substate=22, Hold_Types="s" + attrs["Hold_Types"].replace("n", ""))
    attrs.pop("etime", None)
    for kind, parent_id in wanted:
        parent = data["jobs"].get(parent_id)
        if parent is None:
            end_by_dependency(data, job, now)
        elif not finished(parent) and not (kind == "after" and parent["attrs"]["job_state"] in "RE"):
            parent["depend"].setdefault(kind.replace("after", "before", 1), []).append(job["id"])
            parent["attrs"]["depend"] = depend_attribute(parent)
        else:
            code = parent["attrs"].get("Exit_status")
            if {"afterok": code == 0, "afternotok": code != 0}.get(kind, True):
                meet(job, kind, parent_id, now)
            else:
                end_by_dependency(data, job, now)
    attrs["depend"] = depend_attribute(job)


# --- hooks ---


def _hook(request: Request, settings: Data) -> None:
    """Reject requests as docker/pbs/project.py or Gadi's hook does."""
    if settings["gadi"]:
        _gadi_hook(request, settings)
        return
    project = request.value("project")
    if project and project not in settings["projects"]:
        text = f"You are not a member of project {project}. You must be a member of a project to charge it."
        raise RefusedError(32, f"qsub: {text}\n")


def _gadi_hook(request: Request, settings: Data) -> None:
    """Reject requests as Gadi's hook does (texts of tests/data, not observed here)."""
    if any(resource == "select" for _, resource, _ in request.said):
        text = """The system doesn't support the use of "-l select". Please use "-l ncpus" and "-l mem" instead."""
        raise RefusedError(32, f"qsub: Error: {text}\n")
    project = request.value("project") or "_pbs_project_default"
    if project not in settings["projects"]:
        text = f"You are not a member of project {project}. You must be a member of a project to submit a job under"
        raise RefusedError(32, f"qsub: Error: {text} that project.\n")


def _gadi_select(listed: Data, chunks: list[Chunk], queue: str, settings: Data) -> tuple[Data, list[Chunk]]:
    """Build Gadi's select: whole nodes, resources divided evenly, sizes in bytes."""
    listed = {**listed, "place": "free"}
    flat = {name: listed[name] for name in CONSUMABLE if name in listed}
    flat.setdefault("jobfs", "100mb")
    ncpus = int(flat["ncpus"])
    nodes = max(1, -(-ncpus // settings["cores_per_node"]))
    for name, value in flat.items():
        listed[name] = f"{_measure(name, value)}b" if KNOWN[name][0] == _SIZE else value
    part = {name: _measure(name, value) // nodes for name, value in flat.items()}
    order = [("ncpus", part["ncpus"]), ("mpiprocs", part["ncpus"]), *((n, part[n]) for n in ("mem",) if n in part)]
    words = [f"{name}={value}" for name, value in order] + [f"job_tags={queue}", f"jobfs={part['jobfs']}"]
    words += [f"ngpus={part['ngpus']}"] if "ngpus" in part else []
    listed.update(select=f"{nodes}:{':'.join(words)}", nodect=str(nodes), mpiprocs=str(ncpus))
    chunk = {name: f"{value}b" if KNOWN[name][0] == _SIZE else str(value) for name, value in part.items()}
    return listed, [(nodes, {**chunk, "mpiprocs": str(part["ncpus"])})]
