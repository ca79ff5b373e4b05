# The real clients that tests/clients holds the server against, each in its own environment
# (.venv-client-*), from full lock files: `make clients-lock` writes those. What cannot be installed
# is left out, and its tests are skipped with the reason.

CLIENTS_PYTHON := langchain pydantic-ai instructor
# vitest runs the tests of openai-node.
CLIENTS_NODE := aisdk codex claude vitest
CLIENTS_LOCKS := tests/clients/locks

.PHONY: clients-install clients-lock

# LiteLLM is the one that benchmarks/peers.mk measures.
clients-install:
	@for one in $(CLIENTS_PYTHON) $(CLIENTS_NODE); do \
	  PYTHON=$(PYTHON) tests/clients/install.sh $$one || true; done
	@$(MAKE) .venv-peer-litellm/.installed || true

clients-lock:
	@test -x $(LOCKS_VENV)/bin/uv || { echo "run make locks first: it installs uv" >&2; exit 3; }
	for one in $(CLIENTS_PYTHON); do \
	  $(LOCKS_VENV)/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --upgrade \
	    --output-file $(CLIENTS_LOCKS)/$$one.txt $(CLIENTS_LOCKS)/$$one.in || exit 1; done
	for one in $(CLIENTS_NODE); do \
	  (cd $(CLIENTS_LOCKS)/$$one && rm -f package-lock.json && npm install --package-lock-only \
	    --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund && \
	    "$(PYTHON)" ../addresses.py package-lock.json) || exit 1; done
