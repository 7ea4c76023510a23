# `make demo` and `make test` each set up all they need: Python >= 3.11 and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test browser check bench notebooks clean

demo: $(VENV)/.demo
	$(BIN)/binance-archive demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/browser --numprocesses=auto --dist=loadscope --no-loadscope-reorder

browser: $(VENV)/.dev
	$(BIN)/python -m pytest tests/browser

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.collecting
	$(BIN)/python -m tests.benchmarks.reading
	$(BIN)/python -m tests.benchmarks.covering

notebooks: $(VENV)/.dev
	$(BIN)/jupyter lab notebooks

# Stamps, so that setting up happens once and again when the dependencies change.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch "$@"

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv "$(VENV)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch "$@"

clean:
	rm -rf "$(VENV)"
