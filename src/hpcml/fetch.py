"""Download data sets into the caches of their loaders. No other module downloads anything."""

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

# Directories in the archive, by scikit-learn's names of the subsets.
_SUBSETS = {"train": "20news-bydate-train", "test": "20news-bydate-test"}

# Timeout of the connection, in seconds.
_TIMEOUT = 30

# Bytes read between two progress reports.
_CHUNK = 256 * 1024

# Called with a progress message.
Say = Callable[[str], None]


def newsgroups(path: Path, url: str, sha256: str, say: Say) -> None:
    """Download the newsgroups archive and write scikit-learn's cache of it.

    Everything happens in memory (some 200 MB), so that no member of the archive becomes a file,
    wherever its name points, and the cache is complete or absent.

    Parameters
    ----------
    path : Path
        The cache to write, see :func:`hpcml.data.newsgroups.cache_file`.
    url : str
        An http, https or file URL.
    sha256 : str
        Checksum of the archive, 64 hexadecimal digits.

    Raises
    ------
    ConfigError
        If url or sha256 is malformed.
    HpcmlError
        If the download fails, the checksum differs, or the cache cannot be written.
    """
    if not url.startswith(("http://", "https://", "file://")):
        raise ConfigError(f"--url {url}: must begin with https://, http:// or file://")
    if len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef"):
        raise ConfigError(f"--sha256 {sha256}: not 64 hexadecimal digits", "sha256sum ARCHIVE prints them")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.touch()  # Fail before the download if the directory is not writable.
            archive = _download(url, say)
            _compare(archive, sha256.lower(), url)
            say("reading the messages")
            messages = _messages(archive, url)
            cache = {name: _bunch(messages, top, url, path.parent) for name, top in _SUBSETS.items()}
            say("writing the cache")
            aside.write_bytes(zlib.compress(pickle.dumps(cache)))
            aside.chmod(aside.stat().st_mode & ~0o022)  # The loader rejects a pickle that others can write.
    except OSError as error:
        raise HpcmlError(
            f"{path}: cannot be written: {error.strerror or error}", "choose another place: --data-home DIR"
        ) from error


def _download(url: str, say: Say) -> bytes:
    found = io.BytesIO()
    say(f"connecting to {url}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310  # the scheme is checked
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                found.write(chunk)
                say(f"{format_size(found.tell())}{f' of {format_size(total)}' if total else ''}")
    except urllib.error.HTTPError as error:
        raise _unreachable(url, f"the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _unreachable(url, str(getattr(reason, "strerror", None) or reason or type(error).__name__)) from error
    if found.tell() < total:
        raise _unreachable(url, f"the connection closed after {found.tell()} of {total} bytes")
    return found.getvalue()


def _unreachable(url: str, reason: str) -> HpcmlError:
    if url.startswith("file:"):
        return HpcmlError(f"{url}: cannot be read: {reason}", "use an absolute path: file:///scratch/me/x.tar.gz")
    return HpcmlError(
        f"{url}: cannot be downloaded: {reason}",
        "try again with internet access: on a login node, or in a job of a copy queue; set $https_proxy for a proxy",
        "or copy the archive from elsewhere: hpcml fetch newsgroups --url file:///path/of/20news-bydate.tar.gz",
    )


def _compare(archive: bytes, expected: str, url: str) -> None:
    found = hashlib.sha256(archive).hexdigest()
    if found != expected:
        raise HpcmlError(
            f"{url}: wrong checksum: sha256 is {found}, expected {expected}",
            f"received {len(archive)} bytes; nothing was written. Try again, or another --url; for your own archive "
            f"with the same layout pass --sha256 as well",
        )


def _messages(archive: bytes, url: str) -> dict[tuple[str, ...], str]:
    """Read all messages, keyed by directory, group and number."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).parts
                content = tar.extractfile(member) if member.isfile() and len(name) == 3 else None
                if content is not None:
                    found[name] = content.read().decode("latin1")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise HpcmlError(f"{url}: cannot be read as a .tar.gz: {error}", "nothing was written") from error
    return found


def _bunch(messages: Mapping[tuple[str, ...], str], top: str, url: str, home: Path) -> Any:
    """Build what sklearn.datasets.load_files(top, encoding="latin1") would return.

    The order is the same: sorted by name, then shuffled with random_state=0.
    """
    names = sorted(name for name in messages if name[0] == top)
    if not names:
        raise HpcmlError(f"{url}: contains no messages {top}/GROUP/NUMBER", "nothing was written")
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
