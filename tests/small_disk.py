"""A file system of a few MiB that really fills up, in a mount namespace of its own.

A module that is run there as `python -m MODULE FOLDER` calls `on_small_disk` and prints one line of
JSON; `found_by` runs it, and skips the test where no file system can be mounted.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
APART = ("unshare", "--user", "--map-root-user", "--mount")


def found_by(module: str, folder: Path) -> dict[str, Any]:
    """What the module has printed at its end."""
    mount = ("mount", "-t", "tmpfs", "none", str(folder))
    try:
        able = subprocess.run([*APART, *mount], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*APART, sys.executable, "-m", module, str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def on_small_disk(main: Callable[[Path], Awaitable[None]]) -> None:
    """Run this in the folder that the command line names, on a disk of 4 MiB."""
    folder = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=True)
    asyncio.run(_awaited(main, folder))


async def _awaited(main: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    await main(folder)


def filled(folder: Path) -> Path:
    """Take all the space that is left; the file that has it."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(65536))
                file.flush()
        except OSError:
            return filler
