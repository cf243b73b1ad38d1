"""Signals cancel a command even if their exception is replaced."""

from __future__ import annotations

import signal

import pytest

from hpcml import interrupt
from hpcml.errors import Cancelled


def broken_import(*, again: bool = False) -> None:
    """Fail like the initialization of an extension module that is interrupted."""
    with interrupt.installed():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Cancelled as cancelled:
            if again:
                interrupt.reopen()
            raise ImportError("initialization failed") from cancelled


def test_a_signal_turned_into_an_import_error_still_cancels() -> None:
    with pytest.raises(Cancelled) as caught:
        broken_import()
    assert caught.value.exit_code == 143


def test_a_signal_affects_only_its_own_run() -> None:
    with pytest.raises(ImportError):
        broken_import(again=True)
