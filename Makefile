# Each target sets up .venv first when it is missing or stale; output goes to build/.
PYTHON ?= python3
BIN := .venv/bin
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/build/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.5
# XLA's loader of cached programs names harmless tuning flags as errors, at length.
export TF_CPP_MIN_LOG_LEVEL := 3
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test test-slow check format figures benchmarks lock
help:
	@echo "make demo       set up, run the main job, show the results (in build/demo)"
	@echo "make test       set up, run the default tests"
	@echo "make test-slow  the slow tests"
	@echo "make check      format, lint and types"
	@echo "make figures    make the pictures of figures/ and their numbers anew, in build/figures;"
	@echo "                make figures TO=figures replaces those that are committed,"
	@echo "                ONLY=\"one other\" makes those experiments only"
	@echo "make benchmarks measure speed anew, in build/benchmarks (half an hour, on a quiet machine);"
	@echo "                TO=experiments/benchmarks/tables replaces the tables that are committed, ONLY as above"
	@echo "make format     let ruff format and mend the sources"
	@echo "make lock       resolve requirements.lock anew"

setup:
	@$(PYTHON) .ci/environment.py

demo: setup
	@$(BIN)/python -m experiments.demo --output build/demo

test: setup
	@$(PYTEST)

test-slow: setup
	@$(PYTEST) -m slow

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

figures: setup
	@$(BIN)/python -m experiments.figures --output $(or $(TO),build/figures) $(if $(ONLY),--only $(ONLY))

benchmarks: setup
	@$(BIN)/python -m experiments.benchmarks --output $(or $(TO),build/benchmarks) $(if $(ONLY),--only $(ONLY))

# No index lines: a lock must not name a registry.
lock: setup
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --extra dev pyproject.toml --output-file requirements.lock
