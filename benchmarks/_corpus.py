"""Make a substitute for the 20 newsgroups without internet: python benchmarks/_corpus.py DATA_HOME.

The messages are synthetic, in the archive's layout: words by Zipf's law, some of which are more
common in one group.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

GROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware",
    "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey",
    "sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns",
    "talk.politics.mideast", "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip

_WORDS = 60_000
_LENGTH = 160

# The share of a message's words that come from those that its group prefers, and their number.
_OWN_SHARE, _OWN_WORDS = 0.08, 400


def texts(documents: int, seed: int = 0) -> list[tuple[str, str]]:
    """Yield the group and text of each message; the groups alternate."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    spelled = map("".join, random.choice(letters, (_WORDS, 10)))
    vocabulary = np.array([word[:size] for word, size in zip(spelled, random.integers(3, 11, _WORDS), strict=True)])
    common = 1 / np.arange(1, _WORDS + 1)
    common /= common.sum()
    own = [random.choice(_WORDS, _OWN_WORDS, replace=False) for _ in GROUPS]
    found = []
    for number in range(documents):
        group = number % len(GROUPS)
        length = max(8, int(_LENGTH * random.lognormal(0, 0.6)))
        words = random.choice(_WORDS, length, p=common)
        prefers = random.random(length) < _OWN_SHARE
        words[prefers] = random.choice(own[group], int(prefers.sum()))
        head = f"From: user{number}@example.org\nSubject: {vocabulary[words[0]]}\nLines: {1 + length // 12}\n\n"
        lines = [" ".join(vocabulary[words[n : n + 12]]) for n in range(0, length, 12)]
        found.append((GROUPS[group], head + "\n".join(lines) + "\n"))
    return found


def archive(path: Path, train: int = 11_000, test: int = 1_000, seed: int = 0) -> str:
    """Write the messages as a .tar.gz and return its sha256."""
    made = texts(train + test, seed)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number, (group, text) in enumerate(made):
            content = text.encode("latin1")
            member = tarfile.TarInfo(f"20news-bydate-{'train' if number < train else 'test'}/{group}/{50_000 + number}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    from hpcml import fetch
    from hpcml.data.newsgroups import cache_file

    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "20news-bydate.tar.gz"
        sha256 = archive(made)
        fetch.newsgroups(cache_file(sys.argv[1]), made.as_uri(), sha256, print)


if __name__ == "__main__":
    main()
