"""How many trees, and how deep? A grid search over random forests on the wine data.

A complete job in plain Python: copy it, put in your own data and model, and start it with `python wine_forest.py`.
"""

from __future__ import annotations

from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from hpcml import Dataset, LocalSpec, Record, RunSpec, Search, run


def main() -> Record:
    """Search, and print what came out."""
    X, y = load_wine(return_X_y=True)
    record = run(
        RunSpec(
            workload=Search(grid={"n_estimators": [50, 100], "max_depth": [3, None]}, cv=5),
            data=Dataset(X=X, y=y, name="wine"),
            model=RandomForestClassifier(random_state=0),
            cluster=LocalSpec(workers=2),
        )
    )
    print("best parameters:", record.metrics["best_params"])
    print("test score:", record.metrics["test_scores"]["score"])
    print("results:", record.path)
    return record


# Dask starts worker processes, which import this file again: what runs must stand behind this line.
if __name__ == "__main__":
    main()
