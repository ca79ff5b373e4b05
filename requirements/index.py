"""Where this machine's pip looks for packages, said to uv: prints NAME=value lines for `env`.

uv installs the same locked files several times faster, but reads none of pip's settings; sites
that have their own index say so to pip. A UV_ variable that is set already is left alone.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
SECTIONS = ("global", "download", "install", ":env:")
"""Of pip's settings, later ones win; PIP_… variables are pip's section `:env:`."""


def pip_settings(listing: str) -> dict[str, str]:
    """The settings that count for an installation, from what `pip config list` prints."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if separator and name in FROM_PIP and section in SECTIONS:
            rank = SECTIONS.index(section)
            if rank >= found.get(name, (0, ""))[0]:
                found[name] = (rank, str(ast.literal_eval(value)))
    return {name: value for name, (_, value) in found.items()}


def is_there(place: str) -> bool:
    """False for a local folder that does not exist: pip passes over it, uv would give up."""
    address = urlsplit(place)
    local = unquote(address.path) if address.scheme == "file" else place
    return not local.startswith("/") or Path(local).exists()


def uv_environment(settings: dict[str, str], environ: dict[str, str]) -> dict[str, str]:
    """uv's variables for these settings of pip. Any index may serve any package, as with pip:
    the hashes decide what is accepted, not where it came from."""
    chosen = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}
    for name, value in settings.items():
        # uv wants commas between places to look for files, and spaces between indexes.
        places = [place for place in value.split() if is_there(place)]
        chosen[FROM_PIP[name]] = ("," if name == "find-links" else " ").join(places)
    return {name: value for name, value in chosen.items() if value and name not in environ}


def main() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    for name, value in uv_environment(pip_settings(listing), dict(os.environ)).items():
        sys.stdout.write(f"{name}={value}\n")


if __name__ == "__main__":
    main()
