# make run and make test each do all the set-up they need, on a machine with Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest

.PHONY: run test test-runs test-oldest test-docker check bench clean

run: $(VENV)/.runtime
	$(BIN)/hpcml run experiment=digits_svc

test: $(VENV)/.dev $(VENV)/.texts
	.ci/slurm
	.ci/tests $(BIN)/python "tests/unit src" tests/user \
	  "tests/cluster --ignore=tests/cluster/test_head_jobs.py --ignore=tests/cluster/test_experiments.py"

# What takes longer: what is computed; and in jobs of a scheduler every experiment, small, and heads.
test-runs: $(VENV)/.dev
	.ci/slurm
	.ci/tests $(BIN)/python tests/workloads tests/cluster/test_experiments.py tests/cluster/test_head_jobs.py

# What is computed, with the oldest scikit-learn that hpcml takes, and a SciPy of its time.
test-oldest: $(OLDEST)/.dev
	$(OLDEST)/bin/python -m pytest tests/workloads

test-docker: $(VENV)/.dev
	.ci/engine
	$(BIN)/python -m pytest tests/docker; status=$$?; .ci/engine stop; exit $$status

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run .ci/slurm .ci/tests .ci/engine docker/install-hpcml docker/*/testbed docker/pbs/install-* scripts/pbs/*.sh scripts/pbs/*.pbs

bench: $(VENV)/.dev
	for benchmark in benchmarks/[!_]*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

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

# Real texts for the tests, which only the source distribution holds: tests/user/test_real_texts.py
$(VENV)/.texts: $(VENV)/.dev
	$(BIN)/python -m pip download --quiet --no-deps --no-binary vaderSentiment --dest $(VENV)/share/hpcml-test vaderSentiment==3.3.2
	touch $@
