"""Tables keep the names and types of their columns, and models get the preprocessing that suits them."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.sparse
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from hpcml.data import Dataset, RowGroups, TableFile, load
from hpcml.errors import ConfigError, DataError
from hpcml.models import tabular, tabular_linear
from hpcml.workloads.base import Inputs
from hpcml.workloads.inputs.checks import check_data, takes_only_numbers
from hpcml.workloads.inputs.preprocessing import describe, needs_preprocessing, suit

MIXED = pd.DataFrame({
    "size": [1.5, np.nan, 3.5] * 20, "colour": ["red", "blue", "red"] * 20,
    "kind": pd.Categorical(["a", "b", "c"] * 20),
    "day": pd.date_range("2026-01-01", periods=60), "yes": [True, False, True] * 20,
})  # fmt: skip
TARGET = np.array(["no", "yes"] * 30)


class TestTypes:
    def test_columns_keep_their_types(self, tmp_path: Path) -> None:
        day = datetime.date(2026, 1, 2)
        table = pa.table({
            "i": [1, 2], "gap": pa.array([1, None]), "small": pa.array([1, 2], pa.float32()), "b": [True, False],
            "bgap": pa.array([True, None]), "date": [day, None], "exact": [decimal.Decimal("1.25"), None],
            "text": ["a", None], "category": pa.array(["x", "y"]).dictionary_encode(), "empty": pa.array([None, None]),
            "time": [datetime.time(1, 0, 1), None], "took": [datetime.timedelta(seconds=5), None],
        })  # fmt: skip
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        X = load(TableFile(path=str(tmp_path / "a.parquet"))).X
        types = {name: str(dtype).partition("[")[0] for name, dtype in X.dtypes.items()}
        assert types == {
            "i": "int64", "gap": "float64", "small": "float32", "b": "bool", "bgap": "float64", "date": "datetime64",
            "exact": "float64", "text": "str", "category": "category", "empty": "float64", "time": "float64",
            "took": "float64",
        }  # fmt: skip
        assert X["exact"][0] == 1.25
        assert X["time"][0] == 3601
        assert X["took"][0] == 5
        assert X["date"][0] == pd.Timestamp(day)

    def test_all_columns_that_no_estimator_takes_are_named(self, tmp_path: Path) -> None:
        table = pa.table({"a": [1], "list": [[1, 2]], "raw": [b"x"], "map": [{"k": 1}], "y": [0]})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        for reader in (TableFile, RowGroups):
            with pytest.raises(DataError, match=r"'list' .*'raw' .*'map' .*\n.*data.drop=\[list,raw,map\]"):
                load(reader(path=str(tmp_path / "a.parquet"), target="y"))

    @pytest.mark.parametrize("kind", ["pandas", "polars", "sparse", "array"])
    def test_samples_of_any_form(self, kind: str) -> None:
        numbers = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, np.inf]])
        forms: dict[str, Any] = {
            "pandas": pd.DataFrame(numbers, columns=["a", "b"]), "polars": pl.DataFrame(numbers, schema=["a", "b"]),
            "sparse": scipy.sparse.coo_array(numbers), "array": numbers,
        }  # fmt: skip
        data = load((forms[kind], np.array([0, 1, 0])))
        assert isinstance(data, Dataset)
        assert (data.n_samples, data.n_features) == (3, 2)
        for rows in (np.array([True, False, True]), np.array([0, 2]), slice(0, 3, 2)):
            part = data.take(rows)
            assert type(part.X) is type(data.X)
            assert list(part.y) == [0, 0]
            assert part.X.shape == (2, 2)
        with pytest.raises(DataError, match=r"1 NaN or infinite value in X \(in (b|column 1)\)"):
            check_data(data, SVC())

    def test_sparse_samples_are_rows(self) -> None:
        data = load((scipy.sparse.eye(3), np.arange(3)))
        assert isinstance(data, Dataset)
        assert data.X.format == "csr"
        with pytest.raises(DataError, match="X is sparse, and k-means takes dense numbers"):
            data.dense("k-means")

    def test_objects_become_columns_with_types(self) -> None:
        data = load((np.array([["a", 1.5], ["b", 2.5]], dtype=object), [1, 2]))
        assert isinstance(data, Dataset)
        assert [str(dtype) for dtype in data.X.dtypes] == ["str", "float64"]

    def test_samples_without_target_are_left_out_with_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,y\n1,rose\n2,\n3,fern\n")
        data = load(TableFile(path=str(tmp_path / "a.csv"), target="y"))
        assert isinstance(data, Dataset)
        with pytest.warns(UserWarning, match="1 of 3 samples have no target and are left out"):
            assert list(data.labelled().y) == ["rose", "fern"]
        with pytest.raises(DataError, match="no sample has a target"):
            Dataset(X=np.eye(2), y=[np.nan, np.nan]).labelled()

    def test_blocks_agree_on_types(self, tmp_path: Path) -> None:
        whole, gaps = pa.table({"n": [1, 2], "y": [0, 1]}), pa.table({"n": [0.5, None], "y": [0, 1]})
        for number, table in enumerate((whole, gaps)):
            pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
        blocks = load(RowGroups(path=str(tmp_path), target="y", block_size=1))
        assert [str(blocks.block(number).load().X["n"].dtype) for number in range(2)] == ["float64", "float64"]
        pyarrow.parquet.write_table(pa.table({"n": ["a"], "y": [0]}), tmp_path / "2.parquet")
        with pytest.raises(DataError, match=r"2.parquet: column 'n' is string, and double in the first file"):
            load(RowGroups(path=str(tmp_path), target="y"))


@pytest.mark.filterwarnings("ignore:data. ")
class TestPreprocessing:
    @pytest.mark.parametrize(
        ("model", "numbers"),
        [
            (SVC(), True),
            (make_pipeline(StandardScaler(), SVC()), True),
            (BaggingClassifier(SVC()), True),
            (RandomForestClassifier(), True),
            (make_pipeline(ColumnTransformer([("x", OneHotEncoder(), ["colour"])]), SVC()), False),
            (make_pipeline(OneHotEncoder(), SVC()), False),
            (make_pipeline(TfidfVectorizer(), SVC()), False),
        ],
    )
    def test_models_that_take_only_numbers(self, model: Any, numbers: bool) -> None:
        assert takes_only_numbers(model) is numbers

    def test_only_if_the_model_rejects_the_table(self) -> None:
        complete, gaps = MIXED[["yes"]].astype(float), MIXED[["size"]]
        categories = MIXED[["kind"]]
        assert not needs_preprocessing(SVC(), Dataset(X=complete))
        assert needs_preprocessing(SVC(), Dataset(X=gaps))
        assert not needs_preprocessing(RandomForestClassifier(), Dataset(X=gaps))
        assert not needs_preprocessing(make_pipeline(SimpleImputer(), SVC()), Dataset(X=gaps))
        assert needs_preprocessing(RandomForestClassifier(), Dataset(X=categories))
        assert not needs_preprocessing(HistGradientBoostingClassifier(), Dataset(X=categories))
        assert not needs_preprocessing(SVC(), Dataset(X=np.eye(3)))

    @pytest.mark.parametrize("form", ["pandas", "polars"])
    @pytest.mark.parametrize("model", [SVC(), make_pipeline(StandardScaler(), SVC()), RandomForestClassifier(5)])
    def test_models_fit_any_table(self, form: str, model: Any) -> None:
        X = MIXED if form == "pandas" else pl.DataFrame(MIXED.to_dict("list"))
        found = suit(Inputs(Dataset(X=X, y=TARGET), model, 0, "auto"))
        assert found.model.fit(X, TARGET).predict(X).shape == (60,)
        assert (
            found.model.get_params()[f"{found.prefix}random_state" if found.prefix else "svc__C"] is not NotImplemented
        )

    def test_the_summary_counts_columns(self) -> None:
        found = suit(Inputs(Dataset(X=MIXED, y=TARGET), SVC(), 0, "auto"))
        assert found.notes == {"table": "2 numeric, 2 categorical, 1 date; 6.7 % missing"}
        assert describe(MIXED[["colour"]]) == "1 categorical; 0 % missing"

    @pytest.mark.parametrize(
        ("y", "boosting", "linear"),
        [
            (TARGET, "HistGradientBoostingClassifier", "LogisticRegression"),
            (np.arange(60) % 3, "HistGradientBoostingClassifier", "LogisticRegression"),
            (np.arange(60), "HistGradientBoostingRegressor", "Ridge"),
            (np.linspace(0, 1, 60), "HistGradientBoostingRegressor", "Ridge"),
        ],
    )
    def test_the_target_chooses_the_model(self, y: Any, boosting: str, linear: str) -> None:
        for factory, name in ((tabular, boosting), (tabular_linear, linear)):
            found = suit(Inputs(Dataset(X=MIXED, y=y), factory(), 7, "auto")).model
            assert type(found.steps[-1][1]).__name__ == name
            assert found.fit(MIXED, y).predict(MIXED).shape == (60,)
        assert suit(Inputs(Dataset(X=MIXED, y=y), tabular(), 7, "auto")).model[-1].random_state == 7

    def test_parameters_of_the_wrong_kind_of_model(self) -> None:
        with pytest.raises(ConfigError, match=r"model: Ridge.*'C'"):
            suit(Inputs(Dataset(X=MIXED, y=np.arange(60)), tabular_linear(C=1.0), 0, "auto"))
        with pytest.raises(ConfigError, match="a table needs a target"):
            suit(Inputs(Dataset(X=MIXED), tabular(), 0, "auto"))

    def test_ones_own_steps(self) -> None:
        encoder = OneHotEncoder(handle_unknown="ignore")
        found = suit(Inputs(Dataset(X=MIXED[["colour"]], y=TARGET), LogisticRegression(), 0, encoder))
        assert [name for name, _ in found.model.steps] == ["preprocess", "logisticregression"]
        assert found.prefix == "logisticregression__"
        two = suit(Inputs(Dataset(X=MIXED[["colour"]], y=TARGET), SVC(), 0, make_pipeline(encoder, "passthrough")))
        assert [name for name, _ in two.model.steps] == ["onehotencoder", "passthrough", "svc"]
        with pytest.raises(ConfigError, match="preprocess: Ridge is not a transformer"):
            suit(Inputs(Dataset(X=np.eye(3), y=[1, 2, 3]), SVC(), 0, Ridge()))

    def test_none_is_rejected_by_name(self) -> None:
        inputs = suit(Inputs(Dataset(X=MIXED, y=TARGET, name="mine.csv"), SVC(), 0, "none"))
        message = (
            r"mine.csv: columns that are not numeric: 'colour' \(text\), 'kind' \(categorical\), 'day' \(date\), "
            r"and SVC takes numbers\n  encode them: preprocess=auto\n  .*'data.drop=\[colour,kind,day\]'"
        )
        with pytest.raises(DataError, match=message):
            check_data(inputs.dataset, inputs.model)
