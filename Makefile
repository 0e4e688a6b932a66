# Everything one does with a checkout. `make` alone lists it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list these targets
	@echo "Regrow: the reliability worker for Celery."
	@echo
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "REGROW_PORT, REGROW_HOME, REGROW_PROFILE shape \`make run\`; ARGS=... goes to pytest;"
	@echo "PYTHON=... names the Python (3.11 or newer) that $(VENV) is made with."

.PHONY: run
run: $(VENV)/.run ## the whole stack on this machine: page, worker, beat, Valkey, SQLite
	@exec env REGROW_STARTED_BY=$$PPID $(BIN)/python -m worker

.PHONY: test
test: $(VENV)/.test ## the tests, on real servers where this machine has them
	@.ci/services || true
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: $(VENV)/.dev ## all that CI demands: format, lint, types, arrows, dependencies, audit, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	$(BIN)/python .ci/audit.py
	@$(MAKE) --no-print-directory test

.PHONY: services
services: ## install MariaDB, RabbitMQ, Chromium, promtool for the tests (apt, as root); starts none of them
	@.ci/services prometheus

.PHONY: bench
bench: $(VENV)/.bench ## all measurements; each ends with REACH lines
	@$(BIN)/python -m benchmarks

bench-breakers bench-fleet bench-health bench-letters: $(VENV)/.bench
bench-%: $(VENV)/.test ## one measurement, by name
	@$(BIN)/python -m benchmarks $*

.PHONY: proof
proof: $(VENV)/.test ## kill -9 at every step and at random, and an outage; then count (KILLS=100)
	@.ci/services || true
	@$(BIN)/python -m tests.proof --kills $(or $(KILLS),100)

.PHONY: config
config: $(VENV)/.run ## make config/prometheus and config/grafana again, out of the shipped definitions
	@$(BIN)/python -m regrow.monitoring config

.PHONY: lock
lock: $(VENV)/.dev ## pin the requirements again from pyproject.toml (UPGRADE=1: newest releases)
	@PYTHON=$(BIN)/python .ci/lock

# ----------------------------------------------------------------------------------------------------------
# The virtual environment. Stamps say what has been installed; each set holds the one before it.

SOURCES := pyproject.toml regrow/version.py

$(VENV)/.run: requirements/run.txt $(SOURCES) | $(BIN)/python
	$(call install,run)
	@touch $@

$(VENV)/.test: requirements/test.txt $(SOURCES) | $(BIN)/python
	$(call install,test)
	@touch $@ $(VENV)/.run

# The libraries that we are measured beside. Without them the measurements say so and go on.
$(VENV)/.bench: requirements/bench.txt $(VENV)/.test
	@if $(PIP) install --require-hashes --requirement requirements/bench.txt; then touch $@; else \
	  echo "bench: not all of requirements/bench.txt could be installed; measuring without"; fi

$(VENV)/.dev: requirements/dev.txt $(SOURCES) | $(BIN)/python
	$(call install,dev)
	@touch $@ $(VENV)/.test $(VENV)/.run

define install
	@echo "Installing requirements/$(1).txt into $(VENV); the first time takes a minute or two."
	@$(PIP) install --require-hashes --requirement requirements/$(1).txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
endef

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make run PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
	  "Regrow needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another: make run PYTHON=python3.12" % v[:2])'
	@echo "Making $(VENV) with $(PYTHON)."
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made. On Debian: apt install python3-venv"; exit 1; }
