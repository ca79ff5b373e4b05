#!/usr/bin/env bash
# install.sh VENV WHAT LOCK: install exactly what a lock holds, with a line before and after.
set -euo pipefail
venv=$1 what=$2 lock=$3
count=$(grep -c '==' "$lock")
echo "installing $what: $count packages from $lock"
started=$SECONDS
log=$venv/install.log
"$venv/bin/python" -m pip install --no-deps --require-hashes --disable-pip-version-check \
    --no-compile --progress-bar off -r "$lock" >"$log" 2>&1 &
pip=$!
# pip names each package as it fetches it: show how far it is.
while kill -0 "$pip" 2>/dev/null; do
    done_count=$(grep -cE '^(Collecting|Requirement already satisfied)' "$log" || true)
    [ -t 1 ] && printf '\r  %s of %s fetched, %s s ' "$done_count" "$count" $((SECONDS - started))
    sleep 0.5
done
[ -t 1 ] && printf '\r'
if ! wait "$pip"; then
    grep -E '^ *(ERROR|error)' "$log" >&2 || tail -n 5 "$log" >&2
    if grep -qE 'No matching distribution found for torch' "$log"; then
        echo "torch's CPU build is on PyTorch's own CPU wheel index: set PIP_EXTRA_INDEX_URL to it (pytorch.org, Get Started, shows it) and run again" >&2
    fi
    echo "the whole log of pip: $log" >&2
    exit 3
fi
echo "  done in $((SECONDS - started)) s"
