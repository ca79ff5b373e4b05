"""The words that settings are written in: names, digests, and the base of every section."""

import ipaddress
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

IN_WORDS: Final = "x-in-words"
"""Key of our own in the schemas: what a pattern means to a person. Not published."""


def _text(pattern: str, in_words: str) -> Any:
    """Metadata of text that must match a pattern, which errors and docs give in words."""
    return Field(pattern=pattern, json_schema_extra={IN_WORDS: in_words})


ModelName = Annotated[
    str,
    _text(
        r"^[a-z0-9][a-z0-9._-]{0,63}$",
        "a name of up to 64 lower-case letters, digits and `.`, `_`, `-`",
    ),
]
TargetName = Annotated[
    str,
    _text(
        r"^[a-z0-9][a-z0-9._-]{0,63}(:[a-z0-9][a-z0-9._-]{0,63})?$",
        "a model's name, or `name:adapter`",
    ),
]
Digest = Annotated[
    str, _text(r"^sha256:[0-9a-f]{64}$", "`sha256:` and 64 hexadecimal digits in lower case")
]
EngineName = Annotated[
    str, _text(r"^[a-z0-9][a-z0-9_.-]{0,63}$", "a name that this version of vLLM knows")
]
DeviceIndex = Annotated[int, Field(ge=0, le=63)]


class Frozen(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def is_loopback(host: str) -> bool:
    """Whether only this machine can be reached by it, or reach it; no name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
