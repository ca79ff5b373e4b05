"""Names of the API's objects: a prefix that says what it is, and 192 random bits."""

from secrets import token_hex


def new_id(prefix: str) -> str:
    """For example `msg_…`. Nobody can guess one, and two are never the same."""
    return f"{prefix}_{token_hex(24)}"
