# Each target works as the first command on a machine with Python 3.11 or 3.12 and pip.
.DEFAULT_GOAL := help
.PHONY: help install demo test check pytest bench up down backfill lock clean
.SUFFIXES:
MAKEFLAGS += --no-print-directory

HOUSEHOLDS ?= 20000
RUNS ?= 3
PYTHON ?=
RUN := .venv/bin
STAMP := .venv/installed

# The home may hold restricted data: nothing here is ever written with wider rights than it needs.
export CREDITVILLAGE_HOME ?= $(CURDIR)/.creditvillage
export GX_ANALYTICS_ENABLED := false

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(STAMP)  ## make .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml .ci/install
	@echo "Installing (once, some seconds to a minute)"
	@PYTHON="$(PYTHON)" sh .ci/install

demo: $(STAMP)  ## a synthetic county through the whole pipeline (HOUSEHOLDS=20000)
	@$(RUN)/creditvillage demo --households $(HOUSEHOLDS)

test: check  ## all checks, then all tests
	@sh .ci/system
	@$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## format, lint, types, layers, SQL, codebook
	@bash .ci/check

bench: $(STAMP)  ## ours against the floor, county, province, grading, a correction (RUNS=3)
	@$(RUN)/python -m benchmarks run --runs $(RUNS) $(if $(WORKLOAD),--workload $(WORKLOAD))

up: $(STAMP)  ## keep Airflow's pages and the database running
	@$(RUN)/creditvillage up

down: $(STAMP)  ## stop them
	@$(RUN)/creditvillage down

backfill: $(STAMP)  ## months anew: make backfill FROM=2024-02 TO=2024-03
	@test -n "$(FROM)" -a -n "$(TO)" || { echo "make backfill FROM=2024-02 TO=2024-03"; exit 2; }
	@$(RUN)/creditvillage backfill --from $(FROM) --to $(TO)

lock: $(STAMP)  ## write requirements.lock from pyproject.toml
	@$(RUN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock
	@echo "requirements.lock written; run make test before committing it"

clean:  ## remove .venv and caches, never the home with its data
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
