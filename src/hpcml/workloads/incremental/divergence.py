"""Divergence: detects that a fit has diverged and proposes remedies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpcml.workloads.incremental.scan import Scan
from hpcml.workloads.inputs.block_scores import Score
from hpcml.workloads.inputs.checks import classifies
from hpcml.workloads.inputs.moments import Moments

# A weight is huge if a typical change of its feature moves the prediction by more than this many
# standard deviations of the target.
_HUGE = 1e6

# A model that has learned something achieves more than this share of the possible gain over the
# trivial prediction.
_SKILL = 0.05

# Losses for numbers: a classifier fits them to -1 and 1.
_OF_NUMBERS = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


def largest(model: Any) -> float | None:
    """Return the largest absolute weight, infinity if any is not finite; None without weights."""
    found = _weights(model)
    if not found:
        return None
    most = max(float(np.abs(weights).max()) for weights in found)
    return most if math.isfinite(most) else math.inf


def _weights(model: Any) -> list[Any]:
    weights = getattr(model, "coef_", None)
    return list(getattr(model, "coefs_", ())) if weights is None else [weights]


def is_huge(model: Any, deviation: Any, target: Moments | None) -> bool:
    """Return whether a weight is huge.

    Parameters
    ----------
    deviation : float or array of shape (n_features,)
        Standard deviation of the features as the model sees them.
    target : Moments or None
        Moments of a regressor's target.
    """
    if not _weights(model):
        return False
    first = np.abs(_weights(model)[0])
    first = first.T if hasattr(model, "coefs_") else first  # in networks (n_features, n_units)
    comparable = np.ndim(deviation) == 0 or first.shape[-1:] == np.shape(deviation)
    usual = first * deviation if comparable else first
    apart = 1.0 if target is None else float(target.deviation) or 1.0
    return not bool(usual.max() <= _HUGE * apart)


def has_diverged(model: Any, huge: bool, score: Score | None, found: float | None, trivial: float | None) -> bool:
    """Return whether huge weights mean that nothing was learned.

    Parameters
    ----------
    found, trivial : float or None
        The held-out scores of the model and of always predicting the most frequent class or the
        mean.
    """
    if not huge:
        return False
    if classifies(model) and getattr(model, "loss", None) in _OF_NUMBERS:
        return True
    if score is None or found is None or trivial is None:
        return False
    best = trivial if score.scorer is not None else 0.0 if score.name.startswith("neg_") else 1.0
    return not found > trivial + _SKILL * (best - trivial)


def remedies(model: Any, scan: Scan, scaled: bool) -> list[str]:
    """Return remedies to type, the best first."""
    hints = []
    deviation, mean = scan.features.deviation, np.abs(scan.features.mean)
    if not scaled and not (np.all(deviation < 10) and np.all(mean < 10)):
        hints.append(
            f"standardise the features, whose largest mean is {mean.max():.2g} and standard deviation "
            f"{deviation.max():.2g}: workload.scale=true"
        )
    parameters = model.get_params()
    if classifies(model) and parameters.get("loss") in _OF_NUMBERS:
        hints.append(f"{parameters['loss']} fits numbers; take a loss of classes: ++model.loss=log_loss")
    if "learning_rate_init" in parameters:
        hints.append(f"make smaller steps: ++model.learning_rate_init={parameters['learning_rate_init'] / 10:g}")
    elif "eta0" in parameters:
        step = f"++model.learning_rate=constant ++model.eta0={_step(scan, scaled):g}"
        hints.append(f"make small, constant steps: {step}")
    return hints or ["workload.scale=true standardises the features"]


def _step(scan: Scan, scaled: bool) -> float:
    """Propose a step size for steepest descent on squared errors.

    Steps are stable up to 2 / E|x|^2 (Haykin, Adaptive Filter Theory: the LMS algorithm); this
    proposes a twentieth to a two-hundredth of that, rounded to a power of ten.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.sum(scan.features.variance + scan.features.mean**2))
    energy = len(scan.features.mean) if scaled else energy
    # Clipping covers both constant zero features and features that overflow.
    return float(10.0 ** math.floor(math.log10(0.1 / np.clip(np.nan_to_num(energy, nan=np.inf), 1e-300, 1e300))))


def message(when: str, weight: float | None, overflow: str | None, scores: tuple[str, str] | None) -> str:
    """Render the error message.

    Parameters
    ----------
    when : str
        For example ``pass 2``.
    overflow : str or None
        scikit-learn's error message.
    scores : tuple of str, or None
        The name and value of the model's held-out score, and the value of the trivial prediction's.
    """
    parts = []
    if weight is not None:
        parts.append(f"its largest weight is {weight:.2g}")
    if scores is not None:
        parts.append(f"its held-out {scores[0]}, where the trivial prediction's is {scores[1]}")
    if overflow is not None:
        parts.append(f"scikit-learn says: {overflow.partition('. ')[0].strip()}")
    return f"the model diverged in {when}: {'; '.join(parts)}"
