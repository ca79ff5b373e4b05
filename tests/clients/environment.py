"""Real clients, each in an environment of its own that `make clients` installs."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Gateway

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Client:
    """One client's environment."""

    folder: Path

    def env(self, gateway: Gateway, home: Path) -> dict[str, str]:
        """The environment of its programs: a home of its own, and no way out of this machine."""
        nowhere = "http://127.0.0.1:9"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            "NO_PROXY": "127.0.0.1",
            "CLIENT_DIR": str(self.folder),
            "INHOUSE_URL": gateway.url,
            "INHOUSE_KEY": gateway.key,
        }


def client_of(name: str) -> Client:
    """The client of this name; skips the test, with the reason, where it is not there."""
    if name == "litellm":
        folder, stamp = ROOT / ".venv-peer-litellm", ".installed"
    else:
        folder, stamp = ROOT / f".venv-client-{name}", "installed"
    if (folder / stamp).is_file():
        return Client(folder)
    log = folder / "install.log"
    lines = log.read_text().splitlines() if log.is_file() else []
    why = next((line for line in lines if "err" in line.lower()), "`make clients` installs it")
    pytest.skip(f"{name} is not installed: {why}")
