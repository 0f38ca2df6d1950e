# The commands of this project, the same for people and for CI. Each makes the virtual environment that it needs.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
VENV_PYTHON := $(BIN)/python.exe
else
BIN := $(VENV)/bin
VENV_PYTHON := $(BIN)/python
endif

# One worker per CPU; the tests of one file stay together, so that they share a cluster. A test that hangs is ended.
PYTEST := $(VENV_PYTHON) -m pytest -n logical --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test soak check format lab bench table docs clean

help: ## List the commands
	@echo "Usage: make COMMAND [PYTHON=python3.12] [VENV=.venv] [ARGS='more arguments']"
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## Show daskimg at work, on this machine
	@$(BIN)/daskimg demo $(ARGS)

test: $(VENV)/.installed-test ## Run the tests (at most 15 minutes on 2 cores)
	@$(PYTEST) --timeout 300 $(ARGS)

soak: $(VENV)/.installed-test ## Run the long soak and chaos tests
	@$(PYTEST) --timeout 7200 -m soak $(ARGS)

check: $(VENV)/.installed-check ## Check lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-check ## Put the code into the format that `make check` asks for
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lab: $(VENV)/.installed-lab ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

bench: $(VENV)/.installed-bench ## Measure speed and memory
	@$(VENV_PYTHON) -m benchmarks $(ARGS)
	@$(VENV_PYTHON) -m benchmarks.files $(ARGS)

table: $(VENV)/.installed-test ## Measure exactness anew, into docs/exactness.md
	@$(VENV_PYTHON) -m tests.exactness $(ARGS)

docs: $(VENV)/.installed-docs ## Build the documentation into build/docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going $(ARGS) docs build/docs
	@echo "The documentation is in build/docs/index.html"

clean: ## Remove the virtual environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Every command above installs the extra of its own name once, and again when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(VENV_PYTHON)
	@echo "Installing daskimg[$*] into $(VENV) (minutes the first time, nothing after that)"
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "daskimg needs Python 3.11 or newer, and '$(PYTHON)' is not: name another, as in: make PYTHON=python3.12"; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
