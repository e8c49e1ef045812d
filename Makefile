# make help

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BROWSER ?= 1
PROFILE ?= quick
SEED ?= 0
JOBS ?= 2
ENGINE ?=
DATA ?=
FRESH ?=
NOTEBOOKS ?=
PARAMETERS ?=
LAB ?=

# A virtual environment brings its own kernel: prefer it to kernels the user has installed under the same name.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Values go to the shell as they were written: one word each, whatever spaces and quotes are in them.
quote = '$(subst ','\'',$(value $(1)))'
space := $(subst ,, )
BIN := $(call quote,VENV)/bin
STAMPS := $(subst $(space),\$(space),$(VENV))

# NOTEBOOKS are words, in quotes where they hold spaces; a new parameter begins at each name= after a space.
define arguments
set --; \
if [ -n $(call quote,NOTEBOOKS) ]; then \
  names="$$(xargs -n 1 printf '%s\n' <<< $(call quote,NOTEBOOKS))" || exit; \
  while IFS= read -r name; do set -- "$$@" "$$name"; done <<< "$$names"; \
fi; \
rest=$(call quote,PARAMETERS); split='^(.*[^[:space:]])[[:space:]]+([A-Za-z_][A-Za-z0-9_]*=.*)$$'; \
while [[ $$rest =~ $$split ]]; do rest="$${BASH_REMATCH[1]}"; set -- "$$@" -p "$${BASH_REMATCH[2]}"; done; \
if [ -n "$$rest" ]; then set -- "$$@" -p "$$rest"; fi
endef

NOTEBOOK_FILES = $(wildcard notebooks/*.ipynb)

.PHONY: help
help: ## Show this page
	@echo "usage: make TARGET [NAME=value ...]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | while IFS='|' read -r name text; \
	  do printf '%-14s %s\n' "$$name" "$$text"; done
	@echo "run takes DATA=sample|hub|FOLDER PROFILE=quick|full SEED=0 FRESH=1 JOBS=2 ENGINE=ray NOTEBOOKS='03 04' PARAMETERS='name=value'"
	@echo "test takes BROWSER=0: do not install Chromium (as root, make test installs it with apt-get where it is missing)."
	@echo "An interrupted run goes on with the same command without FRESH=1; FRESH=1 always begins anew."

.PHONY: run
run: $(STAMPS)/.workbook ## Run the notebooks headlessly and write a report (DATA=../shared/data PROFILE=full: real data)
	@$(arguments); \
	$(BIN)/routellm-lab run $(if $(value DATA),--data $(call quote,DATA)) --profile $(call quote,PROFILE) \
	  --seed $(call quote,SEED) --jobs $(call quote,JOBS) $(if $(value ENGINE),--engine $(call quote,ENGINE)) \
	  $(if $(filter-out 0,$(FRESH)),--fresh) "$$@"

.PHONY: train
train: $(STAMPS)/.workbook ## Train the BERT and causal LLM routers once, for the notebooks to load (takes DATA, SEED, FRESH)
	@$(BIN)/routellm-lab train $(if $(value DATA),--data $(call quote,DATA)) --seed $(call quote,SEED) \
	  $(if $(filter-out 0,$(FRESH)),--fresh)

.PHONY: lab
lab: $(STAMPS)/.workbook ## Open the notebooks in JupyterLab (LAB='--no-browser --port 8889': its options)
	@settings="$$($(BIN)/python -c 'import sys; print(sys.prefix)')/etc/ipython/ipython_kernel_config.json"; \
	test -e "$$settings" || { mkdir -p "$$(dirname "$$settings")" && printf '%s\n' \
	  '{"InteractiveShellApp": {"extensions": ["routellm_lab.workbook.hints"]}}' > "$$settings"; }; \
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB)

.PHONY: test
test: lint ## Lint, type checks and tests (what CI runs)
	@$(BIN)/pytest -q -n 2 --dist loadfile

.PHONY: test-slow
test-slow: $(STAMPS)/.dev ## The long tests, and those on real data (a folder in ROUTELLM_LAB_REAL_DATA, else ../shared/data)
	@$(BIN)/pytest -q -m 'slow or real_data'

.PHONY: lint
lint: $(STAMPS)/.dev ## Style, types, and notebooks without outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(if $(NOTEBOOK_FILES),$(BIN)/nbstripout --keep-id --verify $(NOTEBOOK_FILES),true)

.PHONY: format
format: $(STAMPS)/.dev ## Mend style and strip the notebooks
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	@$(if $(NOTEBOOK_FILES),$(BIN)/nbstripout --keep-id $(NOTEBOOK_FILES),true)

.PHONY: docs
docs: $(STAMPS)/.docs ## Build the documentation site into docs/_build/html (its gallery: the latest run on simulated data)
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

.PHONY: bench
bench: $(STAMPS)/.dev ## Time the hot paths beside literal references, into data/bench/latest.json and figures/bench.png
	@$(BIN)/python tests/bench.py

.PHONY: clean
clean: ## Remove the virtual environment and caches; runs in data/ stay
	rm -rf $(call quote,VENV) build dist docs/_build docs/api docs/notebooks *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find routellm_lab tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(STAMPS)/.workbook: pyproject.toml constraints.txt
	@python=$(call quote,PYTHON); "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, $$python is $$("$$python" --version 2>&1). Name one: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(call quote,PYTHON) -m venv $(call quote,VENV)
	@echo "Installing what the workbook needs into "$(call quote,VENV)" (some minutes the first time)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]'
	@echo "Distilling the static encoder, once"
	@HF_HUB_OFFLINE=1 $(BIN)/python -c 'from routellm_lab.encoders import make_encoder; make_encoder("static").transform(["once"])'
	@touch $(call quote,VENV)/.workbook

$(STAMPS)/.dev: $(STAMPS)/.workbook
	@echo "Installing what the tests need into "$(call quote,VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,ray,dev]'
	@$(MAKE) --no-print-directory browser
	@touch $(call quote,VENV)/.dev

$(STAMPS)/.docs: $(STAMPS)/.workbook
	@echo "Installing what the documentation needs into "$(call quote,VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,docs]'
	@touch $(call quote,VENV)/.docs

# The explorer's page is tested in Chromium; without it those tests are skipped by name.
.PHONY: browser
browser:
	@{ command -v chromium && command -v chromedriver; } >/dev/null && exit; \
	if [ $(call quote,BROWSER) = 0 ]; then \
	  echo "Chromium is not installed (BROWSER=0): the tests of pages in a browser will be skipped"; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "Installing chromium and chromium-driver for the tests (apt-get); make test BROWSER=0 does not"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 </dev/null \
	    || echo "They could not be installed: the tests of pages in a browser will be skipped"; \
	fi
