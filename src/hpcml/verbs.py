"""The verbs of the command line; each imports lazily, so that `hpcml list` is fast."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from hpcml import display, runs
from hpcml.errors import Cancelled, ConfigError, HpcmlError
from hpcml.units import count


@dataclass(frozen=True)
class Verb:
    """A verb: one line of help, its function, and whether it accepts config overrides."""

    help: str
    main: Callable[[list[str]], int]
    composes: bool = False


class _Parser(argparse.ArgumentParser):
    """A parser of a verb's options: an error is one message, without the usage text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}", f"{self.prog} --help lists the options")

    def parse_own(self, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse a verb's own options; return them, and the rest for Hydra.

        Prints them first if help is requested: Hydra then prints those of the config.
        """
        if {"--help", "-h"} & set(args):
            print(self.format_help())
        return self.parse_known_args(args)


def _parser(verb: str, text: str) -> _Parser:
    parser = _Parser(prog=f"hpcml {verb}", description=text)
    parser.add_argument(
        "--scratch", metavar="DIR", help="look for runs in DIR (default: $HPCML_SCRATCH, else all known roots)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(args: list[str]) -> int:
    """Run a config and print a summary."""
    # Removed, so that processes started by the run do not adopt the directory again.
    directory = os.environ.pop(runs.RUN_VARIABLE, None)
    adopted = None if directory is None else runs.adopt(directory)
    try:
        return _run(args, adopted)
    except BaseException as error:
        if adopted is not None and not adopted.record.exists():  # `submit --wait` waits for a record
            from hpcml.record import end_of, not_started

            with contextlib.suppress(OSError):
                not_started(adopted, time.time(), end_of(error)).write(adopted)
        raise


def _run(args: list[str], adopted: runs.RunPaths | None) -> int:
    from hpcml.config.compose import compose

    composed = compose("hpcml run", args)
    if composed is None:
        return 0
    spec = composed.build()
    # Import Dask and scikit-learn only for a valid config.
    from hpcml import launcher
    from hpcml.record import Origin

    origin = Origin(["hpcml", "run", *args], composed.overrides, composed.choices, composed.config)
    display.show_summary(display.console(), launcher.run(spec, origin=origin, adopted=adopted))
    return 0


def submit(args: list[str]) -> int:
    """Submit a run with its head in a batch job; with --wait, follow it to its end."""
    from hpcml.config.compose import compose

    parser = _Parser(prog="hpcml submit", usage="hpcml submit [--wait] [--after RUN] OVERRIDES", add_help=False)
    parser.add_argument("--wait", action="store_true", help="follow the run to its end, and exit with its exit code")
    parser.add_argument("--after", metavar="RUN", help="start after that run, or the job with that id, has succeeded")
    options, args = parser.parse_own(args)
    composed = compose("hpcml submit", args)
    if composed is None:
        return 0
    spec = composed.build()
    from hpcml import submission
    from hpcml.record import Origin, from_json

    # Keep the overrides as typed, since the job composes them again.
    origin = Origin(["hpcml", "submit", *args], args, composed.choices, composed.config)
    submitted = submission.submit(spec, origin, options.after)
    console = display.console()
    display.show_submitted(console, submitted)
    if not options.wait:
        return 0
    try:
        ended = submission.follow(submitted, lambda text: display.line(console, f"{time.strftime('%H:%M:%S')} {text}"))
    except Cancelled as cancelled:
        print(f"{cancelled}: run {submitted.paths.run_id} continues in job {submitted.job}", file=sys.stderr)
        return cancelled.exit_code
    display.show_summary(console, from_json(ended))
    if ended["error"]:
        display.show_error(display.console(stderr=True), HpcmlError(*ended["error"].split("\n")))
    return int(ended["exit_code"])


def plan(args: list[str]) -> int:
    """Check a config and print the plan of its run, without starting it."""
    from hpcml.config.compose import compose

    parser = _Parser(prog="hpcml plan", usage="hpcml plan [--json] OVERRIDES", add_help=False)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    options, args = parser.parse_own(args)
    try:
        composed = compose("hpcml plan", args)
        if composed is None:
            return 0
        spec = composed.build()
        from hpcml import plan as planning

        found = planning.plan(spec)
    except ConfigError as error:
        if options.json:
            diagnostic = {"severity": "error", "text": error.message, "remedy": "; ".join(error.hints), "source": None}
            print(json.dumps({"diagnostics": [diagnostic]}, indent=2))
            return error.exit_code
        raise
    if options.json:
        print(json.dumps({"config": composed.config, **found.to_json(args)}, indent=2))
    else:
        display.show_plan(display.console(), found, args)
    return 2 if found.errors else 0


def list_runs(args: list[str]) -> int:
    """Print the runs below the known scratch roots."""
    from hpcml import heads
    from hpcml.record import summarise

    parser = _parser("list", "Show your runs.")
    parser.add_argument("-n", type=int, metavar="N", help="show the latest N (default: 20; with --json: all)")
    options = parser.parse_args(args)
    known = list(runs.find_all(runs.roots(options.scratch)))
    most = len(known) if options.json and options.n is None else max(0, 20 if options.n is None else options.n)
    found = [summarise(paths) for paths in known[len(known) - min(most, len(known)) :]]
    found = heads.look_up(found)
    if options.json:
        print(json.dumps([asdict(run) for run in found], indent=2))
    elif known:
        display.show_runs(display.console(), found)
        if len(found) < len(known):
            print(f"{len(known) - len(found)} more: hpcml list -n {len(known)}")
    else:
        print("no runs yet: hpcml run experiment=digits_svc starts one; for runs elsewhere: --scratch DIR")
    return 0


def status(args: list[str]) -> int:
    """Print one run."""
    from hpcml import heads
    from hpcml.record import summarise

    parser = _parser("status", "Show one run.")
    parser.add_argument("run", help="run id, part of one, run directory, or 'last'")
    options = parser.parse_args(args)
    (found,) = heads.look_up([summarise(runs.find(options.run, options.scratch))])
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        display.show_run(display.console(), found)
    return 0


def keys(args: list[str]) -> int:
    """Print the meaning of config keys."""
    from hpcml import catalogue

    parser = _Parser(prog="hpcml keys", description="Show what config keys mean.")
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="a key, part of one, or a pattern: cluster.walltime, walltime, 'site.head.*' (default: all keys)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(args)
    found = catalogue.find(options.pattern)
    if options.json:
        print(json.dumps([asdict(entry) for entry in found], indent=2))
    else:
        display.show_keys(display.console(), found)
    return 0


def clean(args: list[str]) -> int:
    """Delete worker jobs that killed heads have left behind."""
    from hpcml import orphans

    options = _parser("clean", "Delete worker jobs that killed heads have left behind.").parse_args(args)
    every = list(orphans.find(options.scratch, ask=True))
    for orphan in every:
        if orphan.elsewhere:
            text = f"{orphan.paths.run_id}: its head may run on {orphan.elsewhere}: use hpcml clean there"
            print(text, file=sys.stderr)
    left = {orphan.paths.run_id: orphans.clean(orphan) for orphan in every if not orphan.elsewhere}
    if options.json:
        print(json.dumps(left, indent=2))
    else:
        for run_id, jobs in left.items():
            result = f"the scheduler does not answer about {' '.join(jobs)}" if jobs else "no jobs left"
            print(f"{run_id}: {result}")
        print(f"checked {count(len(left), 'run')}" if left else "no orphaned jobs", file=sys.stderr)
    return 1 if any(left.values()) else 0


def fetch(args: list[str]) -> int:
    """Download a data set into the cache of its loader."""
    parser = _Parser(
        prog="hpcml fetch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Download a data set once, into the directory where data=NAME looks for it.",
        epilog="newsgroups: 18,846 messages of 20 newsgroups (14 MB), into scikit-learn's cache; data=newsgroups\n\n"
        "Needs internet access: use a login node, or a job in a copy queue. Without any, copy the archive to\n"
        "the cluster: hpcml fetch newsgroups --url file:///path/of/20news-bydate.tar.gz",
    )
    parser.add_argument("what", choices=["newsgroups"], metavar="newsgroups", help="data set to download")
    parser.add_argument(
        "--data-home",
        metavar="DIR",
        help="scikit-learn's data directory ($SCIKIT_LEARN_DATA, else ~/scikit_learn_data)",
    )
    parser.add_argument("--url", help="alternative URL of the archive: https://, http:// or file://")
    parser.add_argument("--sha256", metavar="HEX", help="checksum of an alternative archive with the same layout")
    options = parser.parse_args(args)
    from hpcml import fetch as fetching
    from hpcml.data.newsgroups import cache_file

    path = cache_file(options.data_home)
    if path.exists():
        print(f"already exists: {path}; remove it to download it again")
        return 0
    url, sha256 = options.url or fetching.NEWSGROUPS_URL, options.sha256 or fetching.NEWSGROUPS_SHA256
    with display.doing(display.console(stderr=True)) as say:
        fetching.newsgroups(path, url, sha256, say)
    home = "" if options.data_home is None else f" data.data_home={shlex.quote(str(path.parent.absolute()))}"
    print(f"wrote {path}\nto use it: hpcml run experiment=newsgroups_grid{home}")
    return 0


def completion(args: list[str]) -> int:
    """Print the bash completion script, or with `words` the completions of $COMP_LINE."""
    from hpcml import completion as shell

    if args == ["words"]:
        composing = [name for name, verb in VERBS.items() if verb.composes]
        print("\n".join(shell.words(os.environ.get("COMP_LINE", ""), VERBS, composing)))
    elif args in ([], ["bash"]):
        print(shell.SCRIPT, end="")
    else:
        raise ConfigError(
            f"completion {shlex.join(args)}: only bash is supported", 'type: eval "$(hpcml completion bash)"'
        )
    return 0


VERBS = {
    "run": Verb("run a config: hpcml run experiment=digits_svc", run, composes=True),
    "submit": Verb(
        "submit a run with its head in a batch job: hpcml submit [--wait] [--after RUN] ...", submit, composes=True
    ),
    "plan": Verb("check a config and show what it would do, without starting it", plan, composes=True),
    "list": Verb("show your runs", list_runs),
    "status": Verb("show one run: hpcml status last", status),
    "keys": Verb("explain config keys: hpcml keys cluster.walltime", keys),
    "fetch": Verb("download a data set: hpcml fetch newsgroups", fetch),
    "clean": Verb("delete worker jobs that killed heads have left behind", clean),
    "completion": Verb('print completion for bash: eval "$(hpcml completion bash)"', completion),
}
