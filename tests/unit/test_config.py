"""From the command line to objects: presets, overrides and error messages."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from hpcml.config.compose import compose
from hpcml.config.composed import Composed
from hpcml.errors import ConfigError
from hpcml.spec import AllocationSpec, LocalSpec, PbsSpec, RunSpec, SlurmSpec


def composed(*args: str) -> Composed:
    found = compose("hpcml run", args)
    assert found is not None
    return found


def build(*args: str) -> RunSpec:
    return composed(*args).build()


def test_defaults_build() -> None:
    spec = build()
    assert isinstance(spec.model, SVC)
    assert spec.workload.grid is None


def test_the_main_experiment() -> None:
    spec = build("experiment=digits_svc")
    assert spec.workload.grid == {
        "C": [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10],
        "kernel": ["rbf", "poly", "sigmoid"],
        "shrinking": [True, False],
    }
    assert (spec.workload.cv, spec.workload.refit, spec.workload.test_size) == (3, True, 0.25)


def test_an_experiments_grid_is_replaced_not_merged() -> None:
    assert build("experiment=digits_svc", "workload.grid={C: [1, 2]}").workload.grid == {"C": [1, 2]}
    assert build("experiment=digits_svc", "workload.grid={gamma: [1]}").workload.grid == {"gamma": [1]}


def test_a_list_of_grids_is_replaced_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nworkload:\n  grid: [{C: [1]}, {gamma: [2]}]\n"
    )
    args = ["--config-dir", str(tmp_path), "experiment=mine", "workload.grid={C: [3]}"]
    assert build(*args).workload.grid == {"C": [3]}


def test_a_mapping_sets_parameters_of_a_class() -> None:
    assert build("model=scaled_svc", "model.svc={C: 3}").model["svc"].C == 3


@pytest.mark.parametrize("chosen", [(), ("model=custom",), ("experiment=digits_svc", "workload.grid=null")])
def test_a_mapping_with_a_class_replaces_an_option(chosen: tuple[str, ...]) -> None:
    steps = "[{_target_: sklearn.preprocessing.StandardScaler}, {_target_: sklearn.svm.NuSVC, nu: 0.2}]"
    model = build(*chosen, f"model={{_target_: sklearn.pipeline.make_pipeline, _args_: {steps}}}").model
    assert isinstance(model, Pipeline)
    assert isinstance(model[-1], NuSVC)
    assert model[-1].nu == 0.2


def test_a_sweep_of_hydra_in_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"workload.grid: range\(...\) is for several runs in Hydra") as error:
        build("workload.grid={C:range(1,5)}")
    assert error.value.hints == ("write the values as a list: [1, 2, 3, 4]",)


def test_null_and_text_come_through_a_grid() -> None:
    spec = build("model=random_forest", "workload.grid={max_depth: [3, null], criterion: [gini, 'log_loss']}")
    assert spec.workload.grid == {"max_depth": [3, None], "criterion": ["gini", "log_loss"]}


def test_distributions_are_built() -> None:
    spec = build("workload.method=random", "workload.grid={C: {_target_: scipy.stats.loguniform, a: 0.1, b: 10}}")
    assert spec.workload.grid["C"].support() == (0.1, 10)


def test_splitters_and_scorers_are_built() -> None:
    spec = build(
        "workload.cv={_target_: sklearn.model_selection.KFold, n_splits: 5}",
        "workload.scoring={f: {_target_: sklearn.metrics.make_scorer, "
        "score_func: {_target_: sklearn.metrics.fbeta_score, _partial_: true, beta: 2, average: macro}}}",
        "workload.refit=f",
    )
    assert spec.workload.cv.get_n_splits() == 5
    assert callable(spec.workload.scoring["f"])


@pytest.mark.parametrize(
    "path",
    [
        "~/a.csv",
        "été.csv",
        "q'q.csv",
        "a#b$c.csv",
        "x=y.csv",
        "a,b (1).csv",
        'say "hi".csv',
        "back\\slash",
        "/x y/z.csv",
    ],
)
def test_values_are_taken_literally(path: str) -> None:
    assert composed("data=csv", f"data.path={path}").config["data"]["path"] == path


class TestPresetsDoNotLeak:
    def test_another_class_gets_its_own_defaults(self) -> None:
        model = build("model._target_=sklearn.ensemble.RandomForestClassifier").model
        assert isinstance(model, RandomForestClassifier)
        assert model.get_params() == RandomForestClassifier(random_state=0).get_params()

    def test_values_set_by_the_user_stay(self) -> None:
        model = build("model=svc", "model._target_=sklearn.svm.NuSVC", "model.kernel=poly", "+model.nu=0.3").model
        assert model.get_params() == NuSVC(kernel="poly", nu=0.3, random_state=0).get_params()

    def test_a_step_of_a_pipeline(self) -> None:
        model = build("model=scaled_svc", "model.svc._target_=sklearn.svm.NuSVC").model
        assert isinstance(model, Pipeline)
        assert model["svc"].get_params() == NuSVC(random_state=0).get_params()

    def test_values_set_by_an_experiment_stay_even_if_equal_to_the_preset(self, tmp_path: Path) -> None:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "mine.yaml").write_text(
            "# @package _global_\ndefaults:\n  - override /model: svc\n"
            "model:\n  _target_: sklearn.svm.NuSVC\n  kernel: rbf\n"
        )
        found = composed("--config-dir", str(tmp_path), "experiment=mine").config["model"]
        assert found == {"_target_": "sklearn.svm.NuSVC", "kernel": "rbf"}

    def test_a_users_own_preset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.yaml").write_text("_target_: sklearn.svm.SVC\ngamma: 2\nC: 3\n")
        other = ("model=mine", "model._target_=sklearn.svm.LinearSVC", "+model.tol=1")
        assert composed("--config-dir", str(tmp_path), *other).config["model"] == {
            "_target_": "sklearn.svm.LinearSVC", "tol": 1
        }  # fmt: skip
        monkeypatch.setenv("HPCML_CONFIG_DIR", str(tmp_path))
        assert composed("model=mine").config["model"]["gamma"] == 2

    def test_two_config_directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("one", "two"):
            (tmp_path / name / "model").mkdir(parents=True)
            (tmp_path / name / "model" / f"{name}.yaml").write_text(f"_target_: sklearn.svm.SVC\nC: {len(name)}\n")
        monkeypatch.setenv("HPCML_CONFIG_DIR", str(tmp_path / "one"))
        for name in ("one", "two"):
            assert composed("--config-dir", str(tmp_path / "two"), f"model={name}").choices["model"] == name

    def test_cfg_shows_the_resolved_config(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert compose("hpcml run", ["--cfg", "job", "-p", "model", "model._target_=sklearn.svm.LinearSVC"]) is None
        assert capsys.readouterr().out == "_target_: sklearn.svm.LinearSVC\n"

    def test_the_same_class_keeps_the_preset(self) -> None:
        assert build("model=scaled_svc", "model.svc.C=3").model["svc"].C == 3

    def test_data_and_workload(self) -> None:
        assert composed("data=csv", "data._target_=sklearn.datasets.load_iris").config["data"] == {
            "_target_": "sklearn.datasets.load_iris"
        }


def test_the_seed_is_passed_to_a_model_without_its_own() -> None:
    assert build("seed=7").model.random_state == 7
    assert build("seed=7", "+model.random_state=3").model.random_state == 3
    assert build("seed=7", "model=logistic").model["logistic"].random_state == 7
    assert isinstance(build("model=custom", "model._target_=sklearn.naive_bayes.GaussianNB").model, GaussianNB)


def test_scratch_is_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert composed().config["scratch"] == str(tmp_path / "runs")
    monkeypatch.setenv("SCRATCH", "/scratch/ab12/me")
    assert composed().config["scratch"] == "/scratch/ab12/me"
    monkeypatch.setenv("HPCML_SCRATCH", "/other")
    assert composed().config["scratch"] == "/other"
    assert composed("scratch=here").config["scratch"] == str(tmp_path / "here")


def test_a_users_own_option(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    own = tmp_path / "cluster" / "mine.yaml"
    own.write_text("defaults: [local]\nworkers: 3\n")
    assert build("--config-dir", str(tmp_path), "cluster=mine").cluster.workers == 3
    own.write_text("defaults: [local]\nworker: 3\n")
    with pytest.raises(ConfigError, match=r"cluster/mine.yaml: there is no key .*\n  did you mean 'workers'"):
        build("--config-dir", str(tmp_path), "cluster=mine")
    own.write_text("workers: 3\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: does not say which kind .*\n  begin it with `defaults: \[local"):
        build("--config-dir", str(tmp_path), "cluster=mine")


SITE = "name: Mine\nsource: me\nqueues:\n  batch: {ncpus: 16, mem: 64GB}\n"


@pytest.mark.parametrize("by", ["--config-dir", "HPCML_CONFIG_DIR"])
def test_a_site_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    (tmp_path / "site").mkdir()
    own = tmp_path / "site" / "mine.yaml"
    where = [] if by == "HPCML_CONFIG_DIR" else [by, str(tmp_path)]
    if not where:
        monkeypatch.setenv(by, str(tmp_path))
    own.write_text(SITE)
    site = build(*where, "site=mine", "cluster.project=ab12").site
    assert site is not None
    assert (site.queues["batch"].ncpus, site.dialect, site.queues["batch"].ncpus_multiple) == (16, "select", 1)
    for typo, near in (("ncpuss: 16", "ncpus"), ("tiers: [{walltme: 1}]", "walltime")):
        own.write_text(SITE.replace("ncpus: 16", typo))
        with pytest.raises(ConfigError, match=rf"site/mine.yaml: there is no key '.*\n  did you mean '{near}'"):
            build(*where, "site=mine")
    own.write_text(SITE.replace("name:", "nmae:"))
    with pytest.raises(ConfigError, match=r"there is no key 'site.nmae'\n  did you mean 'name'"):
        build(*where, "site=mine")
    own.write_text(SITE.replace("64GB", "much"))
    with pytest.raises(ConfigError, match=r"site\.queues\.batch\.mem=much: not a size"):
        build(*where, "site=mine")
    own.write_text(SITE.replace("name: Mine\n", ""))
    with pytest.raises(ConfigError, match=r"site\.name is not set"):
        build(*where, "site=mine")


def test_a_users_option_cannot_shadow_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "gadi.yaml").write_text(SITE)
    with pytest.raises(ConfigError, match=r"gadi.yaml: hpcml has a site=gadi of its own\n  give yours another name"):
        build("--config-dir", str(tmp_path), "site=gadi")


def test_a_missing_config_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCML_CONFIG_DIR", "/no/such")
    with pytest.raises(ConfigError, match="HPCML_CONFIG_DIR=/no/such"):
        build()


class TestSiteMeansItsScheduler:
    def test_pbs_and_slurm(self) -> None:
        assert isinstance(build("site=gadi").cluster, PbsSpec)
        assert isinstance(build("site=generic_slurm").cluster, SlurmSpec)

    def test_unless_a_cluster_is_named(self, tmp_path: Path) -> None:
        assert isinstance(build("site=gadi", "cluster=local").cluster, LocalSpec)
        (tmp_path / "experiment").mkdir()
        own = tmp_path / "experiment" / "mine.yaml"
        own.write_text("# @package _global_\ndefaults:\n  - override /cluster: allocation\n")
        assert isinstance(build("--config-dir", str(tmp_path), "experiment=mine", "site=gadi").cluster, AllocationSpec)

    def test_an_experiment_may_name_the_site(self, tmp_path: Path) -> None:
        (tmp_path / "experiment").mkdir()
        own = tmp_path / "experiment" / "mine.yaml"
        own.write_text("# @package _global_\ndefaults:\n  - override /site: gadi\n")
        assert isinstance(build("--config-dir", str(tmp_path), "experiment=mine").cluster, PbsSpec)
        with own.open("a") as more:
            more.write("cluster:\n  project: ab12\n  jobs: 4\n")
        cluster = build("--config-dir", str(tmp_path), "experiment=mine").cluster
        assert isinstance(cluster, PbsSpec)
        assert (cluster.project, cluster.jobs) == ("ab12", 4)


def test_flags_may_stand_between_overrides(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    spec = build("experiment=mine", "--config-dir", str(tmp_path), "model.C=3")
    assert (spec.seed, spec.model.C) == (7, 3)


def test_optional_groups_may_be_null() -> None:
    spec = build("site=null", "data=null", "experiment=null")
    assert (spec.site, spec.data) == (None, None)


@pytest.mark.parametrize(
    "flags",
    [
        ["--experimental-rerun", "RUN/config.yaml"],
        ["--config-dir", "RUN", "--config-name", "config"],
        ["--config-dir", "RUN"],
    ],
)
def test_the_config_of_a_run_is_rejected_as_a_config_directory(tmp_path: Path, flags: list[str]) -> None:
    """Hydra would ignore another config.yaml than hpcml's and run the default experiment."""
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    manifest = {"run": "20261128T101917-9bfdab", "overrides": ["experiment=sgd_random", "workload.grid={alpha: [1]}"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError) as caught:
        build(*(flag.replace("RUN", str(tmp_path)) for flag in flags))
    command = "hpcml run experiment=sgd_random 'workload.grid={alpha: [1]}'"
    assert f"to start run 20261128T101917-9bfdab again: {command}" in str(caught.value)


def test_a_mapping_accepts_new_names() -> None:
    cluster = build("site=gadi", "cluster.environment.variables={DATA: /g/data/kk7}").cluster
    assert isinstance(cluster, PbsSpec)
    assert cluster.environment.variables == {"DATA": "/g/data/kk7"}


def test_scratch_of_a_site(monkeypatch: pytest.MonkeyPatch) -> None:
    user = getpass.getuser()
    assert composed("site=gadi", "cluster.project=ab12").config["scratch"] == f"/scratch/ab12/{user}/runs"
    monkeypatch.setenv("PROJECT", "cd34")
    assert composed("site=gadi").config["scratch"] == f"/scratch/cd34/{user}/runs"
    assert composed("site=gadi", "cluster=local").config["scratch"] == f"/scratch/cd34/{user}/runs"
    monkeypatch.setenv("HPCML_SCRATCH", "/other")
    assert composed("site=gadi").config["scratch"] == "/other"


def test_hydras_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for args, expected in [
        (["--cfg", "job", "--resolve"], "_target_: sklearn.svm.SVC"),
        (["--cfg", "job", "experiment=digits_svc", "--package", "workload.cv"], "3"),
        (["--cfg", "hydra", "--package", "hydra.run.dir"], "."),
        (["--info", "searchpath"], "pkg://hpcml.conf"),
    ]:
        assert compose("hpcml run", args) is None
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        compose("hpcml run", ["--help"])
    assert "data: blobs" in capsys.readouterr().out


# Arguments, and texts that the message must contain: the value, and the choices or a remedy.
MISTAKES = [
    (["cluster.wokers=2"], ["cluster.wokers=2", "did you mean 'workers'"]),
    (["+cluster.wokers=2"], ["cluster.wokers", "did you mean 'workers'"]),
    (["clutser=local"], ["clutser=local", "did you mean 'cluster'"]),
    (["cluster=locl"], ["cluster=locl", "did you mean 'local'"]),
    (["experiment=digit"], ["experiment=digit", "digits_svc"]),
    (["+foo=1"], ["foo", "choices: cluster, data, head"]),
    (["site=gadu"], ["site=gadu", "did you mean 'gadi'"]),
    (["site=gadi", "cluster.ncpuss=4"], ["cluster.ncpuss", "did you mean 'ncpus'"]),
    (["site=gadi", "+cluster.ncpuss=4"], ["cluster.ncpuss", "did you mean 'ncpus'"]),
    (["site=gadi", "+cluster.environment.venw=x"], ["cluster.environment.venw", "did you mean 'venv'"]),
    (["site=gadi", "+site.queues.normal.rat=1"], ["site.queues.normal.rat", "did you mean 'rate'"]),
    (["site=gadi", "head.wher=here"], ["head.wher", "did you mean 'where'"]),
    (["site=gadi", "head.where=there"], ["head.where=there", "choices: job, here"]),
    (["site=gadi", "site.dialect=flatt"], ["site.dialect=flatt", "flat, select"]),
    (["site=gadi", "site.default_queue=norml"], ["site.default_queue=norml", "did you mean 'normal'"]),
    (["site=gadi", "cluster.jobs=two"], ["cluster.jobs=two", "whole number"]),
    (["cluster.jobs=4"], ["cluster.jobs", "it belongs to cluster=pbs and cluster=slurm; site=... chooses one"]),
    (["site=gadi", "cluster.nodes=4"], ["cluster.nodes", "it belongs to cluster=allocation"]),
    (["site=gadi", "cluster.extra_directives=-m e"], ["wrong type", "wanted: a list"]),
    (["site=gadi", "-P", "ab12"], ["-P: is an option of the batch scheduler", "cluster.project=..."]),
    (["cluster.security=some", "site=gadi"], ["cluster.security=some", "tls, none"]),
    (["C=3"], ["C=3", "perhaps model.C=3"]),
    (["cluster.workers=two"], ["cluster.workers=two", "whole number"]),
    (["seed=abc"], ["seed=abc", "whole number"]),
    (["seed=-1"], ["seed=-1", "between"]),
    (["cluster.workers=0"], ["cluster.workers=0", "1 or more"]),
    (["cluster.memory_limit=lots"], ["cluster.memory_limit=lots", "4GB"]),
    (["cluster.memory_limit=1MB"], ["cluster.memory_limit=1MB", "cluster.memory_limit=1GB"]),
    (["model_format=pickle"], ["model_format=pickle", "skops, joblib"]),
    (["model.max_iter=3"], ["model.max_iter=3", "+model.max_iter=3"]),
    (
        ["model._target_=sklearn.ensemble.RandomForestClassifier", "model.max_depth=3"],
        ["a new parameter needs a plus: +model.max_depth=3"],
    ),
    (["model=scaled_svc", "model.C=3"], ["model has no 'C'", "perhaps model.svc.C=3"]),
    (["model=scaled_svc", "+model.C=3"], ["model.C=3", "model.STEP.C", "scale, svc"]),
    (["model.C=abc", "model=svc", "+model.nope=1"], ["SVC() has no 'nope'"]),
    (["~workload"], ["workload is not set", "type workload=VALUE"]),
    (["--cfg", "job", "--resolve", "scratch=${oc.env:HPCML_TEST_UNSET}"], ["HPCML_TEST_UNSET"]),
    (["--cfg", "job", "--package", "modl.C"], ["--package modl.C", "did you mean 'model'"]),
    (["--info", "config", "model=svcc"], ["model=svcc", "did you mean 'svc'"]),
    (["workload.stratify=no_"], ["workload.stratify=no_", "true or false"]),
    (["workload.refit=3"], ["workload.refit=3", "name of a scorer"]),
    (
        ["data=npy", "data.path=X.npy", "data.targt=y.npy", "data.gropus=g"],
        ["has no", "did you mean 'target'"],
    ),
    (["model.gama=3"], ["SVC() has no 'gama'", "did you mean 'gamma'"]),
    (["+model.gama=3"], ["model.gama", "SVC() has no 'gama'", "did you mean 'gamma'"]),
    (["+model.C=3"], ["+model.C", "type model.C=3"]),
    (["model._target_=sklearn.svm.SVCC"], ["model._target_=sklearn.svm.SVCC", "did you mean 'SVC'"]),
    (["model._target_=sklearn.svmm.SVC"], ["sklearn.svmm.SVC", "did you mean 'svm'"]),
    (["model._target_=nope.SVC"], ["no module named 'nope'"]),
    (["model._target_=not a path"], ["not a dotted path"]),
    (["model=custom"], ["model._target_ is not set", "type model._target_=VALUE"]),
    (["data=csv"], ["data.path is not set", "type data.path=VALUE"]),
    (["data=custom", "data._target_=hpcml.data.ArrayFile"], ["ArrayFile() needs 'path'", "+data.path=VALUE"]),
    (["workload.gird={C: [1]}"], ["workload.gird", "Search() has no 'gird'", "did you mean 'grid'"]),
    (["workload.grid={C: [1"], ["workload.grid={C: [1", "quote"]),
    (["workload.grid.C=[1]"], ["workload.grid is None", "'workload.grid={C: [1]}'"]),
    (["workload.grid=3"], ["workload.grid=3", "for example"]),
    (["workload.grid={C: 3}"], ["workload.grid.C=3", "write [3]"]),
    (["workload.grid={C: []}"], ["workload.grid.C=[]", "empty"]),
    (
        ["workload.grid={C: {_target_: scipy.stats.uniform}}"],
        ["workload.grid.C is a distribution", "workload.method=random"],
    ),
    (["workload.method=gird"], ["workload.method=gird", "did you mean 'grid'"]),
    (["workload.cv=1"], ["workload.cv=1", "2 folds"]),
    (["workload.cv=five"], ["workload.cv='five'", "workload.cv=5"]),
    (["workload.n_iter=0"], ["workload.n_iter=0", "1 or more"]),
    (["workload.test_size=2"], ["workload.test_size=2", "between 0 and 1"]),
    (["workload.error_score=x"], ["workload.error_score='x'", "raise"]),
    (
        ["workload.cv={_target_: sklearn.model_selection.KFold, n_split: 5}"],
        ["workload.cv.n_split", "KFold() has no 'n_split'", "did you mean 'n_splits'"],
    ),
    (["scratch=${oc.env:HPCML_TEST_UNSET}"], ["scratch", "HPCML_TEST_UNSET"]),
    (["--config-dir", "/no/such"], ["/no/such"]),
    (["--multirun", "seed=1,2"], ["--multirun", "loop"]),
    (["experiment=digits_svc", "-m", "model.C=1,2"], ["--multirun", "loop"]),
    (["--run"], ["--run has no effect"]),
    (["--config-name", "mine"], ["--config-name mine", "DIR/GROUP/OPTION.yaml", "--config-dir DIR"]),
    (["--config-path", "/tmp"], ["--config-path /tmp", "DIR/GROUP/OPTION.yaml"]),
    (["--experimental-rerun", "x/config.yaml"], ["--experimental-rerun x/config.yaml"]),
    (["model.C=3", "--frobnicate", "seed=1"], ["hpcml run: unrecognized arguments: --frobnicate", "hpcml run --help"]),
    (["--cfg", "nonsense"], ["invalid choice: 'nonsense'"]),
    (["~seed"], ["~seed: every run needs it", "seed=VALUE"]),
    (["~cluster"], ["~cluster: every run needs it", "cluster=OPTION"]),
    (["cluster=null"], ["~cluster: every run needs it"]),
    (["~head"], ["~head: every run needs it"]),
    (["~nope"], ["there is no 'nope' to delete"]),
]


@pytest.mark.parametrize(("args", "expected"), MISTAKES, ids=lambda value: " ".join(value)[:60])
def test_a_mistake_gets_one_clear_message(args: list[str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(*args)
    message = str(caught.value)
    for text in expected:
        assert text in message
    assert "Traceback" not in message
    assert caught.value.exit_code == 2
