"""Time the poster's Asian option: its Python loop, one Dask task per path, and hpcml."""

from __future__ import annotations

import numpy as np
from _compare import compare, local_workers
from dask import delayed

from hpcml.examples.asian_option import AsianOption, draw
from hpcml.workloads.base import Inputs, Units

WORKERS = 2
OPTION = AsianOption(n=1000, batch=125)  # a tenth of the poster's paths, as its loop is slow


def random_walk(s0: float, mu: float, sigma: float, days: int) -> np.ndarray:
    """Draw a path, with the code of the poster."""
    dt = 1 / 365.0
    prices = np.zeros(days)
    prices[0] = s0
    for i in range(1, days):
        e = np.random.normal(loc=mu * dt, scale=sigma * np.sqrt(dt))
        prices[i] = prices[i - 1] * (1 + e)
    return prices


def main() -> None:
    o, inputs = OPTION, Inputs(None, None, 0)
    path = (o.s0, o.mu, o.sigma, o.days)

    def loop() -> None:
        np.average([max(0, np.average(random_walk(*path)) - o.strike) for _ in range(o.n)])

    with local_workers(WORKERS) as cluster:

        def poster() -> None:
            # random_walk(...) is called here, in the client, before Dask sees it.
            payoffs = [delayed(max)(0, delayed(np.average)(random_walk(*path)) - o.strike) for _ in range(o.n)]
            cluster.client.compute(delayed(np.average)(payoffs)).result()

        def hpcml() -> None:
            prepared = o.prepare(inputs)
            prepared.run(cluster.client, Units(prepared.n_units))

        def alone() -> None:
            for number in range(o.n_batches):
                draw(o, 0, number)

        ways = {"loop": loop, "poster dask": poster, "serial": alone, "hpcml": hpcml}
        compare(f"{o.n} paths of {o.days} days", ways, base="loop", cores=WORKERS)


if __name__ == "__main__":
    main()
