# make study  - install the package, run the study of the scenes into studies/scenes
# make test   - the same environment with the test tools, then the whole test suite: ten minutes on two cores
# make test-fast - the tests of the files that are quick, and one study of each kind: a minute and a half
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: help install study test test-fast lint bench clean

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

install: $(VENV)/.installed

study: $(VENV)/.installed
	$(BIN)/sigmascope study scenes --out studies/scenes

# One thread of torch for each process of the tests: more would wait for each other.
test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --fast

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/mypy

# make bench  - time and memory of the study of the scenes, as in benchmarks/README.md
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/study.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
