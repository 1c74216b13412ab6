# A bare Python 3.11 or newer is all that is needed: each target installs what it uses into .venv first.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
SETTINGS := setup.cfg pyproject.toml constraints.txt Makefile

.PHONY: demo test check docs clean

demo: .venv/installed
	$(BIN)/hmsa-label demo --output demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-docs
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:
	rm -rf .venv demo docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(SETTINGS)
	@echo "installing hmsa-label into .venv (torch and ray are large)"
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python $(SETTINGS)
	@echo "installing hmsa-label and its tools into .venv (torch and ray are large)"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python $(SETTINGS)
	@echo "installing hmsa-label and Sphinx into .venv (torch and ray are large)"
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@ .venv/installed
