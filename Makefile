PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types contracts drift models bench docs format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Create .venv with everything that development needs (the other targets do it too)

demo: $(READY)  ## Watch a network learn digits, healthy and with each fault planted
	$(RUN)python examples/demo.py

test: lint types contracts drift  ## Every check
	$(RUN)python -m pytest

lint: $(READY)  ## Format and rules
	$(RUN)ruff format --check
	$(RUN)ruff check

types: $(READY)  ## Types, strict
	$(RUN)mypy

contracts: $(READY)  ## Which module may import which
	$(RUN)lint-imports --no-logo

drift: $(READY)  ## Are the analyzers' pages up to date?
	$(RUN)python docs/generate.py --check

models: $(READY)  ## Train 264 real models watched and unwatched and write docs/models.md
	$(RUN)python -m benchmarks.models

bench: $(READY)  ## Time a step, watched in many ways (half an hour)
	$(RUN)python -W ignore -m benchmarks.overhead

docs: $(READY)  ## Write the analyzers' pages
	$(RUN)python docs/generate.py

format: $(READY)  ## Put the code into its format
	$(RUN)ruff format
	$(RUN)ruff check --fix

clean:  ## Remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt $(wildcard gradscope/hooks/meters/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'gradscope needs Python 3.11 or newer; name one: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@
