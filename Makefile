# Two commands matter: `make serve` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
LOCKS_VENV := .venv-locks

# The locks hold torch's CPU build for CPython 3.11 to 3.13.
SUITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
  "$$python" -c '$(SUITS)' 2>/dev/null && echo "$$python" && break; done)
endif
ifndef FLAVOUR
FLAVOUR := $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo cuda || echo cpu)
endif
ifeq ($(filter $(FLAVOUR),cpu cuda),)
$(error FLAVOUR is `$(FLAVOUR)`; it is cpu or cuda)
endif

# A stamp is named after the content of what it installs: a changed lock installs again.
sum = $(firstword $(shell cat $(1) | cksum))
GATEWAY := $(STAMPS)/gateway-$(call sum,requirements/gateway.txt)
ENGINE := $(STAMPS)/engine-$(FLAVOUR)-$(call sum,requirements/$(FLAVOUR).txt requirements/torch-cpu.txt)
DEV := $(STAMPS)/dev-$(call sum,requirements/dev.txt)
PROJECT := $(STAMPS)/project-$(call sum,pyproject.toml requirements/gateway.in)

.PHONY: help setup serve dev test test-long clients lint bench load load-proof models locks clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(ENGINE) $(PROJECT) ## install everything (FLAVOUR=cpu|cuda overrides the probe)

serve: setup models/smollm2-135m/inhouse-digest.json ## serve SmolLM2-135M on 127.0.0.1:8000 until Ctrl-C
	@exec $(BIN)/inhouse serve --site configs/sites/quickstart.yaml --starter-key

dev: $(PROJECT) ## serve a fake engine: no vLLM, up in a moment
	@exec $(BIN)/inhouse dev

test: setup $(DEV) models lint ## check and test everything but the long suites
	$(BIN)/pytest -m "not long"

test-long: setup $(DEV) models clients-install ## every test
	$(BIN)/pytest

clients: setup $(DEV) clients-install ## test with real clients: LangChain, Codex, Claude Code, …
	$(BIN)/pytest tests/clients tests/conformance

lint: $(ENGINE) $(PROJECT) $(DEV) ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The key that `make serve` shows, where no other is given.
load: setup $(DEV) ## ask the running server with Locust, without its page; LOAD="--peak-users 16 …"
	@INHOUSE_KEY="$${INHOUSE_KEY:-$$(cat var/starter.key 2>/dev/null || echo none)}" \
	  $(BIN)/locust -f benchmarks/load/locustfile.py --headless --only-summary --key-env INHOUSE_KEY \
	  --host http://127.0.0.1:8000/v1 --model smollm2-135m --result bench/locust.json $(LOAD)

load-proof: setup $(DEV) ## hold the load generator to known times; a minute, nothing is recorded
	$(BIN)/python -m benchmarks.proof --quick

bench: setup $(DEV) models bench-peers ## measure beside peers; results in benchmarks/results/
	@status=0; for one in gateway "gateway --real" engine_profile swap affinity embeddings; do \
	  $(BIN)/python -m benchmarks.$$one || status=1; done; exit $$status

models: models/smollm2-135m/inhouse-digest.json models/minilm-l6/inhouse-digest.json ## obtain the starter models

models/%/inhouse-digest.json: | $(ENGINE) $(PROJECT)
	@$(BIN)/python -m serve.weights.starter $* models/$*

locks: ## resolve all requirements, with hashes (UPGRADE=1: to their newest versions)
	@test -x $(LOCKS_VENV)/bin/python || $(PYTHON) -m venv $(LOCKS_VENV)
	@$(LOCKS_VENV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes \
	  --requirement requirements/installer.txt
	@requirements/lock.sh $(CURDIR)/$(LOCKS_VENV)/bin/uv $(if $(UPGRADE),--upgrade)

clean: ## remove the environments and caches (models and var/ stay)
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

-include benchmarks/peers.mk
-include tests/clients/clients.mk

# Installation

$(STAMPS)/venv:
	@"$(PYTHON)" -c '$(SUITS)' 2>/dev/null || { echo "Python 3.11, 3.12 or 3.13 with its venv is needed (Debian: apt install python3-venv)" >&2; exit 3; }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(GATEWAY): | $(STAMPS)/venv
	@requirements/install.sh $(VENV) "the gateway" requirements/gateway.txt
	@rm -f $(STAMPS)/gateway-* && touch $@

$(PROJECT): | $(GATEWAY)
	@$(VENV)/installer/bin/uv pip install --quiet --no-config --offline --python $(BIN)/python \
	  --no-deps --no-build-isolation --editable .
	@rm -f $(STAMPS)/project-* && touch $@

# The flavours overlap in the files they install: an environment never holds both.
$(ENGINE): | $(GATEWAY)
	@requirements/headers.sh $(BIN)/python
	@if ls $(STAMPS) | grep '^engine-' | grep -qv '^engine-$(FLAVOUR)-'; then \
	  echo "$(VENV) holds the other flavour: remove it (rm -r $(VENV)) and run again" >&2; exit 3; fi
ifeq ($(FLAVOUR),cpu)
	@requirements/install.sh $(VENV) "torch for CPUs" requirements/torch-cpu.txt
endif
	@requirements/install.sh $(VENV) "vLLM for $(if $(filter cpu,$(FLAVOUR)),CPUs,CUDA)" requirements/$(FLAVOUR).txt
	@rm -f $(STAMPS)/engine-* && touch $@

$(DEV): | $(ENGINE)
	@requirements/install.sh $(VENV) "development tools" requirements/dev.txt
	@rm -f $(STAMPS)/dev-* && touch $@
