"""What `encrypted_content` of an item holds: a text that the client keeps for this server.

Clients that store nothing here carry the model's reasoning, and a compacted conversation, from
turn to turn themselves. It is their own conversation, so the text is encoded and not encrypted:
it needs no key, outlives every restart, and says nothing that they could not have sent as text.
"""

from base64 import b64decode, urlsafe_b64encode
from typing import Final

MARK: Final = "inhouse-1."


def seal(text: str) -> str:
    """The text as an opaque string."""
    return MARK + urlsafe_b64encode(text.encode()).decode()


def unseal(value: str) -> str | None:
    """The text again, or None for a string that this server did not make."""
    if not value.startswith(MARK):
        return None
    try:
        return b64decode(value[len(MARK) :], altchars=b"-_", validate=True).decode()
    except ValueError:
        return None
