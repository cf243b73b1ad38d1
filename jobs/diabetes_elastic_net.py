"""How much regularisation, and of which kind? A random search over distributions on the diabetes data.

Shows a pipeline, scipy distributions, several scores, and how to use the fitted model afterwards.
"""

from __future__ import annotations

from pathlib import Path

import skops.io
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpcml import Dataset, LocalSpec, Record, RunSpec, Search, run


def main() -> Record:
    """Search, load the best model again and predict with it."""
    X, y = load_diabetes(return_X_y=True)
    record = run(
        RunSpec(
            workload=Search(
                method="random",
                n_iter=20,
                grid={"elasticnet__alpha": loguniform(1e-3, 1e1), "elasticnet__l1_ratio": uniform(0, 1)},
                scoring=["r2", "neg_mean_absolute_error"],
                refit="r2",
            ),
            data=Dataset(X=X, y=y, name="diabetes"),
            model=make_pipeline(StandardScaler(), ElasticNet(max_iter=5000)),
            cluster=LocalSpec(workers=2),
            seed=1,
        )
    )
    model = skops.io.load(Path(record.path) / "model.skops")
    print("best parameters:", record.metrics["best_params"])
    print("test scores:", record.metrics["test_scores"])
    print("first predictions:", model.predict(X[:3]).round(1))
    return record


if __name__ == "__main__":
    main()
