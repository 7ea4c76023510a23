# `make demo` and `make test` each set up all they need: Python >= 3.11 and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests start many processes: what one has compiled, the next is not to compile again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test browser interop soak check bench notebooks audit clean

demo: $(VENV)/.demo
	$(BIN)/binance-archive demo

# Many tests wait for an answer that does not come: one process more than there are cores.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/browser \
		--numprocesses=$$($(BIN)/python -c "import os; print(os.cpu_count() + 1)") --dist=loadscope --no-loadscope-reorder

browser: $(VENV)/.dev
	$(BIN)/python -m pytest tests/browser

# Each tool is installed once, into an environment of its own below .venv-interop.
interop: $(VENV)/.dev
	$(BIN)/python -m tests.interop $(TOOLS)

# What takes minutes to hours: steps that have passed are skipped until the code changes.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak $(STEP)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.collecting
	$(BIN)/python -m tests.benchmarks.reading
	$(BIN)/python -m tests.benchmarks.covering
	$(BIN)/python -m tests.benchmarks.market

# Needs the internet: it asks a database of known vulnerabilities.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

notebooks: $(VENV)/.dev
	$(BIN)/jupyter lab notebooks

# Stamps, so that setting up happens once and again when the dependencies change.
# The pip of Python 3.11 takes twice as long, and so does compiling all that is never imported.
INSTALL := $(BIN)/python -m pip install --quiet
LOCKED := $(INSTALL) --no-compile --constraint constraints.txt --editable

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	$(INSTALL) --upgrade pip
	$(LOCKED) .
	touch "$@"

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	$(INSTALL) --upgrade pip
	$(LOCKED) ".[dev]"
	touch "$@"

clean:
	rm -rf "$(VENV)" .venv-interop .venv-audit .soak
