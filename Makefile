PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
READY := $(VENV)/ready
OLDEST := .venv-oldest
# What needs newer releases of third parties, times this machine, or is about files and not about torch.
NOT_CORE := $(wildcard tests/integrations tests/test_guides.py tests/test_models.py tests/test_newcomer.py \
	tests/test_overhead.py tests/test_packaging.py tests/test_site.py tests/test_tour.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-oldest lint types contracts drift models zoo bench docs dist format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Create .venv with everything that development needs (the other targets do it too)

demo: $(READY)  ## Watch a network learn digits, healthy and with each fault planted
	$(RUN)python examples/demo.py

# A file's tests stay in one process, and what they share with them; more than four processes need much memory.
test: lint types contracts drift  ## Every check
	$(RUN)python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# torch 2.8 warns of what its own optimizers do.
test-oldest: $(OLDEST)/ready  ## The core tests on the oldest torch that is supported, in .venv-oldest
	$(OLDEST)/bin/python -m pytest -W 'ignore:Converting a tensor with requires_grad:UserWarning' \
		$(addprefix --ignore=,$(NOT_CORE))

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

zoo: $(READY)  ## Run the sick and healthy programs of zoo/ and write docs/zoo.md
	$(RUN)python -m benchmarks.zoo

bench: $(READY)  ## Time a step, watched in many ways (half an hour)
	$(RUN)python -W ignore -m benchmarks.overhead

docs: $(READY)  ## Write the analyzers' pages and build the site, into site/
	$(RUN)python docs/generate.py
	$(RUN)python -m zensical build --strict --clean

dist: $(READY)  ## Build the sdist and the wheel, into dist/
	rm -rf build dist
	$(RUN)python -m build

format: $(READY)  ## Put the code into its format
	$(RUN)ruff format
	$(RUN)ruff check --fix

clean:  ## Remove .venv and all caches
	rm -rf $(VENV) $(OLDEST) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt $(wildcard gradscope/hooks/meters/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'gradscope needs Python 3.11 or newer; name one: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(OLDEST)/ready: pyproject.toml constraints.txt constraints-oldest.txt $(wildcard gradscope/hooks/meters/*.[ch])
	$(PYTHON) -m venv $(OLDEST)
	cut -d= -f1 constraints-oldest.txt | grep -vwf - constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --constraint $(OLDEST)/constraints.txt --constraint constraints-oldest.txt \
		--editable '.[examples]' expecttest psutil pytest
	@touch $@
