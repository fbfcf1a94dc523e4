# `make demo` sets up and shows the main job; `make test` sets up and runs the tests. Both need python3.11 or newer and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 0..499
STEPS ?= 120
CONTAINER_TESTS ?= tests/contract tests/integration --ignore-glob=*test_embedded_*

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types imports wheel bench chaos simulate worlds test-containers lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## make .venv with fleetlog and its development tools

# A stamp made after the last line, so that an interrupted set-up starts again and a finished one needs no network.
$(STAMP): requirements-dev.txt pyproject.toml
	@deploy/ensure-venv "$(PYTHON)" "$(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: $(STAMP) ## run real work through a fleet on this machine and query what happened
	@$(BIN)/python examples/demo.py

# By file, as most files start servers of their own; most tests wait for processes, so that two at once take half the time.
# In their own order, as otherwise files with one long test come last, and one process waits for the other.
test: $(STAMP) ## run the tests, with coverage
	$(BIN)/coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --skip-empty --fail-under=90
	$(BIN)/coverage report --skip-covered --skip-empty --fail-under=100 --include='schemas/*,bus/core/*'

check: lint types imports test wheel ## style, types, layers, tests, the wheel

lint: $(STAMP) ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

imports: $(STAMP) ## the layers
	$(BIN)/lint-imports

wheel: $(STAMP) ## build the wheel and try it in a clean venv
	PYTHON=$(BIN)/python deploy/smoke-wheel

bench: $(STAMP) ## measure; prints ratios of one run, with the durability mode
	$(BIN)/fleetlog bench --events 1000000 --strict

chaos: $(STAMP) ## the long form of the tests that kill things
	FLEETLOG_LONG=1 $(BIN)/python -m pytest -q tests/chaos tests/unit/simulation

worlds: $(STAMP) ## explore every order of events in the large worlds; takes an hour and up to 16 GB of memory
	PYTHONPATH=tests $(BIN)/python -m simulation.worlds

simulate: $(STAMP) ## run a fleet in virtual time under every kind of trouble, for each seed: SEEDS=0..499
	PYTHONPATH=tests $(BIN)/python -m simulation $(SEEDS) --steps $(STEPS)

test-containers: $(STAMP) ## the contract and all that rests on it, against a server in a container
	FLEETLOG_TEST_SERVER=container deploy/with-docker $(BIN)/python -m pytest -q -rs $(CONTAINER_TESTS)

lock: ## pin every development dependency with its hash
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements-dev.txt pyproject.toml

clean: ## remove what the targets made
	rm -rf $(VENV) dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
