"""Takes the addresses out of an npm lock: packages come from wherever npm is set up to look.

Usage: python addresses.py package-lock.json. What is left has versions and hashes.
"""

import json
import sys
from pathlib import Path

lock = Path(sys.argv[1])
held = json.loads(lock.read_text())
for package in held["packages"].values():
    package.pop("resolved", None)
    package.pop("funding", None)
lock.write_text(json.dumps(held, indent=2) + "\n")
