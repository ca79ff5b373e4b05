"""An engine that runs elsewhere and that this site only asks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from serve.settings import urls
from serve.settings.terms import IN_WORDS, Frozen, is_loopback

RemoteUrl = Annotated[
    str,
    Field(
        pattern=r"^https?://[A-Za-z0-9.:_\[\]-]{1,253}(/[A-Za-z0-9._~/-]{0,255})?$",
        json_schema_extra={IN_WORDS: "an address such as `https://node-2:8000`"},
    ),
]


class Remote(Frozen):
    """Any server that speaks the same API, on another node."""

    kind: Literal["remote"] = Field(default="remote", description="What this is.")
    url: RemoteUrl = Field(
        description="Its address, without `/v1`: `https://node-2:8000`. Plain `http` sends "
        "prompts in the clear; keep it to networks that are the site's own. A key is sent over it "
        "on this machine only."
    )
    more_urls: tuple[RemoteUrl, ...] = Field(
        default=(),
        max_length=63,
        description="Further servers that serve the same model under the same name and key; a "
        "conversation returns to the one that has it cached.",
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="What that server calls the model; without it, what this site calls it.",
    )
    key_file: Path | None = Field(
        default=None, description="File with the key to send there. Relative to `root`."
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) to trust for it in place of the system's. Relative to "
        "`root`.",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses."""
        return (self.url, *self.more_urls)

    def each(self) -> "tuple[Remote, ...]":
        """One for each address."""
        return tuple(self.model_copy(update={"url": url, "more_urls": ()}) for url in self.urls)


def problem_of(url: str, remote: Remote) -> str | None:
    """What is wrong with one of its addresses, None where nothing is."""
    parts = urls.split(url)
    if parts is None:
        return "has no host, or a port that is none; write it as https://node-2:8000"
    if parts.path.rstrip("/").endswith("/v1"):
        return "ends in /v1, which is added to it; leave that out"
    if parts.scheme == "https":
        return None
    if remote.ca_file is not None:
        return "is plain http, so ca_file means nothing; use https, or remove ca_file"
    if remote.key_file is not None and not is_loopback(parts.hostname or ""):
        return "is plain http and would show the key to the network; use https"
    return None
