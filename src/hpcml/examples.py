"""Functions that experiments call, of the kind that you write yourself for workload=map and workload=python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from distributed import Client

    from hpcml.data import Dataset


def asian_call(strike: float, sigma: float, n: int, rng: np.random.Generator) -> dict[str, float]:
    """Price an Asian call by Monte Carlo: experiment=asian_study does so for a table of strikes and volatilities.

    Parameters
    ----------
    strike, sigma, n
        As of :class:`hpcml.AsianOption`, which names them in its messages ``workload.strike`` and so on, and whose
        other values are its defaults.
    """
    from hpcml.workloads.asian import DAYS_OF_A_YEAR, AsianOption, payoffs

    option = AsianOption(strike=strike, sigma=sigma, n=n)
    discounted = math.exp(-option.mu * option.days / DAYS_OF_A_YEAR) * payoffs(option, rng, n)
    return {"price": float(discounted.mean()), "standard_error": float(discounted.std(ddof=1)) / math.sqrt(n)}


def spectrum(client: Client, data: Dataset, rows: int, kept: int) -> dict[str, Any]:  # noqa: ARG001  # Dask knows it
    """Find how many directions the data has, by the singular values of an array that is spread over the workers.

    Parameters
    ----------
    rows : int
        Of a block of the array.
    kept : int
        How many directions to tell the share of the variance of.

    Returns
    -------
    dict
        The ``largest`` singular value, the ``share`` of the first directions, and how many ``directions`` have 99 % of
        the variance.
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
