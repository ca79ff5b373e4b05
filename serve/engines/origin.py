"""Where a server on another node is, what proves that it is the right one, and the key for it."""

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from serve.core.errors import SettingsError
from serve.engines.client import Origin
from serve.settings.remote import Remote

KEY_MAX_BYTES: Final = 4096
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origin_of(remote: Remote, tls: ssl.SSLContext | None, key: str | None) -> Origin:
    """Where and how it is reached."""
    parts = urlsplit(remote.url)
    assert parts.hostname is not None
    return Origin(
        host=parts.hostname,
        port=parts.port or DEFAULT_PORTS[parts.scheme],
        authority=parts.netloc,
        prefix=parts.path.rstrip("/"),
        tls=tls,
        headers=() if key is None else (("authorization", f"Bearer {key}"),),
    )


def tls_of(remote: Remote) -> ssl.SSLContext | None:
    """What proves that it is the right server; None for plain HTTP. Raises SettingsError."""
    if not remote.url.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=remote.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"engine.ca_file: {remote.ca_file} holds no certificates that can be read "
            f"({error.strerror or error}); give a PEM file"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def key_of(remote: Remote) -> str | None:
    """The key as its file has it now. Raises SettingsError where it has none."""
    if remote.key_file is None:
        return None
    file: Path = remote.key_file
    try:
        with file.open("rb") as opened:
            key = opened.read(KEY_MAX_BYTES + 1).strip().decode("ascii")
    except OSError as error:
        raise SettingsError(f"engine.key_file: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        key = ""
    if not key or len(key) > KEY_MAX_BYTES or not key.isprintable() or " " in key:
        raise SettingsError(f"engine.key_file: {file} must hold one key and nothing else")
    return key
