# `make demo` and `make test` need Python >= 3.11 and pip; both install into .venv, once.
PYTHON ?= python3
VENV ?= .venv
# Test processes side by side; each may start two workers.
JOBS ?= 2
# More arguments for pytest.
PYTEST_ARGS ?=

BIN := $(VENV)/bin
RECIPE := egs3/mini_an4/asr
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-only test-clusters test-clusters-all test-gpu lint bench docs clean

help:
	@echo "make demo   decode real speech with the mini_an4 recipe and show its WER table"
	@echo "make test   lint, types and tests, with coverage"
	@echo "make test-clusters  tests on real schedulers, which it installs and starts: as root, with LAB=1"
	@echo "make test-clusters-all  the same, and OAR"
	@echo "make test-gpu  tests on real GPUs, where PyTorch is installed in $(VENV)"
	@echo "make bench  the benchmarks under benchmarks/"
	@echo "make docs   build the documentation into site/"
	@echo "make clean  remove what these made, the environment included"
	@echo "Another interpreter: make test PYTHON=python3.12"

demo: $(VENV)/.with-asr
	cd $(RECIPE) && $(abspath $(BIN))/python run.py --stages create_dataset infer measure \
		--training_config conf/training.yaml --inference_config conf/inference.yaml \
		--metrics_config conf/metrics.yaml

test: lint test-only

lint: $(VENV)/.with-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-only: $(VENV)/.with-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov $(PYTEST_ARGS)

test-clusters: $(VENV)/.with-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile -m clusters $(PYTEST_ARGS) tests/clusters

test-clusters-all: $(VENV)/.with-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "clusters or more_clusters" tests/clusters

test-gpu: $(VENV)/.with-dev
	$(BIN)/python -m pytest -m gpu tests/gpu

bench: $(VENV)/.with-bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.with-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv* build dist site .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(RECIPE)/data $(RECIPE)/exp
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that an interrupted installation is done again.
$(VENV)/.with-%: $(VENV)/.created pyproject.toml
	@echo "Installing espnet3[$*] and its dependencies into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "espnet3 needs Python >= 3.11, and $(PYTHON) is not:" \
			"name another one, as in \`make $(MAKECMDGOALS) PYTHON=python3.12\`"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)"; \
		exit 1; }
	@touch $@
