"""Test texts: a user's loader, the messages for damaged files, and models that accept texts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_files, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from hpcml import Dataset, LocalSpec, Search
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import TextFile
from hpcml.errors import ConfigError, DataError
from hpcml.models import pipeline
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.inputs.checks import check_data

TEXTS = ["so far so good", 'he said "no"; twice', "two\nlines", "null", "", "naïve, café"]
KINDS = ["good", "bad", "good", "bad", "good", "bad"]

CSV = (
    "text,kind\nso far so good,good\n"
    '"he said ""no""; twice",bad\n"two\nlines",good\nnull,bad\n"",good\n"naïve, café",bad\n'
)


def loaded(path: Path, **keys: Any) -> Dataset:
    return TextFile(path=str(path), **{"target": "kind", **keys}).load()


class TestFiles:
    def check(self, data: Dataset) -> None:
        assert data.is_text
        assert list(data.X) == TEXTS
        assert list(data.y) == KINDS
        assert data.describe().endswith(": 6 texts, 2 distinct targets")

    def test_csv(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(CSV, encoding="utf-8")
        self.check(loaded(tmp_path / "a.csv"))
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
        self.check(loaded(tmp_path / "a.csv.gz"))

    def test_csv_in_another_encoding_with_another_separator(self, tmp_path: Path) -> None:
        (tmp_path / "a.tsv").write_text("text\tkind\nnaïve, café\tbad\n", encoding="latin1")
        data = loaded(tmp_path / "a.tsv", encoding="latin1", delimiter="\t")
        assert list(data.X) == ["naïve, café"]

    def test_json_lines(self, tmp_path: Path) -> None:
        lines = [json.dumps({"kind": kind, "text": text}) for text, kind in zip(TEXTS, KINDS, strict=True)]
        (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
        self.check(loaded(tmp_path / "a.jsonl"))
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
        self.check(loaded(tmp_path / "a.jsonl.gz"))

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
    def test_parquet_file_and_directory(self, tmp_path: Path, kind: pa.DataType) -> None:
        table = pa.table({"id": range(6), "text": pa.array(TEXTS, pa.string()).cast(kind), "kind": KINDS})
        (tmp_path / "many").mkdir()
        for path in (tmp_path / "a.parquet", tmp_path / "many" / "0.parquet"):
            pyarrow.parquet.write_table(table, path)
        self.check(loaded(tmp_path / "a.parquet"))
        self.check(loaded(tmp_path / "many"))

    def test_groups_and_a_target_of_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("text,stars,author\ngood,5,ann\nbad,1,bob\n")
        data = loaded(tmp_path / "a.csv", target="stars", groups="author")
        assert list(data.y) == [5, 1]
        assert list(data.groups) == ["ann", "bob"]

    def test_a_directory_for_each_class_as_scikit_learn_reads_it(self, tmp_path: Path) -> None:
        for number, (text, kind) in enumerate(zip(TEXTS, KINDS, strict=True)):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{number}.txt").write_text(text, encoding="utf-8")
        (tmp_path / "README").write_text("not a class")
        data = TextFile(path=str(tmp_path)).load()
        theirs = load_files(tmp_path, encoding="utf-8", shuffle=False)
        assert list(data.X) == theirs.data
        assert list(data.y) == [theirs.target_names[number] for number in theirs.target]

    def test_hidden_files_are_no_texts(self, tmp_path: Path) -> None:
        (tmp_path / "good").mkdir()
        (tmp_path / "good" / "1").write_text("fine")
        (tmp_path / "good" / ".1.swp").write_bytes(b"\xff")
        (tmp_path / ".git").mkdir()
        assert list(TextFile(path=str(tmp_path)).load().X) == ["fine"]


class TestDamagedFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", "", "is empty"),
            ("a.csv", "text,kind\n", "has no rows"),
            ("a.csv", "Text,kind\na,b\n", "data.text=text: .* has no such column\n  did you mean 'Text'"),
            ("a.csv", "text,kinds\na,b\n", "data.target=kind: .* has no such column\n  did you mean 'kinds'"),
            (
                "a.csv",
                "text;kind\na;b\n",
                "data.text=text, data.target=kind: .* no such columns\n.* 'text;kind'.*\n.*separator another one",
            ),
            ("a.csv", "text,text,kind\na,b,c\n", "duplicate column names: text"),
            ("a.csv", "text,kind\n1,a\n2,b\n", "column 'text' contains no text: its type is int64, for example 1\n"),
            ("a.csv", "text,kind\n2026-01-01,a\n", "column 'text' contains no text: its type is date32"),
            (
                "a.csv",
                "text,kind\nfine,a\n,b\n,c\n",
                "2 of 3 texts are missing, the first in row 1\n  remove those rows",
            ),
            ("a.csv", "text,kind\n,a\n,b\n", "2 of 2 texts are missing, the first in row 0"),
            (
                "a.csv",
                "text,kind\nwell, well,a\n",
                'Expected 2 columns, got 3(.|\n)*separator(.|\n)*in "quotes"',
            ),
            ("a.jsonl", "", "is empty"),
            ("a.jsonl", '[{"text": "a", "kind": "b"}]', "is one JSON array, not JSON Lines\n.*one object on each line"),
            ("a.jsonl", '{"text": "a", "kind": "b"}\n{"text": "a', "cannot be read: JSON parse error"),
            (
                "a.jsonl",
                '{"text": "a", "kind": "b"}\n{"text": 3, "kind": "b"}',
                "changed from string to number in row 1",
            ),
            ("a.jsonl", '{"text": "a", "kind": "b"}\n{"kind": "b"}', "1 of 2 texts are missing, the first in row 1"),
            ("a.jsonl", '{"text": ["a"], "kind": "b"}', "column 'text' contains no text: its type is list"),
            ("a.parquet", "PAR1 cut", "cannot be read"),
        ],
    )
    def test_told(self, tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError, match=message) as caught:
            loaded(path)
        assert str(path) in str(caught.value)

    def test_a_file_that_is_not_in_the_encoding_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "good").mkdir()
        (tmp_path / "good" / "7.txt").write_text("café", encoding="latin1")
        with pytest.raises(DataError, match=r"good/7.txt: is not in utf-8: .* at byte 3\n.*data.encoding=latin1"):
            TextFile(path=str(tmp_path), encoding="utf-8").load()
        with pytest.warns(UserWarning, match=r"1 text is not in UTF-8, and read as cp1252 or latin1 .*7.txt"):
            assert list(TextFile(path=str(tmp_path)).load().X) == ["café"]
        assert list(TextFile(path=str(tmp_path), encoding="latin1").load().X) == ["café"]

    def test_a_csv_that_is_not_in_the_encoding_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("text,kind\ncafé,a\n", encoding="utf-8")
        with pytest.raises(
            DataError, match=r"a.csv: cannot be read: .*ascii.* can't decode(.|\n)*data.encoding=latin1"
        ):
            loaded(tmp_path / "a.csv", encoding="ascii")

    def test_directories_that_hold_no_texts(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"neither directories of texts nor tables"):
            TextFile(path=str(tmp_path)).load()
        (tmp_path / "good").mkdir()
        with pytest.raises(DataError, match="good: contains no texts"):
            TextFile(path=str(tmp_path)).load()
        (tmp_path / "good" / "deeper").mkdir()
        with pytest.raises(DataError, match="good/deeper: cannot be read: Is a directory"):
            TextFile(path=str(tmp_path)).load()

    def test_a_missing_file(self) -> None:
        with pytest.raises(DataError, match=r"/no/such.csv: cannot be read: No such file or directory"):
            loaded(Path("/no/such.csv"))

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"path": ""}, "data.path is empty"),
            ({"encoding": "utf-9"}, "data.encoding=utf-9: unknown"),
            ({"target": "text"}, "data.target=text: is also the column of texts"),
            ({"groups": "text"}, "data.groups=text: is also the column of texts"),
        ],
    )
    def test_keys_that_cannot_be_right(self, keys: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            TextFile(**{"path": "a.csv", **keys})

    def test_a_directory_has_no_columns(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"data.target=kind: .* is a directory of texts and has no columns"):
            loaded(tmp_path)


class MyVectorizer(TransformerMixin, BaseEstimator):
    """A user's vectorizer without the tag for text input."""

    def fit(self, X: Any, y: Any = None) -> MyVectorizer:
        return self

    def transform(self, X: Any) -> Any:
        return np.array([[len(text)] for text in X])


class MyClassifier(ClassifierMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> MyClassifier:
        return self


WORDS = Dataset(X=np.array(["good stuff", "bad stuff"] * 10, dtype=object), y=["good", "bad"] * 10, name="words")
IRIS = Dataset(X=load_iris().data, y=load_iris().target, name="iris")


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (WORDS, SVC(), "words: its samples are texts, and SVC takes numbers\n  use model=text_sgd"),
        (WORDS, make_pipeline(StandardScaler(), SVC()), "StandardScaler, the model's first step, takes numbers"),
        (WORDS, make_pipeline(TfidfTransformer(), SVC()), "TfidfTransformer, the model's first step, takes numbers"),
        (WORDS, make_pipeline("passthrough", SVC()), "SVC, the model's first step, takes numbers"),
        (WORDS, make_pipeline(OneHotEncoder(), SVC()), "OneHotEncoder, the model's first step, takes numbers"),
        (WORDS, make_pipeline(make_union(StandardScaler()), SVC()), "FeatureUnion, the model's first step, takes num"),
        (
            IRIS,
            make_pipeline(HashingVectorizer(), SVC()),
            "iris: its samples are numbers, and HashingVectorizer, the m",
        ),
        (IRIS, make_pipeline(make_union(TfidfVectorizer(), CountVectorizer()), SVC()), "FeatureUnion, .* takes texts"),
        (IRIS, make_pipeline(make_pipeline(CountVectorizer()), SVC()), "CountVectorizer, .* takes texts\n.*model=svc"),
        (WORDS, make_pipeline(HashingVectorizer(), SVC()), None),
        (WORDS, make_pipeline(make_union(TfidfVectorizer(), MyVectorizer()), SVC()), None),
        (WORDS, make_pipeline(MyVectorizer(), SVC()), None),
        (IRIS, make_pipeline(MyVectorizer(), SVC()), None),
        (WORDS, make_pipeline(FunctionTransformer(), SVC()), None),
        (WORDS, DummyClassifier(), None),
        (IRIS, DummyClassifier(), None),
        (WORDS, MyClassifier(), None),
        (WORDS, CalibratedClassifierCV(make_pipeline(HashingVectorizer(), SVC())), None),
    ],
)
def test_texts_go_with_models_of_texts_and_numbers_with_the_others(
    data: Dataset, model: Any, message: str | None
) -> None:
    if message is None:
        check_data(data, model)
        return
    with pytest.raises(DataError, match=message):
        check_data(data, model)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["", " ", "\n", "\t"], "abab", "t: all 4 texts are empty"),
        (["so", "so"], "aa", "only one class in the target: a"),
        (["so", "so"], None, "needs a target, and there is none"),
        (["so", None], "ab", "1 of 2 samples are not text, the first is sample 1: None"),
        (["so", 3], "ab", "1 of 2 samples are not text, the first is sample 1: 3"),
    ],
)
def test_texts_that_no_model_can_learn_from(X: list[Any], y: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_data(
            Dataset(X=np.array(X, dtype=object), y=None if y is None else list(y), name="t"),
            make_pipeline(HashingVectorizer(), SGDClassifier()),
        )


def test_a_regressor_takes_texts_too() -> None:
    data = Dataset(X=WORDS.X, y=np.arange(20) / 7)
    check_data(data, make_pipeline(HashingVectorizer(), Ridge()))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def some_texts(n: int = 90) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    words = np.array(["sun", "rain", "ball", "goal", "vote", "law", "the", "and", "of"])
    y = np.arange(n) % 3
    X = [" ".join(random.choice(np.r_[words[2 * kind : 2 * kind + 2], words], 12)) for kind in y]
    return np.array(X, dtype=object), np.array(["weather", "sport", "politics"])[y]


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (
            pipeline(
                vect=HashingVectorizer(n_features=2**12), tfidf=TfidfTransformer(), clf=SGDClassifier(random_state=0)
            ),
            {"tfidf__use_idf": [True, False], "clf__alpha": [1e-3, 1e-5]},
        ),
        (make_pipeline(CountVectorizer(), MultinomialNB()), {"countvectorizer__ngram_range": [(1, 1), (1, 2)]}),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), {"logisticregression__C": [0.1, 10]}),
    ],
)
def test_a_search_on_texts_gives_what_scikit_learn_gives(cluster: Cluster, model: Any, grid: dict[str, Any]) -> None:
    X, y = some_texts()
    given = Inputs(Dataset(X=X, y=y), model, 0)
    workload = Search(grid=grid)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    serial = GridSearchCV(model, grid, cv=3).fit(train, y_train)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(outcome.tables["cv_results"][name], serial.cv_results_[name])
    assert outcome.metrics["best_index"] == serial.best_index_
    np.testing.assert_array_equal(outcome.model.predict(test), serial.predict(test))
    assert outcome.metrics["test_scores"]["score"] == serial.score(test, y_test)
