"""Where requests go: an OpenAI-compatible address, its key, and what a body to it looks like."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from benchmarks.load.http import Address, post
from benchmarks.load.workload import Api, Planned
from serve.core.errors import SettingsError, SetupError

PATHS: Final[Mapping[Api, str]] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
}
CapField = Literal["max_completion_tokens", "max_tokens"]


@dataclass(frozen=True, slots=True)
class Target:
    """One server. `prefix` is what comes before `/chat/completions`, such as `/v1`."""

    url: str
    address: Address
    host: str
    prefix: str
    model: str
    tls: ssl.SSLContext | None = None
    key: str | None = field(default=None, repr=False)
    cap_field: CapField = "max_completion_tokens"
    """How a chat's tokens are bounded; some servers know the older `max_tokens` alone."""

    def encoded(self, request: Planned, salt: str, fields: Mapping[str, Any]) -> bytes:
        """The bytes of this request."""
        headers = {"host": self.host}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        body = body_of(request, self.model, salt, self.cap_field) | dict(fields)
        return post(self.prefix + PATHS[request.api], body, headers)


def target(
    url: str, model: str, env: Mapping[str, str], key_env: str | None = None,
    cap_field: CapField = "max_completion_tokens",
) -> Target:  # fmt: skip
    """Raises SettingsError where the address is none, SetupError where the key is not there."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise SettingsError(f"--url {url!r}: give one such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise SettingsError("--url: a key does not belong into an address; name its variable")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    key = None
    if key_env is not None:
        key = env.get(key_env, "").strip()
        if not key:
            raise SetupError(f"{key_env} is not set: put the key into it, or leave --key-env out")
    return Target(
        url=url, address=(parts.hostname, port or (443 if tls else 80)), host=parts.netloc,
        prefix=parts.path.rstrip("/"), model=model, tls=tls, key=key, cap_field=cap_field,
    )  # fmt: skip


def body_of(request: Planned, model: str, salt: str, cap_field: CapField) -> dict[str, Any]:
    """A body that the hosted API takes too: nothing in it that only engines know."""
    if request.api == "embeddings":
        return {"model": model, "input": [f"{salt} {text}" for text in request.texts]}
    first, *others = request.messages
    messages = [
        {"role": first.role, "content": f"{salt} {first.content}"},
        *({"role": one.role, "content": one.content} for one in others),
    ]
    body: dict[str, Any] = {"model": model, "stream": True}
    if request.api == "responses":
        body |= {
            "input": messages, "store": False, "stream_options": {"include_obfuscation": False},
        }  # fmt: skip
        cap = "max_output_tokens"
    else:
        options = {"include_usage": True, "include_obfuscation": False}
        body |= {"messages": messages, "stream_options": options}
        cap = cap_field
    return body if request.max_tokens is None else body | {cap: request.max_tokens}
