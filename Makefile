# make study  - install the package, run the study of the scenes into studies/scenes
# make test   - the same environment with the test tools, then the whole test suite: ten minutes on two cores
# make test-fast - the tests of the files that are quick, and one study of each kind: a minute and a half
# make docs   - the documentation as a site, in build/docs
# make test-lowest - the fast tests in .venv-lowest, with the lowest version of each dependency that pyproject.toml allows
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: help install study test test-fast test-lowest lint docs digits bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "$(PYTHON) is not found: install Python 3.11 or newer, or pass PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())'): Python 3.11 or newer is needed; pass PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	@touch $@

install: $(VENV)/.installed

study: $(VENV)/.installed
	$(BIN)/sigmascope study scenes --out studies/scenes

# One thread of torch for each process of the tests: more would wait for each other.
test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --fast

test-lowest:
	$(MAKE) VENV=.venv-lowest .venv-lowest/bin/python
	.venv-lowest/bin/python tests/lowest.py > .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip --disable-pip-version-check install -q -r .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip --disable-pip-version-check install -q --no-deps -e .
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest --fast -n auto --dist loadfile

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.documented
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

# make digits VENV=.venv-3.12 PYTHON=python3.12 - the numbers of the gold runs under another Python
digits: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python tests/gold.py compare tests/gold.json --only fast --bare --portable

# make bench  - time and memory of the study of the scenes, as in benchmarks/README.md
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/study.py

clean:
	rm -rf $(VENV) .venv-lowest build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
