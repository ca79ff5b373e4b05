# The servers that benchmarks/gateway.py measures beside Inhouse, each in its own environment.
# `make bench-peers` installs them from full lock files; `make bench-peers-lock` writes those.

PEERS := router litellm
PEER_PYTHON ?= $(or $(PYTHON),python3)
PEER_STAMPS := $(PEERS:%=.venv-peer-%/.installed)

.PHONY: bench-peers bench-peers-lock bench-peers-check

bench-peers: $(PEER_STAMPS) bench-peers-check

# Wheels only: a source distribution runs its own code while it is built. The check runs before
# anything of the environment does.
.venv-peer-%/.installed: benchmarks/peers/%.txt benchmarks/peers/expected-pth.txt
	rm -rf .venv-peer-$*
	$(PEER_PYTHON) -m venv .venv-peer-$*
	.venv-peer-$*/bin/pip install --disable-pip-version-check --progress-bar off --quiet \
		--no-deps --require-hashes --only-binary :all: --requirement $<
	$(PEER_PYTHON) benchmarks/pth.py .venv-peer-$*
	touch $@

bench-peers-check:
	$(PEER_PYTHON) benchmarks/pth.py $(PEERS:%=.venv-peer-%)

bench-peers-lock:
	$(PEER_PYTHON) -m venv .venv-peer-lock
	.venv-peer-lock/bin/pip install --disable-pip-version-check --quiet uv
	for peer in $(PEERS); do \
		.venv-peer-lock/bin/uv pip compile --universal --python-version 3.11 --no-header \
			--no-annotate --generate-hashes --override benchmarks/peers/overrides.txt \
			--output-file benchmarks/peers/$$peer.txt benchmarks/peers/$$peer.in || exit 1; \
	done
	rm -rf .venv-peer-lock
