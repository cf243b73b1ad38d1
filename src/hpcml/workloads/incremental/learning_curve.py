"""The learning curve: the score and times of each pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pass:
    """One pass over all blocks.

    Parameters
    ----------
    samples_seen : int
        Samples since the beginning of the run, each counted as often as it was seen.
    score : float or None
        The score on the held-out rows after the pass; None without a score.
    fit_s : float
        Seconds of ``partial_fit``, which more workers cannot shorten.
    pass_s : float
        Seconds of the whole pass, without the score.
    score_s : float
    largest_weight : float or None
    order : str or None
        The seed of the order of blocks, ``numpy.random.default_rng([...])``; None: their own order.
    """

    number: int
    samples_seen: int
    score: float | None
    fit_s: float
    pass_s: float
    score_s: float
    largest_weight: float | None
    order: str | None


def table(passes: Sequence[Pass]) -> dict[str, list[Any]]:
    """Build the columns of the table ``learning_curve``."""
    names = ("samples_seen", "score", "fit_s", "pass_s", "score_s", "largest_weight", "order")
    return {"pass": [one.number for one in passes], **{name: [getattr(one, name) for one in passes] for name in names}}


def best(passes: Sequence[Pass]) -> Pass | None:
    """Return the pass with the highest score, the first of equals; None if there are no scores."""
    scored = [one for one in passes if one.score is not None]
    return max(scored, key=lambda one: (one.score, -one.number)) if scored else None


def stale(passes: Sequence[Pass], tol: float) -> int:
    """Count the passes since the score last improved by more than ``tol``.

    >>> def curve(*scores):
    ...     return [Pass(n, 0, score, 0, 0, 0, None, None) for n, score in enumerate(scores)]
    >>> stale(curve(0.5, 0.6, 0.605, 0.609), tol=0.01), stale(curve(0.5, 0.6, 0.605, 0.611), tol=0.01)
    (2, 0)
    """
    reference, since = -float("inf"), 0
    for one in passes:
        if one.score is not None and one.score > reference + tol:
            reference, since = one.score, 0
        else:
            since += 1
    return since


def figure(passes: Sequence[Pass], name: str, trivial: float | None) -> Any:
    """Plot the held-out score over the samples seen."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6, 4), layout="constrained")
    axes = drawn.subplots()
    points = [(one.samples_seen, one.score) for one in passes if one.score is not None]
    axes.plot(*zip(*points, strict=True), marker="o", label="after each pass")
    if trivial is not None:
        axes.axhline(trivial, linestyle="--", color="grey", label="trivial prediction")
    axes.set_xlabel("samples seen")
    axes.set_ylabel(f"held-out {name}")
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn
