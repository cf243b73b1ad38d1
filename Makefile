# make run and make test each do all the set-up they need, on a machine with Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
NEWEST := .venv-newest
UPSTREAM := hydra-core omegaconf dask distributed dask-jobqueue scikit-learn joblib

.PHONY: run test test-runs test-oldest test-newest test-docker check bench clean

run: $(VENV)/.runtime
	$(BIN)/hpcml run experiment=digits_svc

# Tests of real schedulers mostly wait: those of OpenPBS go beside the others.
LONG := tests/cluster/test_head_jobs.py tests/cluster/test_losses.py
SHORT := tests/cluster --ignore=tests/cluster/test_experiments.py $(LONG:%=--ignore=%)

test: $(VENV)/.dev $(VENV)/.texts
	.ci/slurm
	.ci/openpbs
	.ci/tests $(BIN)/python "tests/unit src" tests/user "$(SHORT) -k 'not openpbs'" "$(SHORT) -k openpbs"

# What takes longer: what is computed; and in jobs of a scheduler every experiment, small, heads, and what is lost.
test-runs: $(VENV)/.dev
	.ci/slurm
	.ci/openpbs
	.ci/tests $(BIN)/python tests/workloads "tests/cluster/test_experiments.py -k 'not openpbs'" \
	  "$(LONG) -k 'not openpbs'" "tests/cluster/test_head_jobs.py -k openpbs" \
	  "tests/cluster/test_experiments.py tests/cluster/test_losses.py -k openpbs"

# What depends on scikit-learn, with the oldest that hpcml takes, and a SciPy of its time; workers that die do not.
BY_SCIKIT_LEARN := block_scores dask_fit fit incremental kmeans newsgroups predict search search_experiments text

test-oldest: $(OLDEST)/.dev
	$(OLDEST)/bin/python -m pytest $(BY_SCIKIT_LEARN:%=tests/workloads/test_%.py) \
	  -k "not kill and not die and not lost and not begins and not workers"

# Unit tests and computations with the newest releases and pre-releases of the packages whose private interfaces hpcml
# uses. Not in .ci/run: what others release must not fail a change of ours. Upgraded each time, and in a step of its own,
# because hpcml itself does not accept Hydra 1.4 yet.
test-newest: $(NEWEST)/.dev
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --pre $(UPSTREAM)
	$(NEWEST)/bin/python -m pip list | grep -i -E '^($(subst $() ,|,$(UPSTREAM))) '
	$(NEWEST)/bin/python -m pytest tests/unit tests/workloads

test-docker: $(VENV)/.dev
	.ci/engine
	HPCML_OPENPBS_IMAGE=$$(.ci/engine image) $(BIN)/python -m pytest tests/docker; status=$$?; .ci/engine stop; exit $$status

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/engine .ci/openpbs .ci/run .ci/slurm .ci/tests docker/install-hpcml docker/*/testbed docker/pbs/install-* scripts/pbs/*.sh scripts/pbs/*.pbs

bench: $(VENV)/.dev
	for benchmark in benchmarks/[!_]*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# Stamps: each set of packages is installed once, and again when what it is made of changes.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hpcml needs Python 3.11 or later; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "this Python cannot make a venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runtime: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(OLDEST)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m venv $(OLDEST)
	grep -v -E '^(scikit-learn|scipy)==' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[test]' \
	  scikit-learn==1.6.1 scipy==1.15.3
	touch $@

$(NEWEST)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Real texts for the tests, which only the source distribution holds: tests/user/test_real_texts.py
$(VENV)/.texts: $(VENV)/.dev
	$(BIN)/python -m pip download --quiet --no-deps --no-binary vaderSentiment --dest $(VENV)/share/hpcml-test vaderSentiment==3.3.2
	touch $@
