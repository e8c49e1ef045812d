# make help

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROFILE ?= quick
SEED ?= 0
JOBS ?= 2
ENGINE ?=
DATA ?=
FRESH ?=
NOTEBOOKS ?=
PARAMETERS ?=

# A virtual environment brings its own kernel: prefer it to kernels the user has installed under the same name.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

NOTEBOOK_FILES = $(wildcard notebooks/*.ipynb)

.PHONY: help
help: ## Show this page
	@echo "usage: make TARGET [NAME=value ...]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | while IFS='|' read -r name text; \
	  do printf '%-14s %s\n' "$$name" "$$text"; done
	@echo "run takes DATA=sample|hub|FOLDER PROFILE=quick|full SEED=0 FRESH=1 JOBS=2 ENGINE=ray NOTEBOOKS='03 04' PARAMETERS='name=value'"
	@echo "An interrupted run goes on with the same command without FRESH=1; FRESH=1 always begins anew."

.PHONY: run
run: $(VENV)/.workbook ## Run the notebooks headlessly and write a report (DATA=../shared/data PROFILE=full: real data)
	@$(BIN)/routellm-lab run $(NOTEBOOKS) $(if $(DATA),--data '$(DATA)') --profile '$(PROFILE)' --seed '$(SEED)' \
	  --jobs '$(JOBS)' $(if $(ENGINE),--engine '$(ENGINE)') $(if $(filter-out 0,$(FRESH)),--fresh) \
	  $(foreach pair,$(PARAMETERS),-p '$(pair)')

.PHONY: train
train: $(VENV)/.workbook ## Train the BERT and causal LLM routers once, for the notebooks to load (takes DATA, SEED, FRESH)
	@$(BIN)/routellm-lab train $(if $(DATA),--data '$(DATA)') --seed '$(SEED)' $(if $(filter-out 0,$(FRESH)),--fresh)

.PHONY: lab
lab: $(VENV)/.workbook ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks

.PHONY: test
test: lint ## Lint, type checks and tests (what CI runs)
	@$(BIN)/pytest -q -n 2 --dist loadfile

.PHONY: test-slow
test-slow: $(VENV)/.dev ## The long tests, and those on real data (a folder in ROUTELLM_LAB_REAL_DATA, else ../shared/data)
	@$(BIN)/pytest -q -m 'slow or real_data'

.PHONY: lint
lint: $(VENV)/.dev ## Style, types, and notebooks without outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(if $(NOTEBOOK_FILES),$(BIN)/nbstripout --keep-id --verify $(NOTEBOOK_FILES),true)

.PHONY: format
format: $(VENV)/.dev ## Mend style and strip the notebooks
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	@$(if $(NOTEBOOK_FILES),$(BIN)/nbstripout --keep-id $(NOTEBOOK_FILES),true)

.PHONY: bench
bench: $(VENV)/.dev ## Time the hot paths beside literal references, into data/bench/latest.json and figures/bench.png
	@$(BIN)/python tests/bench.py

.PHONY: clean
clean: ## Remove the virtual environment and caches; runs in data/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find routellm_lab tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

$(VENV)/.workbook: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Name one: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what the workbook needs into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]'
	@echo "Distilling the static encoder, once"
	@HF_HUB_OFFLINE=1 $(BIN)/python -c 'from routellm_lab.encoders import make_encoder; make_encoder("static").transform(["once"])'
	@touch $@

$(VENV)/.dev: $(VENV)/.workbook
	@echo "Installing what the tests need into $(VENV)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,ray,dev]'
	@$(MAKE) --no-print-directory browser
	@touch $@

# The explorer's page is tested in Chromium; without it those tests are skipped by name.
.PHONY: browser
browser:
	@{ command -v chromium && command -v chromedriver; } >/dev/null && exit; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "Installing chromium and chromium-driver for the tests (apt-get)"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 </dev/null \
	    || echo "They could not be installed: the tests of the explorer's page will be skipped"; \
	fi
