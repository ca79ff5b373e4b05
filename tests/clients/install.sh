#!/usr/bin/env bash
# install.sh CLIENT: install exactly what the client's lock holds into .venv-client-CLIENT. Where that
# fails, the reason is left there for the tests, which skip.
set -euo pipefail
cd "$(dirname "$0")/../.."
client=$1
locks=tests/clients/locks
target=.venv-client-$client
log=$target/install.log

if [ -d "$locks/$client" ]; then
    lock=$locks/$client/package-lock.json
else
    lock=$locks/$client.txt
fi
sum=$(cksum <"$lock")
if [ "$(cat "$target/installed" 2>/dev/null)" = "$sum" ]; then
    exit 0
fi

# No script of a package is run while it is installed: wheels only, and npm without scripts.
install_python() {
    "${PYTHON:-python3}" -m venv "$target" &&
        "$target/bin/pip" install --disable-pip-version-check --progress-bar off --retries 1 \
            --no-deps --require-hashes --only-binary :all: --requirement "$lock" &&
        "${PYTHON:-python3}" benchmarks/pth.py "$target"
}

install_node() {
    cp "$locks/$client/package.json" "$lock" "$target/" &&
        npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund --fetch-retries 1
}

echo "installing $client from $lock"
rm -rf "$target"
mkdir -p "$target"
if [ -d "$locks/$client" ]; then kind=node; else kind=python; fi
if "install_$kind" >"$target.log" 2>&1; then
    mv "$target.log" "$log"
    echo "$sum" >"$target/installed"
else
    mkdir -p "$target"
    mv "$target.log" "$log"
    echo "  could not be installed: $(grep -iE 'err' "$log" | head -n 1)" >&2
    exit 3
fi
