"""Fetch: data sets from the internet, into the places where their loaders look. Nothing else of hpcml downloads."""

from __future__ import annotations

import hashlib
import http.client
import io
import pickle
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hpcml.errors import ConfigError, HpcmlError
from hpcml.files import replacing
from hpcml.units import format_size

# The archive of scikit-learn's fetch_20newsgroups (sklearn.datasets._twenty_newsgroups.ARCHIVE).
NEWSGROUPS_URL = "https://ndownloader.figshare.com/files/5975967"
NEWSGROUPS_SHA256 = "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"

# The directories in it, by what scikit-learn calls their messages.
_SUBSETS = {"train": "20news-bydate-train", "test": "20news-bydate-test"}

# How long the other side may be silent, in seconds.
_TIMEOUT = 30

# Read between two reports, in bytes.
_CHUNK = 256 * 1024

# Called with what is being done.
Say = Callable[[str], None]


def newsgroups(path: Path, url: str, sha256: str, say: Say) -> None:
    """Download the newsgroups' archive, and write scikit-learn's cache of it.

    All is done in memory (some 200 MB): no member of the archive becomes a file, wherever its name may point, and the
    cache is there whole or not at all.

    Parameters
    ----------
    path : Path
        The cache to write, see :func:`hpcml.data.newsgroups.cache_file`.
    url : str
        http, https or file.
    sha256 : str
        Of the archive, as 64 hexadecimal digits.

    Raises
    ------
    ConfigError
        If url or sha256 are not of such a form.
    HpcmlError
        If the archive cannot be got or is another, or the cache cannot be written.
    """
    if not url.startswith(("http://", "https://", "file://")):
        raise ConfigError(f"--url {url}: must begin with https://, http:// or file://")
    if len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef"):
        raise ConfigError(f"--sha256 {sha256}: not 64 hexadecimal digits", "sha256sum ARCHIVE prints them")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.touch()  # a directory that cannot be written shows now, not after the download
            archive = _download(url, say)
            _compare(archive, sha256.lower(), url)
            say("reading the messages")
            messages = _messages(archive, url)
            cache = {name: _bunch(messages, top, url, path.parent) for name, top in _SUBSETS.items()}
            say("writing the cache")
            aside.write_bytes(zlib.compress(pickle.dumps(cache)))
            aside.chmod(aside.stat().st_mode & ~0o022)  # a pickle that others can write is not read
    except OSError as error:
        raise HpcmlError(
            f"{path}: cannot be written: {error.strerror or error}", "choose another place: --data-home DIR"
        ) from error


def _download(url: str, say: Say) -> bytes:
    found = io.BytesIO()
    say(f"asking {url}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310  # the scheme is checked
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                found.write(chunk)
                say(f"{format_size(found.tell())}{f' of {format_size(total)}' if total else ''}")
    except urllib.error.HTTPError as error:
        raise _unreachable(url, f"it answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _unreachable(url, str(getattr(reason, "strerror", None) or reason or type(error).__name__)) from error
    if found.tell() < total:
        raise _unreachable(url, f"it ended after {found.tell()} of {total} bytes")
    return found.getvalue()


def _unreachable(url: str, reason: str) -> HpcmlError:
    if url.startswith("file:"):
        return HpcmlError(f"{url}: cannot be read: {reason}", "file:// wants a full path: file:///scratch/me/x.tar.gz")
    return HpcmlError(
        f"{url}: cannot be downloaded: {reason}",
        "try again where there is internet: a login node, or a job of a copy queue; a proxy is named by $https_proxy",
        "or bring the archive from elsewhere: hpcml fetch newsgroups --url file:///path/of/20news-bydate.tar.gz",
    )


def _compare(archive: bytes, expected: str, url: str) -> None:
    found = hashlib.sha256(archive).hexdigest()
    if found != expected:
        raise HpcmlError(
            f"{url}: not the archive that it should be: its sha256 is {found}, expected was {expected}",
            f"{len(archive)} bytes came; nothing was kept. Try again, or another --url; of an archive of your own in "
            f"the same layout give --sha256 as well",
        )


def _messages(archive: bytes, url: str) -> dict[tuple[str, ...], str]:
    """Read all messages, by directory, group and number."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).parts
                content = tar.extractfile(member) if member.isfile() and len(name) == 3 else None
                if content is not None:
                    found[name] = content.read().decode("latin1")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise HpcmlError(f"{url}: cannot be read as a .tar.gz: {error}", "nothing was kept") from error
    return found


def _bunch(messages: Mapping[tuple[str, ...], str], top: str, url: str, home: Path) -> Any:
    """Make what sklearn.datasets.load_files(top, encoding="latin1") would, were the archive extracted.

    Its order too: sorted by name, then shuffled by random_state=0.
    """
    names = sorted(name for name in messages if name[0] == top)
    if not names:
        raise HpcmlError(f"{url}: has no messages {top}/GROUP/NUMBER in it", "nothing was kept")
    import numpy as np
    from sklearn.utils import Bunch

    groups = sorted({group for _, group, _ in names})
    target = np.array([groups.index(group) for _, group, _ in names])
    filenames = np.array([str(home.joinpath("20news_home", *name)) for name in names])
    order = np.arange(len(names))
    np.random.RandomState(0).shuffle(order)
    return Bunch(
        data=[messages[names[number]] for number in order],
        filenames=filenames[order],
        target_names=groups,
        target=target[order],
        DESCR=None,
    )
