"""Test that messages for lost tasks contain none of Dask's internal names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from distributed import CancelledError, KilledWorker

from hpcml.errors import WorkloadError
from hpcml.workloads.engine.causes import cause


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KilledWorker("_itself-e5ed8d9c", SimpleNamespace(address="tcp://127.0.0.1:1"), 2), "out of memory"),
        (CancelledError("fit_and_score-8d2d0c2e"), "the workers that had it are gone"),
        (ValueError("a=3 is too large"), "ValueError: a=3 is too large"),
        (WorkloadError("a clear message", "and a hint"), "a clear message"),
    ],
)  # fmt: skip
def test_cause(error: BaseException, said: str) -> None:
    found = cause(error)
    assert said in found
    assert not any(word in found for word in ("KilledWorker", "CancelledError", "-e5ed", "-8d2d", "tcp://"))
