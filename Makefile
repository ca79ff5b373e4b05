# Two commands matter: `make serve` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach v,python3 python3.13 python3.12 python3.11,$(shell \
  command -v $(v) >/dev/null && $(v) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(v))))
FLAVOUR ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)
STAMPS := $(VENV)/stamps
UV_VERSION := 0.13.9

# A stamp is named after the content of what it installs: a changed lock installs again.
sum = $(firstword $(shell cat $(1) 2>/dev/null | cksum))
GATEWAY := $(STAMPS)/gateway-$(call sum,requirements/gateway.txt)
ENGINE := $(STAMPS)/engine-$(FLAVOUR)-$(call sum,requirements/$(FLAVOUR).txt requirements/torch-cpu.txt)
DEV := $(STAMPS)/dev-$(call sum,requirements/dev.txt)
PROJECT := $(STAMPS)/project-$(call sum,pyproject.toml requirements/gateway.in)

.PHONY: help setup serve dev test test-long lint bench load models locks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(ENGINE) $(PROJECT) ## install everything (FLAVOUR=cpu|cuda overrides the probe)

serve: setup models/smollm2-135m/inhouse-digest.json ## serve SmolLM2-135M on 127.0.0.1:8000 until Ctrl-C
	@exec $(BIN)/inhouse serve --site configs/sites/quickstart.yaml --starter-key

dev: $(GATEWAY) $(PROJECT) ## serve a fake engine: no vLLM, up in a moment
	@exec $(BIN)/inhouse dev

test: setup $(DEV) models lint ## check and test everything but the long suites
	$(BIN)/pytest -m "not long"

test-long: setup $(DEV) models ## every test
	$(BIN)/pytest

lint: $(ENGINE) $(PROJECT) $(DEV) ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup $(DEV) models bench-peers ## measure beside peers; results in benchmarks/results/
	$(BIN)/python -m benchmarks.gateway
	$(BIN)/python -m benchmarks.engine_profile

models: models/smollm2-135m/inhouse-digest.json models/minilm-l6/inhouse-digest.json ## obtain the starter models

models/%/inhouse-digest.json: | $(ENGINE) $(PROJECT)
	@$(BIN)/python -m serve.weights.starter $* models/$*

locks: ## resolve all requirements anew, with hashes
	@test -x .venv-locks/bin/uv || { $(PYTHON) -m venv .venv-locks && .venv-locks/bin/pip install -q uv==$(UV_VERSION); }
	@PATH="$(CURDIR)/.venv-locks/bin:$$PATH" requirements/lock.sh

clean: ## remove the environment (models and var/ stay)
	rm -rf $(VENV) .venv-locks .mypy_cache .ruff_cache .pytest_cache

-include benchmarks/peers.mk

# Installation


$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (Debian: apt install python3 python3-venv)" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing (Debian: apt install python3-venv)" >&2; exit 3; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(GATEWAY): | $(STAMPS)/venv
	@requirements/install.sh $(VENV) "gateway" requirements/gateway.txt
	@rm -f $(STAMPS)/gateway-* && touch $@

$(ENGINE): | $(STAMPS)/venv
	@requirements/headers.sh $(BIN)/python
ifeq ($(FLAVOUR),cpu)
	@requirements/install.sh $(VENV) "torch for CPUs" requirements/torch-cpu.txt
	@requirements/install.sh $(VENV) "vLLM for CPUs and the gateway" requirements/cpu.txt
else
	@requirements/install.sh $(VENV) "vLLM for CUDA and the gateway" requirements/cuda.txt
endif
	@rm -f $(STAMPS)/engine-* $(STAMPS)/gateway-* && touch $@ $(GATEWAY)

$(DEV): | $(ENGINE)
	@requirements/install.sh $(VENV) "development tools" requirements/dev.txt
	@rm -f $(STAMPS)/dev-* && touch $@

# Whichever of the two locks is in: both hold setuptools, which builds the project.
$(PROJECT): | $(STAMPS)/venv
	@test -n "$$(ls $(STAMPS)/gateway-* 2>/dev/null)" || $(MAKE) $(GATEWAY)
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation --no-index --disable-pip-version-check -e .
	@rm -f $(STAMPS)/project-* && touch $@
