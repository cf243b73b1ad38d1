"""Example functions for workload=map and workload=python, such as users write themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from distributed import Client

    from hpcml.data import Dataset


def asian_call(strike: float, sigma: float, n: int, rng: np.random.Generator) -> dict[str, float]:
    """Price an Asian call by Monte Carlo.

    The experiment asian_study calls it for a table of strikes and volatilities.

    Parameters
    ----------
    strike, sigma, n
        As in :class:`hpcml.AsianOption`, which calls them ``workload.strike`` and so on in its
        messages; its other values are at their defaults.
    """
    from hpcml.examples.asian_option import DAYS_OF_A_YEAR, AsianOption, payoffs

    option = AsianOption(strike=strike, sigma=sigma, n=n)
    discounted = math.exp(-option.mu * option.days / DAYS_OF_A_YEAR) * payoffs(option, rng, n)
    return {"price": float(discounted.mean()), "standard_error": float(discounted.std(ddof=1)) / math.sqrt(n)}


def spectrum(client: Client, data: Dataset, rows: int, kept: int) -> dict[str, Any]:  # noqa: ARG001  # Dask knows it
    """Compute the number of directions in the data from singular values of a distributed array.

    Parameters
    ----------
    rows : int
        Rows per block of the array.
    kept : int
        The number of leading directions for ``share``.

    Returns
    -------
    dict
        The ``largest`` singular value, the ``share`` of the variance in the leading directions, and
        the number of ``directions`` that hold 99 % of the variance.
    """
    import dask.array as da

    x = da.from_array(np.asarray(data.X, dtype=np.float64), chunks=(rows, -1))
    values = da.linalg.svd(x - x.mean(axis=0))[1].compute()
    shares = np.cumsum(values**2) / np.sum(values**2)
    return {
        "largest": float(values[0]),
        "share": float(shares[:kept][-1]),
        "directions": int(np.searchsorted(shares, 0.99)) + 1,
    }
