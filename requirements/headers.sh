#!/usr/bin/env bash
# headers.sh PYTHON: what compiling a model needs; says what is missing before anything is installed.
set -euo pipefail
python=$1
missing=()
command -v g++ >/dev/null || command -v clang++ >/dev/null || missing+=("a C++ compiler (Debian: apt install g++)")
"$python" - <<'EOF' || missing+=("Python's headers (Debian: apt install python3-dev)")
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").is_file())
EOF
if [ ${#missing[@]} -gt 0 ]; then
    printf 'missing: %s\n' "${missing[@]}" >&2
    exit 3
fi
