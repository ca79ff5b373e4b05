#!/usr/bin/env bash
# install.sh VENV WHAT LOCK: install exactly what a lock holds, with a line before and after.
set -euo pipefail
venv=$1 what=$2 lock=$3
here=$(dirname "$0")
log=$venv/install.log
installer=$venv/installer
started=$SECONDS

fail() {
    printf '%s\nthe whole log: %s\n' "$1" "$log" >&2
    exit 3
}

# The first thing installed is the installer, by pip itself, in a folder of its own: it is no part
# of what is installed.
if ! cmp -s "$here/installer.txt" "$installer/installed.txt"; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
        --only-binary :all: --require-hashes --target "$installer" -r "$here/installer.txt" \
        >"$log" 2>&1 ||
        fail "the installer (uv) could not be fetched: $(grep -m 1 ERROR "$log" || tail -n 1 "$log")"
    cp "$here/installer.txt" "$installer/installed.txt"
fi

echo "installing $what from $lock"
mapfile -t index < <("$venv/bin/python" "$here/index.py")
env "${index[@]}" "$installer/bin/uv" pip install --python "$venv/bin/python" --no-config \
    --no-progress --no-deps --only-binary :all: --require-hashes -r "$lock" >"$log" 2>&1 &
uv=$!
# A command in the background does not see Ctrl-C.
trap 'kill "$uv" 2>/dev/null; wait "$uv" || true; echo; exit 130' INT TERM
while kill -0 "$uv" 2>/dev/null; do
    if [ -t 1 ] && written=$(awk '/^wchar/ {print int($2 / 1e6)}' "/proc/$uv/io" 2>/dev/null); then
        printf '\r  %s MB unpacked, %s s ' "$written" $((SECONDS - started))
    fi
    sleep 0.2
done
[ -t 1 ] && printf '\r\033[K'
if ! wait "$uv"; then
    if grep -q 'no version of torch==' "$log"; then
        fail "torch's CPU build was not found: it is on PyTorch's own CPU wheel index. Set \
PIP_EXTRA_INDEX_URL to that index (pytorch.org, Get Started, shows it) and run again"
    fi
    fail "$what could not be installed: $(grep -E '^ *(error|cause):' "$log" | head -n 4 | tr -s ' \n' ' ')"
fi
count=$(sed -n 's/^Installed \([0-9]*\) packages\?.*/\1/p' "$log")
echo "  ${count:-0} packages in $((SECONDS - started)) s"
