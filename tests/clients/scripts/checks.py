"""Runs the checks of a client's script, and tells of each in a line of JSON.

It imports nothing of this repository: each script runs in its client's own environment.
"""

import asyncio
import inspect
import json
import os
import traceback
from collections.abc import Mapping
from typing import Any

URL = os.environ["INHOUSE_URL"]
KEY = os.environ["INHOUSE_KEY"]
V1 = f"{URL}/v1"

CALL = 'fake:call=weather fake:arguments={"city":"Bern"}'
"""A prompt to which the fake engine answers with a call of that tool."""
SAID = "fake:call=none fake:say=It_is_sunny."
"""A tool's result that makes it answer with words."""
JSON = 'fake:say={"city":"Bern","degrees":21}'
"""A prompt to which it answers with this object."""


def run(names: Mapping[str, Any]) -> None:
    """Run every `check_` among these names; whoever reads the lines judges them."""
    with asyncio.Runner() as loop:
        for name, check in names.items():
            if not name.startswith("check_"):
                continue
            error = None
            try:
                if inspect.iscoroutinefunction(check):
                    loop.run(check())
                else:
                    check()
            except Exception:
                error = traceback.format_exc()
            print(json.dumps({"check": name, "error": error}), flush=True)
    print(json.dumps({"done": True}), flush=True)
