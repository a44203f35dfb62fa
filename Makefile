# Every target sets itself up: a fresh clone needs nothing but Python (3.10 or later) and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What a benchmark or a test measures is one thread's work.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format typecheck bench bench-speed bench-wrappers clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Set up the virtual environment in .venv

# torch first and by its exact version: left to pip, another package's looser wish may bring in a
# build with gigabytes of CUDA libraries.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(INSTALLED)  ## Train NaiveDQN beside SB3's DQN on LunarLander, plot, record videos
	$(BIN)/python examples/compare_with_dqn.py

test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Mend style with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy does not know setup.cfg's package map, so it is shown the packages as they are imported.
typecheck: $(INSTALLED)  ## Check types with mypy
	rm -rf build/typecheck && mkdir -p build/typecheck/dqn_plugins
	ln -s $(CURDIR)/dqn_plugins/* $(CURDIR)/policies $(CURDIR)/wrappers build/typecheck/dqn_plugins/
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p dqn_plugins

bench: bench-speed bench-wrappers  ## Run all benchmarks

bench-speed: $(INSTALLED)  ## Measure steps per second and memory
	$(BIN)/python benchmarks/speed.py

bench-wrappers: $(INSTALLED)  ## Measure the recording wrappers
	$(BIN)/python -W ignore benchmarks/wrappers.py

clean:  ## Remove everything that can be made again
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
