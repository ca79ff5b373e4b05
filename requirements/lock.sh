#!/usr/bin/env bash
# Resolve every lock with hashes. The CPU set decides; the others follow its versions.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-header "$@"
}
# Not needed for text, and broken beside a CPU build of torch; torch itself is torch-cpu.txt.
left_out=(--no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio
    --no-emit-package torchcodec --no-emit-package triton)
# Where this machine's pip finds torch's CPU build (never part of a lock).
find_links=(${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"})
index=(${PIP_EXTRA_INDEX_URL:+--extra-index-url "$PIP_EXTRA_INDEX_URL"})
echo "cpu.txt"
compile "${find_links[@]}" "${index[@]}" "${left_out[@]}" gateway.in engine-cpu.in -o cpu.txt
echo "gateway.txt"
compile -c cpu.txt gateway.in -o gateway.txt
echo "dev.txt"
compile -c cpu.txt gateway.in dev.in -o dev.txt
echo "cuda.txt"
compile -c gateway.txt gateway.in engine-cuda.in -o cuda.txt
