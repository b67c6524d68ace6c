# Station's everyday commands. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
# uv does not read pip's configuration: hand it the index pip was told to use, if any.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
export UV_LINK_MODE ?= copy

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check format lint types lock bench clean

help: ## List these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP) ## Fill .venv/ from the hash-locked requirements
$(STAMP): requirements/dev.lock requirements/bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Station needs Python 3.11 to 3.13; this is " + sys.version.split()[0] + ". Call make with PYTHON=/path/to/python3.") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	@echo "==> creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@echo "==> installing the locked dependencies"
	@[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; \
	  $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## One real run from request to answer, printed step by step
	@$(BIN)/station demo

up: setup ## Station on this machine, with its own PostgreSQL and Valkey
	@$(BIN)/station up

test: setup ## The whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup lint types ## Format, lint, layers, types, migrations, tests
	@DJANGO_SETTINGS_MODULE=tests.static_settings PYTHONPATH=. PYTHONWARNINGS=ignore::RuntimeWarning $(BIN)/django-admin makemigrations --check --dry-run
	@$(MAKE) --no-print-directory test

lint: setup ## Format check, lint, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache

types: setup ## mypy, strict
	@$(BIN)/mypy

format: setup ## Format the code and mend what lint can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure dispatch, width and growth beside bare Celery
	@$(BIN)/python -m tests.bench

lock: setup ## Resolve the lock files anew (runtime.lock is the production image's: no embedded services)
	@$(BIN)/uv pip compile -q pyproject.toml --extra embedded --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements/dev.lock
	@$(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/dev.lock -o requirements/runtime.lock
	@grep -A 400 '^uv==' requirements/dev.lock | awk 'NR > 1 && /^[a-z]/ {exit} {print}' > requirements/bootstrap.lock

clean: ## Remove the virtual environment and this checkout's data
	rm -rf $(VENV) .station
