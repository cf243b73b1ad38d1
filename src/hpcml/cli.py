"""The command line: `hpcml VERB ...`. Only what a verb needs is imported, so that `hpcml list` answers at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcml import __version__, display, interrupt, runs
from hpcml.errors import Cancelled, ConfigError, HpcmlError, Interrupted, nearest


@dataclass(frozen=True)
class Verb:
    """What a verb does, in one line; the function that does it and gives the exit code; whether it takes overrides."""

    help: str
    main: Callable[[list[str]], int]
    composes: bool = False


def run(args: list[str]) -> int:
    """Run a config to its end, and say what came out."""
    # not for what is started from within the run
    directory = os.environ.pop(runs.RUN_VARIABLE, None)
    adopted = None if directory is None else runs.adopt(directory)
    try:
        return _run(args, adopted)
    except BaseException as error:
        if adopted is not None and not adopted.record.exists():  # who follows the run must not wait for it
            from hpcml.record import never_began

            failed = never_began(adopted, time.time(), str(error), getattr(error, "exit_code", 1))
            with contextlib.suppress(OSError):
                failed.write(adopted)
        raise


def _run(args: list[str], adopted: runs.RunPaths | None) -> int:
    from hpcml.config.compose import compose

    composed = compose("hpcml run", args)
    if composed is None:
        return 0
    spec = composed.build()
    # Dask and scikit-learn: not before the config is known to be right
    from hpcml import launcher
    from hpcml.record import Origin

    origin = Origin(["hpcml", "run", *args], composed.overrides, composed.choices, composed.config)
    display.show_summary(display.console(), launcher.run(spec, origin=origin, adopted=adopted))
    return 0


def submit(args: list[str]) -> int:
    """Submit a run whose head lives in a job, and say its ids; with --wait, follow it to its end."""
    from hpcml.config.compose import compose

    _say_options(
        args,
        "hpcml submit [--wait] [--after RUN] OVERRIDES",
        "  --wait       follow the run to its end, and end with its exit code",
        "  --after RUN  begin when that run, or the job of that id, has ended well",
    )
    wait, after, args = _submit_options(args)
    composed = compose("hpcml submit", args)
    if composed is None:
        return 0
    spec = composed.build()
    from hpcml import submission
    from hpcml.record import Origin, from_json

    # as they were typed: the job composes them again
    origin = Origin(["hpcml", "submit", *args], args, composed.choices, composed.config)
    submitted = submission.submit(spec, origin, after)
    console = display.console()
    display.show_submitted(console, submitted)
    if not wait:
        return 0
    try:
        ended = submission.follow(submitted, lambda text: display.line(console, f"{time.strftime('%H:%M:%S')} {text}"))
    except Cancelled as cancelled:
        print(f"{cancelled}: run {submitted.paths.run_id} goes on, in job {submitted.job}", file=sys.stderr)
        return cancelled.exit_code
    display.show_summary(console, from_json(ended))
    if ended["error"]:
        display.show_error(display.console(stderr=True), HpcmlError(*ended["error"].split("\n")))
    return int(ended["exit_code"])


def _say_options(args: list[str], *lines: str) -> None:
    """Show a verb's own options, before Hydra shows those of the config, if help was asked for."""
    if {"--help", "-h"} & set(args):
        print(*lines, "", sep="\n")


def _submit_options(args: list[str]) -> tuple[bool, str | None, list[str]]:
    """Take out what is hpcml's own: --wait, and --after RUN or --after=RUN."""
    wait, after, rest = False, None, []
    words = iter(args)
    for word in words:
        if word == "--wait":
            wait = True
        elif word == "--after":
            after = next(words, "")
        elif word.startswith("--after="):
            after = word.partition("=")[2]
        else:
            rest.append(word)
    if after == "":
        raise ConfigError("--after: of which run, or which job?", "type hpcml submit --after RUN ...")
    return wait, after, rest


def plan(args: list[str]) -> int:
    """Say what a run would do, after all its checks, and start nothing."""
    from hpcml.config.compose import compose

    _say_options(args, "hpcml plan [--json] OVERRIDES", "  --json  for programs: what was found, as JSON")
    as_json = "--json" in args
    args = [arg for arg in args if arg != "--json"]
    try:
        composed = compose("hpcml plan", args)
        if composed is None:
            return 0
        spec = composed.build()
        from hpcml import plan as planning

        found = planning.plan(spec)
    except ConfigError as error:
        if as_json:
            complaint = {"severity": "error", "text": error.message, "remedy": "; ".join(error.hints), "source": None}
            print(json.dumps({"complaints": [complaint]}, indent=2))
            return error.exit_code
        raise
    if as_json:
        print(json.dumps({"config": composed.config, **found.to_json(args)}, indent=2))
    else:
        display.show_plan(display.console(), found, args)
    return 2 if found.errors else 0


def list_runs(args: list[str]) -> int:
    """Show the runs below the known scratch roots."""
    from hpcml import heads
    from hpcml.record import summarise

    parser = _parser("list", "Show your runs.")
    parser.add_argument("-n", type=int, metavar="N", help="the latest N (20; with --json all)")
    options = parser.parse_args(args)
    known = list(runs.find_all(runs.roots(options.scratch)))
    most = len(known) if options.json and options.n is None else max(0, 20 if options.n is None else options.n)
    found = [summarise(paths) for paths in known[len(known) - min(most, len(known)) :]]
    heads.look_up(found)
    if options.json:
        print(json.dumps(found, indent=2))
    elif known:
        display.show_runs(display.console(), found)
        if len(found) < len(known):
            print(f"{len(known) - len(found)} more: hpcml list -n {len(known)}")
    else:
        print("no runs yet: hpcml run experiment=digits_svc makes one; runs elsewhere: --scratch DIR")
    return 0


def status(args: list[str]) -> int:
    """Show one run."""
    from hpcml import heads
    from hpcml.record import summarise

    parser = _parser("status", "Show one run.")
    parser.add_argument("run", help="its id, a part of it, its directory, or 'last'")
    options = parser.parse_args(args)
    found = summarise(runs.find(options.run, options.scratch))
    heads.look_up([found])
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        display.show_run(display.console(), found)
    return 0


def clean(args: list[str]) -> int:
    """Delete the worker jobs that heads which were killed have left behind."""
    from hpcml import leftovers

    options = _parser("clean", "Delete worker jobs of runs whose head was killed.").parse_args(args)
    every = list(leftovers.find(options.scratch, ask=True))
    for leftover in every:
        if leftover.elsewhere:
            print(
                f"{leftover.paths.run_id}: its head may be on {leftover.elsewhere}: hpcml clean there", file=sys.stderr
            )
    found = [leftover for leftover in every if not leftover.elsewhere]
    left = {leftover.paths.run_id: leftovers.clean(leftover) for leftover in found}
    if options.json:
        print(json.dumps(left, indent=2))
    else:
        for leftover in found:
            still = left[leftover.paths.run_id]
            print(f"{leftover.paths.run_id}: " + (f"no answer about {' '.join(still)}" if still else "nothing is left"))
        print("no run has left anything" if not found else f"{len(found)} looked at", file=sys.stderr)
    return 1 if any(left.values()) else 0


def fetch(args: list[str]) -> int:
    """Download a data set to where its loader looks."""
    parser = argparse.ArgumentParser(
        prog="hpcml fetch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Download a data set, once, to where data=NAME looks for it.",
        epilog="newsgroups: 18,846 messages of 20 newsgroups (14 MB), into scikit-learn's cache; data=newsgroups\n\n"
        "Needs internet: on a supercomputer a login node has it, or a job of a copy queue. Without any, copy the\n"
        "archive there: hpcml fetch newsgroups --url file:///path/of/20news-bydate.tar.gz",
    )
    parser.add_argument("what", choices=["newsgroups"], metavar="newsgroups", help="what to download")
    parser.add_argument(
        "--data-home",
        metavar="DIR",
        help="scikit-learn's data directory ($SCIKIT_LEARN_DATA, else ~/scikit_learn_data)",
    )
    parser.add_argument("--url", help="another place of the archive: https://, http:// or file://")
    parser.add_argument("--sha256", metavar="HEX", help="of another archive in the same layout")
    options = parser.parse_args(args)
    from hpcml import fetch as fetching
    from hpcml.data.newsgroups import cache_file

    path = cache_file(options.data_home)
    if path.exists():
        print(f"there already: {path}; to get it anew, remove it first")
        return 0
    url, sha256 = options.url or fetching.NEWSGROUPS_URL, options.sha256 or fetching.NEWSGROUPS_SHA256
    with display.doing(display.console(stderr=True)) as say:
        fetching.newsgroups(path, url, sha256, say)
    home = "" if options.data_home is None else f" data.data_home={shlex.quote(str(path.parent.absolute()))}"
    print(f"written: {path}\nto use it: hpcml run experiment=newsgroups_grid{home}")
    return 0


def _name_leftovers() -> None:
    """Say on standard error what a head that was killed may have left; asks no scheduler."""
    from hpcml import leftovers

    # a place for runs that is not there yet is no reason to refuse what was asked for
    with contextlib.suppress(OSError, HpcmlError):
        for leftover in leftovers.find():
            print(f"note: {leftover}: hpcml clean", file=sys.stderr)


def completion(args: list[str]) -> int:
    """Print the bash completion script, or with `words` what could follow $COMP_LINE."""
    from hpcml import completion as shell

    if args == ["words"]:
        composing = [name for name, verb in VERBS.items() if verb.composes]
        print("\n".join(shell.words(os.environ.get("COMP_LINE", ""), VERBS, composing)))
    elif args in ([], ["bash"]):
        print(shell.SCRIPT, end="")
    else:
        raise ConfigError(f"completion {shlex.join(args)}: only bash", 'type: eval "$(hpcml completion bash)"')
    return 0


VERBS = {
    "run": Verb("run a config to its end: hpcml run experiment=digits_svc", run, composes=True),
    "submit": Verb(
        "submit a run whose head lives in a job: hpcml submit [--wait] [--after RUN] ...", submit, composes=True
    ),
    "plan": Verb("check a config and say what it would do; starts nothing", plan, composes=True),
    "list": Verb("show your runs", list_runs),
    "status": Verb("show one run: hpcml status last", status),
    "fetch": Verb("download a data set: hpcml fetch newsgroups", fetch),
    "clean": Verb("delete the worker jobs of runs whose head was killed", clean),
    "completion": Verb('completion for bash: eval "$(hpcml completion bash)"', completion),
}


def _parser(verb: str, text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"hpcml {verb}", description=text)
    parser.add_argument("--scratch", metavar="DIR", help="look for runs there ($HPCML_SCRATCH, else all known places)")
    parser.add_argument("--json", action="store_true", help="for scripts")
    return parser


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: hpcml VERB [OVERRIDES or options]\n\n"
        "Takes a scikit-learn job from a laptop to a PBS supercomputer and brings the results home.\n\n"
        f"{verbs}\n\n"
        "hpcml VERB --help says more; overrides are GROUP=OPTION, KEY=VALUE or, for a new key, +KEY=VALUE"
    )


def main(argv: Sequence[str]) -> int:
    """Do what a command line says.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad request, 75 interrupted, 128 + signal when cancelled.
    """
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0 if argv else 2
    if argv[0] in {"--version", "-V"}:
        print(f"hpcml {__version__}")
        return 0
    name, *args = argv
    # For the user's own modules. Last, so that a file there called numpy.py or data.py breaks nothing of ours.
    sys.path.append(str(Path.cwd()))
    try:
        with interrupt.installed():
            if name not in VERBS:
                raise ConfigError(f"hpcml {name}: there is no such verb", nearest(name, VERBS))
            if name not in {"clean", "completion"}:
                _name_leftovers()
            return VERBS[name].main(args)
    except Interrupted as interrupted:
        where = f"; log: {interrupted.log}" if interrupted.log else ""
        print(f"stopped before the walltime ended; what was computed is saved{where}", file=sys.stderr)
        return interrupted.exit_code
    except Cancelled as cancelled:
        where = f"; log: {cancelled.log}" if cancelled.log else ""
        print(f"cancelled by {cancelled}; nothing of it is left running{where}", file=sys.stderr)
        return cancelled.exit_code
    except HpcmlError as error:
        display.show_error(display.console(stderr=True), error)
        return error.exit_code
    except BrokenPipeError:  # `hpcml list --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        display.show_error(display.console(stderr=True), _unexpected(error))
        return 1


def _unexpected(error: Exception) -> HpcmlError:
    """Make a message of what should not happen; the traceback goes to a file that can be sent to us."""
    with tempfile.NamedTemporaryFile("w", prefix="hpcml-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return HpcmlError(
        f"a mistake of hpcml's own: {type(error).__name__}: {error}",
        f"please report it with the traceback in {file.name}",
    )


def entry_point() -> None:
    """Run as `hpcml`."""
    sys.exit(main(sys.argv[1:]))
