"""How much to keep in store? A function of one's own, over a table of parameters.

Every week between 0 and 20 are sold. When fewer than `reorder` are left, the store is filled up to `full`, which comes
a week later. Keeping one for a week costs 1, a lost sale 20, an order 50. Which policy costs least?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet

from hpcml import LocalSpec, Map, Record, RunSpec, run


def simulate(reorder: int, full: int, weeks: int, rng: np.random.Generator) -> dict[str, float]:
    """Give the cost of an average week, and the share of sales that were lost."""
    stock, ordered, cost, lost = full, 0, 0.0, 0
    demands = rng.integers(0, 21, weeks)
    for demand in demands.tolist():
        stock += ordered
        sold = min(stock, demand)
        lost += demand - sold
        stock -= sold
        ordered = full - stock if stock < reorder else 0
        cost += stock + 20 * (demand - sold) + (50 if ordered else 0)
    return {"cost": cost / weeks, "lost": lost / int(demands.sum())}


def main() -> Record:
    """Try all policies, and name the best."""
    record = run(
        RunSpec(
            workload=Map(
                function=simulate,
                parameters={"reorder": list(range(5, 41, 5)), "full": list(range(20, 81, 10))},
                arguments={"weeks": 10_000},
                seed_argument="rng",
                batch=4,
            ),
            cluster=LocalSpec(workers=2),
        )
    )
    table = pyarrow.parquet.read_table(Path(record.path) / "tables" / "results.parquet").to_pylist()
    best = min(table, key=lambda row: row["cost"])
    print(f"best parameters: reorder={best['reorder']}, full={best['full']}")
    print(f"cost of a week: {best['cost']:.2f}, sales lost: {best['lost']:.1%}")
    return record


# Dask starts worker processes, which import this file again: what runs must stand behind this line.
if __name__ == "__main__":
    main()
