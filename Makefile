# make demo   a check, a diff and a really started rewritten launch, on the CPU
# make test   style, types and every test, with what they need installed; one process per core runs them (JOBS=1)
# make clean test RELEASES= VENV=.venv-newest   the same with the newest release of every library (docs/upgrading.md)
# make core   the tests that need the core alone, with any Python: make core PYTHON=python3.13 VENV=.venv-core
# make coverage  which lines of preflight/ and hooks/ the core tests reach, in this process
# make site   the pages of docs/ as a site with a search, in build/site; a link that leads nowhere fails it
# make clean  forget the virtual environment and caches

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test lint types pytest core coverage site system clean

PYTHON ?= python3
JOBS ?= $(shell nproc)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The releases that tables and expected texts were made with; empty (RELEASES=) for the newest of everything.
RELEASES ?= .ci/releases.txt
PINNED = $(PIP) $(addprefix --constraint ,$(RELEASES))

demo: $(VENV)/.installed-demo
	PATH="$(abspath $(BIN)):$$PATH" examples/tiny-llama/demo.sh

test: lint types pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

# Tests start preflight hundreds of times, and every process rewrites their asserts: compiled once, whatever
# PYTHONDONTWRITEBYTECODE says.
pytest: $(VENV)/.installed-test | lint types system
	$(BIN)/python -m compileall -q preflight hooks
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS)

core: $(VENV)/.installed-core
	$(BIN)/python -m pytest -m "not libraries" $$($(BIN)/python tests/core_tests.py)

coverage: $(VENV)/.installed-test
	$(BIN)/python -m pytest --cov=preflight --cov=preflight.hooks --cov-report=term:skip-covered $$($(BIN)/python tests/core_tests.py)

site: $(VENV)/.installed-site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f .ci/mkdocs.yml

system:
	.ci/system_packages $(PYTHON)

# A stamp older than pyproject.toml or the releases means that what is installed may not be what they ask for.
$(VENV)/.installed-demo: pyproject.toml $(RELEASES) | $(BIN)/python
	$(PINNED) -e ".[trace]" "accelerate>=1.10"
	touch $@

$(VENV)/.installed-test: pyproject.toml $(RELEASES) | $(BIN)/python
	$(PINNED) -e ".[test]"
	$(PINNED) --upgrade --no-deps --target $(VENV)/kernels "liger-kernel>=0.8.5"
	touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e . "pytest>=8" "hypothesis>=6.100" "jsonschema>=4.23"
	touch $@

$(VENV)/.installed-site: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "mkdocs-material>=9.5,<10"
	touch $@

$(BIN)/python: | system
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
