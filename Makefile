# Each target makes the environment that it needs; nothing is installed again while nothing changed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST := $(BIN)/python -m pytest
NEEDS := softprompt needs Python 3.11 or newer. Install one and name it, for example: make PYTHON=python3.12

# A stamp is written last: it stands for an installation that is complete.
RUNTIME := $(VENV)/.runtime-complete
DEV := $(VENV)/.dev-complete

.PHONY: help demo test test-slow lint format bench

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

demo: $(RUNTIME) ## train, compare and use prompts on a bundled backbone, offline
	@$(BIN)/softprompt demo

test: $(DEV) ## all tests but the slow ones
	@$(PYTEST) -n 2 --dist worksteal --durations=5

# Only files that hold a slow test are read: reading all takes as long as some of them.
test-slow: $(DEV) ## the tests that take minutes
	@$(PYTEST) $$(grep -rl --include='test_*.py' 'mark\.slow' tests) -m 'slow and not gpu' -n 2 --dist worksteal --durations=25

lint: $(DEV) ## style, types and floors
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(DEV) ## mend what can be mended without thinking
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(DEV) ## speed and memory beside other libraries
	@$(BIN)/python -m benchmarks

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "'$(PYTHON)' was not found. $(NEEDS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1). $(NEEDS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing softprompt into $(VENV): minutes the first time, seconds later."
	@$(PIP) install --constraint constraints.txt pip
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt --editable .
	@touch $@

$(DEV): $(RUNTIME)
	@echo "Installing what tests, lint and benchmarks need into $(VENV)."
	@$(PIP) install --constraint constraints.txt --build-constraint constraints.txt --group dev
	@touch $@
