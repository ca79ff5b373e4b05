"""How a tool server at an address is reached: headers, certificates, connections."""

import logging
import ssl
from collections.abc import Mapping
from typing import Final

import httpx2

from serve.core.errors import SettingsError
from serve.settings.toolservers import ToolServer

CONNECT_MAX_S: Final = 10.0

# It logs every request, with its query; what is to be known of calls is in the audit log.
logging.getLogger("httpx2").setLevel(logging.WARNING)


def client_of(settings: ToolServer, environ: Mapping[str, str]) -> httpx2.AsyncClient:
    """A client that keeps its connections. No proxy, no redirect: the site names addresses.

    How long a call may take is its caller's to say. Raises SettingsError.
    """
    return httpx2.AsyncClient(
        headers=_headers(settings, environ),
        verify=_tls(settings),
        timeout=httpx2.Timeout(None, connect=min(CONNECT_MAX_S, settings.timeout_s)),
        trust_env=False,
        follow_redirects=False,
    )


def variables_of(
    settings: ToolServer, field: str, names: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """The values of environment variables: for each key, that of the variable it names.

    Raises SettingsError for one that is not set.
    """
    for name in names.values():
        if not environ.get(name):
            raise SettingsError(
                f"tool_servers: {field} of {settings.name}: the environment variable {name} is "
                "not set; set it for the process that serves, or remove it there"
            )
    return {key: environ[name] for key, name in names.items()}


def _headers(settings: ToolServer, environ: Mapping[str, str]) -> dict[str, str]:
    found = variables_of(settings, "secret_headers", settings.secret_headers, environ)
    for header, value in found.items():
        if not (value.isascii() and value.isprintable()):
            raise SettingsError(
                f"tool_servers: secret_headers of {settings.name}: the value of "
                f"{settings.secret_headers[header]} is no value of a header"
            )
    return {"user-agent": "inhouse", **found}


def _tls(settings: ToolServer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"tool_servers: ca_file of {settings.name}: {settings.ca_file} holds no certificates "
            f"that can be read ({error.strerror or error}); give a PEM file"
        ) from None
