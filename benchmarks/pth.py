"""Refuse an environment that would run code at every start of its Python.

A `.pth` line that begins with `import` is executed by each interpreter of an environment, so a
poisoned package needs no import to act. This check reads; it starts nothing from there, and is
itself run by another Python. Usage: python benchmarks/pth.py DIRECTORY...
"""

import hashlib
import sys
from pathlib import Path

EXPECTED = Path(__file__).parent / "peers" / "expected-pth.txt"


def expected(text: str) -> set[tuple[str, str]]:
    """(SHA-256, file name) of every line; `#` begins a comment."""
    lines = (line.split("#")[0].split() for line in text.splitlines())
    return {(line[0], line[1]) for line in lines if line}


def unexpected(environment: Path, known: set[tuple[str, str]]) -> list[str]:
    """Start-up hooks under an environment that are not known, byte for byte."""
    found = []
    for pattern in ("*.pth", "sitecustomize.py", "usercustomize.py"):
        for path in sorted(environment.rglob(pattern)):
            if path.parent.name != "site-packages":
                continue  # only those are read by site.py
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if (digest, path.name) not in known:
                found.append(f"{path}: {digest}")
    return found


def main(arguments: list[str]) -> int:
    known = expected(EXPECTED.read_text())
    found = [line for name in arguments for line in unexpected(Path(name), known)]
    for line in found:
        print(f"unexpected start-up hook {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
