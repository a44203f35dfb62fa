# Every target sets itself up: a fresh clone needs nothing but Python (3.10 or later) and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
OLDEST_PYTHON ?= python3.10
OLDEST_VENV := $(VENV)-oldest
OLDEST_BIN := $(OLDEST_VENV)/bin
OLDEST_INSTALLED := $(OLDEST_VENV)/.installed
# What a benchmark or a test measures is one thread's work.
export OMP_NUM_THREADS ?= 1
# EnvPool is large: tests of it are skipped where it is missing.
EXTRAS ?= dev
# Processors that LLVM knows, for whose instructions test-processors compiles.
PROCESSORS ?= generic haswell skylake-avx512 znver3

.DEFAULT_GOAL := help
.PHONY: help install constraints demo test test-pythons test-processors test-long test-mutations coverage test-oldest audit lint format typecheck bench bench-speed bench-learning bench-search bench-comparison bench-wrappers bench-streams bench-live bench-pqn bench-devices docs numbers release-check seed-page gallery bench-minatar bench-masks clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Set up the virtual environment in .venv

# torch first and by its exact version: left to pip, another package's looser wish may bring in a
# build with gigabytes of CUDA libraries. pip, because uv does not read pip's configuration, which
# may say where torch's small build is. Box2D has no wheel for Python 3.14 yet: pip builds it, with
# a C++ compiler and with swig, which has to be there before.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 14))'; then \
		command -v c++ >/dev/null || { echo "Python 3.14 builds Box2D, which needs a C++ compiler:" \
		"apt install g++, or on a Mac xcode-select --install. Or take an older Python:" \
		"make clean, then make install PYTHON=python3.13"; exit 1; }; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check swig; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

# For every Python from 3.10 on. What is in the file is kept where it can be; UPGRADE=--upgrade takes
# the newest. CUDA's libraries are left out, which torch's build on PyPI brings by itself.
constraints:  ## Choose the versions in constraints.txt anew
	@test -x $(VENV)-uv/bin/uv || { $(PYTHON) -m venv $(VENV)-uv && \
		$(VENV)-uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	$(VENV)-uv/bin/uv pip compile --quiet --universal --python-version 3.10 --all-extras $(UPGRADE) \
		--no-header --no-annotate --output-file constraints.txt pyproject.toml
	@sed -i.before -e '/^\(cuda\|nvidia\|triton\)/d' -e '1i\
	# Written by `make constraints`: one tested set of versions, for Python 3.10 to 3.14.' constraints.txt
	@rm constraints.txt.before

demo: $(INSTALLED)  ## Train NaiveDQN and StreamQ beside SB3's DQN on LunarLander, plot, record videos
	$(BIN)/dqn-plugins compare --config examples/configs/demo.yaml $(DEMO_ARGS)
	@echo "Watch it learn: $(BIN)/dqn-plugins watch --env LunarLander-v3 --algo stream_q --algo naive_dqn --open"

# The live page in a browser comes last and alone: beside other tests it would miss its deadlines.
# pytest's 5 says that PYTEST_ARGS chose none of these tests.
test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long and not browser" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m browser $(or $(PYTEST_ARGS),tests/wrappers/live) || test $$? -eq 5

# Each in an environment and a folder of its own. PYTHONS="path/to/python3.10 ..." where they are not
# on the path.
test-pythons:  ## Run the demo and the tests with every Python that README names
	for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1; \
		echo "== Python $$version"; \
		$(MAKE) demo test PYTHON=$$python VENV=$(VENV)-$$version DEMO_ARGS="--out runs/demo-$$version" || exit 1; \
	done

# What this processor cannot do is left out of the code for the others, so all of them run on any
# machine of their family. torch's vector extensions are turned off last.
test-processors: $(INSTALLED)  ## Run the tests that learn, as on other processors
	for processor in $(PROCESSORS); do \
		echo "== compiled for $$processor"; \
		NUMBA_CPU_NAME=$$processor NUMBA_CACHE_DIR=build/numba/$$processor \
			$(BIN)/python -m pytest -n auto --dist worksteal -m numerics -q $(PYTEST_ARGS) || exit 1; \
	done
	@echo "== torch without vector extensions"
	ATEN_CPU_CAPABILITY=default NUMBA_CACHE_DIR=build/numba/native \
		$(BIN)/python -m pytest -n auto --dist worksteal -m numerics -q $(PYTEST_ARGS)

# SB3=path/to/stable-baselines3 also runs the tests of that checkout, with our algorithms as its DQN.
test-long: $(INSTALLED)  ## Run what takes hours: 5,000 examples of each property, and long tests
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -n auto --dist worksteal tests/properties $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "long or slow" $(PYTEST_ARGS)
	$(if $(SB3),$(BIN)/python -m tests.sb3_suite $(SB3))

test-mutations: $(INSTALLED)  ## Break the package on purpose, and see that the tests notice
	$(BIN)/python tests/mutations/run.py

# Once as it is, and once with the compiled code as plain Python, of which coverage sees the lines.
coverage: $(INSTALLED)  ## Measure which branches the tests run
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report= $(PYTEST_ARGS)
	NUMBA_DISABLE_JIT=1 HYPOTHESIS_PROFILE=few $(BIN)/python -m pytest -n auto --dist worksteal \
		--cov --cov-append --cov-report= tests/properties tests/dqn_plugins/algorithms/test_bad_input.py \
		tests/dqn_plugins/algorithms/test_stream_q.py $(PYTEST_ARGS)
	$(BIN)/python -m coverage report --fail-under=95

# Oldest versions, oldest Python: OLDEST_PYTHON=path/to/python3.10 where it is not on the path.
test-oldest: $(OLDEST_INSTALLED)  ## Run the tests with the oldest versions that pyproject.toml allows
	$(OLDEST_BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# swig first and on the path: the oldest Gymnasium builds Box2D from source. setuptools is what
# pyproject.toml builds with: an old Python brings an old one. uv, because pip does not find in an
# hour which versions of the rest go with these; uv does in a minute. Newer pyparsings have the oldest
# matplotlib warn.
$(OLDEST_INSTALLED): pyproject.toml setup.cfg constraints-oldest.txt
	test -x $(OLDEST_BIN)/python || $(OLDEST_PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_BIN)/python -m pip install --quiet --disable-pip-version-check swig wheel uv "setuptools>=77,<80"
	PATH="$(abspath $(OLDEST_BIN)):$$PATH" $(OLDEST_BIN)/uv pip install --quiet --python $(OLDEST_BIN)/python --constraint constraints-oldest.txt --editable ".[test]" "pyparsing<3.3"
	@touch $@

# An environment of its own, so that what checks the dependencies is none of them.
audit:  ## Look up known vulnerabilities of the versions in constraints.txt
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@$(VENV)-audit/bin/python -c "import requests; requests.get('https://api.osv.dev', timeout=20)" \
		2>/dev/null || { echo "audit: NOTHING WAS CHECKED, because the vulnerability database" \
		"at https://api.osv.dev cannot be reached. Run it where the network allows."; exit 1; }
	$(VENV)-audit/bin/pip-audit --strict --vulnerability-service osv --no-deps --disable-pip \
		--requirement constraints.txt

lint: $(INSTALLED)  ## Check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Correct style with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy does not know setup.cfg's package map, so it is shown the packages as they are imported.
typecheck: $(INSTALLED)  ## Check types with mypy
	rm -rf build/typecheck/dqn_plugins && mkdir -p build/typecheck/dqn_plugins
	ln -s $(CURDIR)/dqn_plugins/* $(CURDIR)/policies $(CURDIR)/wrappers build/typecheck/dqn_plugins/
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p dqn_plugins

bench: bench-speed bench-learning bench-comparison bench-wrappers bench-streams bench-pqn bench-live bench-devices  ## Run all benchmarks but those of search, MinAtar and masks

bench-speed: $(INSTALLED)  ## Measure steps per second and memory
	$(BIN)/python benchmarks/speed.py

bench-learning: $(INSTALLED)  ## Measure what StreamQ learns with its defaults (resumable)
	$(BIN)/python benchmarks/learning.py

bench-search: $(INSTALLED)  ## Measure other settings than StreamQ's defaults (resumable)
	$(BIN)/dqn-plugins compare --config benchmarks/search/space.yaml --out runs/search
	cp runs/search/summary.csv benchmarks/search/results.csv

bench-comparison: $(INSTALLED)  ## Measure what dqn-plugins compare costs over its bare runs
	$(BIN)/python benchmarks/comparison.py

bench-streams: $(INSTALLED)  ## Measure what many environments buy (resumable)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[envpool]"
	$(BIN)/python -W ignore benchmarks/streams.py

# CLEANRL=path/to/pqn.py of a checkout of CleanRL measures that, too.
bench-pqn: $(INSTALLED)  ## Measure PQN against SB3's PPO, StreamQ and CleanRL's script (resumable)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[envpool]"
	$(BIN)/python -W ignore benchmarks/pqn.py $(if $(CLEANRL),--cleanrl $(CLEANRL))

bench-wrappers: $(INSTALLED)  ## Measure the recording wrappers
	$(BIN)/python -W ignore benchmarks/wrappers.py

bench-live: $(INSTALLED)  ## Measure the live page: what it costs, and who can watch at once
	$(BIN)/python -W ignore benchmarks/live.py

bench-devices: $(INSTALLED)  ## Measure the time of single steps, worst of a million, and memory (resumable)
	$(BIN)/python -W ignore benchmarks/devices.py

release-check: $(INSTALLED)  ## Build wheel and sdist, and run the quickstart from each in an empty environment
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m pytest tests/test_packaging.py -m long -n 0 $(PYTEST_ARGS)

docs: $(INSTALLED)  ## Build the site into build/site; a warning or a broken link is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/site
	@echo "Open build/site/index.html"

numbers: $(INSTALLED)  ## Write what the benchmarks measured into README and the pages
	$(BIN)/python docs/write_numbers.py

seed-page: $(INSTALLED)  ## Run the notebook and write it, with what it drew, into docs/seed.md
	$(BIN)/python -W ignore docs/execute_notebook.py

gallery: $(INSTALLED)  ## Train every algorithm on every environment shown, and draw the gallery (resumable)
	$(BIN)/python -W ignore docs/make_gallery.py

bench-minatar: $(INSTALLED)  ## Measure what is learned of MinAtar from images (resumable); MINATAR="--frames 5000000"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[minatar]"
	nice -n 19 $(BIN)/python -W ignore benchmarks/minatar_games.py $(MINATAR)

# MASKS="--steps 1000000" counts over more steps.
bench-masks: $(INSTALLED)  ## Count impossible actions, and measure what masks do for Taxi
	$(BIN)/python -W ignore benchmarks/masks.py $(MASKS)

clean:  ## Remove everything that can be made again
	rm -rf $(VENV) $(OLDEST_VENV) $(VENV)-audit $(VENV)-uv $(VENV)-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
